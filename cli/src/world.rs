//! What is said of the kernels beside their BTF, and of what loaders set.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use btfleet_engine::ingest::Intake;
use btfleet_engine::kconfig::Kconfig;
use btfleet_engine::report::{Known, World};
use clap::Args;

use crate::load::Inputs;
use crate::loader::release_in_name;
use crate::output::Failure;

#[derive(Clone, Debug, Args)]
pub(crate) struct WorldArgs {
    /// The configuration of all these kernels, as /proc/config.gz has it when unpacked. Without it, a file beside each
    /// kernel named like it with '.config', or 'config' beside a 'vmlinux'.
    #[arg(help_heading = "What loaders do", long, value_name = "FILE")]
    kconfig: Option<PathBuf>,
    /// The value that the loader sets for a variable in .rodata, or that it is unknown. Without it, the value in the
    /// object.
    #[arg(help_heading = "What loaders do", long, value_name = "NAME=VALUE|unknown")]
    rodata: Vec<Constant>,
}

impl WorldArgs {
    /// Options and values, as they may be typed.
    pub(crate) fn typed(&self) -> impl Iterator<Item = (&'static str, String)> {
        let kconfig = self.kconfig.iter().map(|it| ("--kconfig", it.to_string_lossy().into_owned()));
        let rodata = self.rodata.iter().map(|Constant { name, value }| {
            let value = value.map_or("unknown".to_owned(), |it| it.to_string());
            ("--rodata", format!("{name}={value}"))
        });
        kconfig.chain(rodata)
    }
}

/// A variable in `.rodata` and its value; `None` if that is not known.
#[derive(Clone, Debug)]
pub(crate) struct Constant {
    pub(crate) name: String,
    pub(crate) value: Option<u64>,
}

impl FromStr for Constant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE or NAME=unknown")?;
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok().or_else(|| text.parse::<i64>().ok().map(i64::cast_unsigned)),
        };
        let value = match value {
            "unknown" => None,
            "true" => Some(1),
            "false" => Some(0),
            text => Some(number(text).ok_or("VALUE is a number of up to 64 bits, true, false or unknown")?),
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

/// What is known of the kernels.
pub(crate) fn world(args: &WorldArgs, inputs: &Inputs<'_>) -> Result<World, Failure> {
    let given = match &args.kconfig {
        Some(path) => {
            let text = Intake::default().read(path).map_err(|error| Failure::Usage(error.to_string()))?;
            let kconfig = Kconfig::parse(&text);
            if kconfig.is_empty() {
                return Err(Failure::Usage(format!("{}: it sets no CONFIG_ value", path.display())));
            }
            Some(Arc::new(kconfig))
        }
        None => None,
    };
    let mut constants = Vec::new();
    for Constant { name, value } in &args.rodata {
        let has_it = |it: &btfleet_engine::object::Object<'_>| {
            it.variables().iter().any(|variable| variable.name == name.as_bytes())
        };
        if !inputs.distinct.iter().any(has_it) {
            return Err(Failure::Usage(format!("no object has a variable {name}")));
        }
        constants.push((name.clone().into_bytes(), *value));
    }
    let kernels = inputs.kernels.iter().zip(&inputs.kernel_names).map(|(kernel, name)| {
        let kconfig = given.clone().or_else(|| kernel.kconfig.clone());
        Known::new(kernel, release_in_name(name), kconfig)
    });
    Ok(World { kernels: kernels.collect(), constants, ..World::default() })
}
