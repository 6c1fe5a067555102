//! How inputs are taken in, for all of a run.

use std::sync::OnceLock;

use btfleet_engine::ingest::{Intake, Limits};
use clap::Args;

use crate::pahole::Pahole;

/// What inputs may take. Real ones stay far below.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Limits on inputs")]
pub(crate) struct LimitArgs {
    /// Largest file, expanded, with K, M, G or T behind the number.
    #[arg(long, global = true, value_name = "SIZE", value_parser = size, default_value = "2G", hide_short_help = true)]
    max_expanded: u64,
    /// Most that an archive expands to, with all archives in it.
    #[arg(long, global = true, value_name = "SIZE", value_parser = size, default_value = "64G", hide_short_help = true)]
    max_archive: u64,
    /// Most files of an archive or below a directory.
    #[arg(long, global = true, value_name = "N", default_value_t = Limits::DEFAULT.members, hide_short_help = true)]
    max_members: u64,
    /// Most archives within each other.
    #[arg(long, global = true, value_name = "N", default_value_t = Limits::DEFAULT.nesting, hide_short_help = true)]
    max_nesting: u32,
}

static INTAKE: OnceLock<Intake> = OnceLock::new();

/// Says how inputs are taken in, once, before the first of them is.
pub(crate) fn set(limits: &LimitArgs) {
    let limits = Limits {
        expanded: limits.max_expanded,
        archive: limits.max_archive,
        members: limits.max_members,
        nesting: limits.max_nesting,
    };
    INTAKE.get_or_init(|| Intake { limits, encode: Some(&Pahole) });
}

/// How inputs are taken in.
pub(crate) fn get() -> &'static Intake {
    INTAKE.get_or_init(Intake::default)
}

/// A number of bytes with a unit.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (text.get(..text.len() - 1), 10),
        Some(b'M') => (text.get(..text.len() - 1), 20),
        Some(b'G') => (text.get(..text.len() - 1), 30),
        Some(b'T') => (text.get(..text.len() - 1), 40),
        _ => (Some(text), 0),
    };
    let number: Option<u64> = digits.and_then(|it| it.parse().ok());
    let bytes = number.and_then(|it| it.checked_mul(1 << shift)).filter(|it| *it > 0);
    bytes.ok_or_else(|| "a number of bytes, with K, M, G or T behind it for larger units".to_owned())
}
