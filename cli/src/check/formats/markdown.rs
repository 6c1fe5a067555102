//! Markdown for the summary of a job.

use std::fmt::Write;

use btfleet_engine::object::Object;
use btfleet_engine::report::Verdict;

use super::{Context, Ended, Piece, Report};
use crate::check::inventory::Group;
use crate::check::spread::Spread;
use crate::check::summary::Cell;
use crate::text::is_unsafe;

/// Causes and rows that are listed.
const CAUSES_SHOWN: usize = 50;
const ROWS_SHOWN: usize = 100;
/// Kernels of hosts that are listed for a verdict.
const HOSTS_SHOWN: usize = 10;

pub(super) struct Markdown<'a>(pub(super) &'a Context<'a>);

impl Report for Markdown<'_> {
    fn end(&self, ended: &Ended<'_>) -> Piece {
        let Context { inputs, args, .. } = self.0;
        let spread = Spread::new(inputs.kernels.iter().zip(inputs.kernel_names.iter().copied()));
        let mut out = String::new();
        // There is enough memory for it, or the process ends.
        let _ = self.write(&mut out, ended, &spread, inputs, args);
        out.into_bytes().into()
    }
}

impl Markdown<'_> {
    fn write(
        &self,
        out: &mut String,
        ended: &Ended<'_>,
        spread: &Spread,
        inputs: &crate::load::Inputs<'_>,
        args: &crate::args::CheckArgs,
    ) -> std::fmt::Result {
        let summary = ended.summary;
        let fails: usize =
            summary.counts.iter().filter(|it| *it.0 >= Verdict::FailAttach).map(|it| *it.1).sum();
        let mark = if fails > 0 { "❌" } else { "✅" };
        writeln!(out, "## {mark} BPF programs on {} kernels\n", inputs.kernels.len())?;
        let objects = inputs.objects.len();
        let counts =
            summary.counts.iter().rev().map(|(verdict, count)| format!("{} **{count}**", verdict.name()));
        let mut counts: Vec<String> = counts.collect();
        counts.extend(
            summary.pairs_not_judged.iter().map(|(why, pairs)| format!("not judged {pairs} ({why})")),
        );
        writeln!(out, "{objects} objects, programs × kernels: {}\n", counts.join(", "))?;
        if let Some(weighed) = ended.weighed {
            writeln!(out, "**{}**\n", weighed.sentence())?;
            for Group { verdict, hosts, kernels } in weighed.groups(inputs) {
                let word = verdict.map_or("not known", Verdict::name);
                let of = kernels.iter().take(HOSTS_SHOWN).map(|it| format!("{} ({})", text(&it.0), it.1));
                let of: Vec<String> = of.collect();
                let more = if kernels.len() > HOSTS_SHOWN { ", …" } else { "" };
                writeln!(out, "* {word}: {hosts} hosts: {}{more}", of.join(", "))?;
            }
            writeln!(out)?;
        }
        if !ended.complete {
            writeln!(out, "⚠️ Not everything could be read and judged: see the job's log.\n")?;
        }
        let causes = summary.causes(args);
        if !causes.is_empty() {
            writeln!(out, "| | cause | about | programs | kernels | why |\n|---|---|---|---:|---|---|")?;
        }
        for (cause, places) in causes.iter().take(CAUSES_SHOWN) {
            let on = spread.of_cause(places, inputs, ended.weighed);
            let programs = places.program_count();
            let mark = match cause.verdict.0 {
                Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => "❌ fails",
                Verdict::OkDrift => "⚠️ drift",
                Verdict::Unknown => "❓ unknown",
                _ => "⚠️ conditional",
            };
            let why = places.message.as_ref().map_or("", |it| it.1.as_str());
            writeln!(
                out,
                "| {mark} | {} | {} | {programs} | {} | {} |",
                cause.code,
                code(&cause.path),
                text(&on),
                text(why)
            )?;
        }
        if causes.len() > CAUSES_SHOWN {
            writeln!(out, "\n… and {} more causes", causes.len() - CAUSES_SHOWN)?;
        }
        let columns = spread.columns();
        let rows: Vec<_> = summary.programs.iter().collect();
        if !rows.is_empty() {
            let heads: Vec<&str> = columns.iter().map(|it| it.label.as_str()).collect();
            writeln!(out, "\n<details><summary>Programs by kernel series</summary>\n")?;
            writeln!(out, "| program | {} |\n|---|{}", heads.join(" | "), "---|".repeat(columns.len()))?;
        }
        for ((object, program), cells) in rows.iter().take(ROWS_SHOWN) {
            let programs = inputs.object(*object).map(Object::programs).unwrap_or_default();
            let name = programs.get(*program).map(|it| String::from_utf8_lossy(it.name)).unwrap_or_default();
            let object = inputs.name_of(*object).rsplit('/').next().unwrap_or_default();
            let cells = columns.iter().map(|column| {
                let worst = column.kernels.iter().filter_map(|it| cells.get(*it)).max_by_key(|it| it.rank());
                match worst {
                    Some(Cell::Verdict(verdict)) => verdict.name(),
                    _ => "-",
                }
            });
            let cells: Vec<&str> = cells.collect();
            writeln!(out, "| {} {} | {} |", text(object), code(&name), cells.join(" | "))?;
        }
        if rows.len() > ROWS_SHOWN {
            writeln!(out, "\n… and {} more programs", rows.len() - ROWS_SHOWN)?;
        }
        if rows.is_empty() { Ok(()) } else { writeln!(out, "\n</details>") }
    }
}

/// Text in a cell of a table: nothing in it is markup.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        match it {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '#' | '!' | '~' | '\\' => {
                out.push('\\');
                out.push(it);
            }
            it if is_unsafe(it) => out.push('\u{fffd}'),
            it => out.push(it),
        }
    }
    out
}

/// Text as code in a cell of a table.
fn code(name: &str) -> String {
    match name.contains(['`', '|', '<', '&']) || name.contains(is_unsafe) {
        true => text(name),
        false => format!("`{name}`"),
    }
}
