//! One kernel's files: vmlinux, and modules that continue it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use self_cell::self_cell;

use super::container::is_elf_without_btf;
use super::package::Package;
use super::{BtfBytes, InputError, Intake, facts_of};
use crate::btf::{Btf, BtfError, relocate_distilled};
use crate::kallsyms::Kallsyms;
use crate::kconfig::Kconfig;
use crate::kernel::{Indexed, Kernel, Module};
use crate::pack::{BtfOrigin, Facts};

/// Where a kernel's BTF is to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSource {
    /// The kernel's name in reports.
    pub name: String,
    /// The file with the BTF of vmlinux.
    pub vmlinux: PathBuf,
    /// Files with BTF of modules, in the order in which they count.
    pub modules: Vec<PathBuf>,
    /// Whether modules are all that are installed: those that have no BTF are none of the kernel's BTF, and no defect.
    pub installed: bool,
}

impl KernelSource {
    /// A kernel without modules.
    pub fn alone(name: String, vmlinux: PathBuf) -> Self {
        Self { name, vmlinux, modules: Vec::new(), installed: false }
    }
}

/// A kernel's files, read and decompressed.
#[derive(Debug)]
pub struct KernelFiles {
    /// The kernel's name in reports.
    pub name: String,
    path: PathBuf,
    vmlinux: BtfBytes,
    modules: Vec<ModuleFile>,
    kallsyms: Option<Arc<Kallsyms>>,
    kconfig: Option<Arc<Kconfig>>,
    /// The package that it is from.
    package: Package,
    /// Modules and lists of symbols that cannot be used, each with the reason.
    pub defects: Vec<InputError>,
}

/// A kernel's BTF, parsed but not indexed.
#[derive(Debug)]
pub struct KernelBtf<'a> {
    /// The BTF of vmlinux.
    pub vmlinux: Arc<Btf<'a>>,
    /// Its bytes.
    pub vmlinux_bytes: &'a [u8],
    /// Modules, in order.
    pub modules: Vec<ModuleBtf<'a>>,
}

/// A module's BTF.
#[derive(Debug)]
pub struct ModuleBtf<'a> {
    /// The module's name.
    pub name: &'a str,
    /// Its BTF, split on that of vmlinux.
    pub btf: Btf<'a>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

self_cell!(
    /// A kernel's files, and its BTF parsed, with the modules left out whose BTF does not parse.
    pub struct ParsedFiles {
        owner: KernelFiles,
        #[covariant]
        dependent: KernelAndDefects,
    }

    impl { Debug }
);

type KernelAndDefects<'a> = (KernelBtf<'a>, Vec<InputError>);

impl ParsedFiles {
    /// Parses a kernel's files.
    ///
    /// # Errors
    /// As for [`KernelFiles::parse_btf`].
    pub fn parse(files: KernelFiles) -> Result<Self, InputError> {
        Self::try_new(files, KernelFiles::parse_btf)
    }
}

/// One module's file.
#[derive(Debug)]
pub struct ModuleFile {
    name: String,
    path: PathBuf,
    bytes: BtfBytes,
}

impl KernelFiles {
    /// Reads all files of a kernel. A module that cannot be used is left out and noted in `defects`.
    ///
    /// # Errors
    /// [`InputError`] if vmlinux cannot be read or has no BTF.
    pub fn read(intake: &Intake, source: &KernelSource) -> Result<Self, InputError> {
        let mut this = Self::of_bytes(intake, &source.name, &source.vmlinux, intake.read(&source.vmlinux)?)?;
        this.read_lists(intake);
        // All in parallel: a distribution has some thousands, each compressed.
        let read = |path: &PathBuf| -> Option<Result<BtfBytes, InputError>> {
            match intake.read(path) {
                Ok(data) if source.installed && is_elf_without_btf(&data) => None,
                read => Some(read.and_then(|data| BtfBytes::find(intake, data, path))),
            }
        };
        let modules: Vec<_> = source.modules.par_iter().map(read).collect();
        for (path, module) in source.modules.iter().zip(modules) {
            match module {
                Some(Ok(bytes)) => this.add_module_btf(path, bytes),
                Some(Err(error)) => this.defects.push(error.of_module()),
                None => {}
            }
        }
        Ok(this)
    }

    /// A kernel whose vmlinux is in memory, decompressed, and nothing beside it. `path` is what messages call it.
    ///
    /// # Errors
    /// [`InputError`] if there is no BTF in it.
    pub fn of_bytes(intake: &Intake, name: &str, path: &Path, data: Vec<u8>) -> Result<Self, InputError> {
        let mut vmlinux = BtfBytes::find(intake, data, path)?;
        let kconfig = vmlinux.said.config.take().map(|text| Arc::new(Kconfig::parse(&text)));
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            vmlinux,
            modules: Vec::new(),
            kallsyms: None,
            kconfig,
            package: Package::default(),
            defects: Vec::new(),
        })
    }

    /// Adds a module in memory, decompressed. `path` names it. One that cannot be used is noted in `defects`.
    pub fn add_module(&mut self, path: &Path, data: Vec<u8>) {
        match BtfBytes::find(&Intake::default(), data, path) {
            Ok(bytes) => self.add_module_btf(path, bytes),
            Err(error) => self.defects.push(error.of_module()),
        }
    }

    pub(super) fn add_module_btf(&mut self, path: &Path, bytes: BtfBytes) {
        match self.module(path, bytes) {
            Ok(module) => self.modules.push(module),
            Err(error) => self.defects.push(error.of_module()),
        }
    }

    /// Sets its lists of symbols.
    pub fn set_kallsyms(&mut self, kallsyms: Arc<Kallsyms>) {
        self.kallsyms = Some(kallsyms);
    }

    /// Sets its configuration.
    pub fn set_kconfig(&mut self, kconfig: Arc<Kconfig>) {
        self.kconfig = Some(kconfig);
    }

    /// Sets what the package says that it is from.
    pub(super) fn set_package(&mut self, package: Package) {
        self.package = package;
    }

    /// Reads what lies beside the BTF: `kallsyms` or `System.map`, `available_filter_functions` and `config`, each
    /// in the directory of a file `vmlinux`, or beside any file under its name and a dot in front of theirs.
    fn read_lists(&mut self, intake: &Intake) {
        let file_name = self.path.file_name().unwrap_or_default().to_owned();
        let beside = |list: &str| {
            let mut name = file_name.clone();
            name.push(format!(".{list}"));
            let own = self.path.with_file_name(name);
            let shared = (file_name == "vmlinux").then(|| self.path.with_file_name(list));
            [Some(own), shared].into_iter().flatten().find(|it| it.is_file())
        };
        let (symbols, traceable) =
            (beside("kallsyms").or_else(|| beside("System.map")), beside("available_filter_functions"));
        let mut read = |path: Option<PathBuf>| match intake.read(&path?) {
            Ok(text) => Some(text),
            Err(error) => {
                self.defects.push(error);
                None
            }
        };
        let (symbols, traceable, config) = (read(symbols), read(traceable), read(beside("config")));
        if let Some(text) = config {
            self.kconfig = Some(Arc::new(Kconfig::parse(&text)));
        }
        if symbols.is_some() || traceable.is_some() {
            self.kallsyms = Some(Arc::new(Kallsyms::new(symbols.as_deref(), traceable.as_deref())));
        }
    }

    /// What is known of the kernel: what its path says, and where that says nothing, what the file itself does, and then
    /// the package that it is from.
    pub fn facts(&self) -> Facts {
        let mut facts = facts_of(&self.path);
        facts.origin = self.said_origin();
        if let Some(encoder) = &self.vmlinux.encoder {
            facts.source = format!("{} (BTF made by {encoder})", facts.source);
        }
        let said = &self.vmlinux.said;
        let release = said.release.as_deref().unwrap_or_default();
        let of_release = facts_of(Path::new(release));
        let machine = said.machine.map(|it| it.name.to_owned()).unwrap_or_default();
        let architecture = Some(of_release.architecture).filter(|it| !it.is_empty()).unwrap_or(machine);
        for (fact, said) in [
            (&mut facts.release, release.to_owned()),
            (&mut facts.distribution, of_release.distribution),
            (&mut facts.architecture, architecture),
            (&mut facts.flavour, of_release.flavour),
        ] {
            if fact.is_empty() {
                *fact = said;
            }
        }
        let Package { distribution, architecture } = &self.package;
        // Without a number it was told by the form of the release, in which others follow Debian.
        if !distribution.is_empty() && !facts.distribution.contains(' ') {
            facts.distribution.clone_from(distribution);
        }
        if facts.architecture.is_empty() {
            facts.architecture.clone_from(architecture);
        }
        facts
    }

    /// What path and format of the file say of where the BTF is from.
    fn said_origin(&self) -> BtfOrigin {
        match (self.vmlinux.origin, facts_of(&self.path).origin) {
            (BtfOrigin::External, _) | (_, BtfOrigin::Unknown) => self.vmlinux.origin,
            (_, said) => said,
        }
    }

    fn module(&self, path: &Path, mut bytes: BtfBytes) -> Result<ModuleFile, InputError> {
        // Rewritten here, where the bytes are owned; it is rare enough to parse vmlinux once more for it.
        if let Some(distilled) = bytes.distilled_base() {
            let vmlinux = Btf::parse(self.vmlinux.btf())
                .map_err(|error| InputError::defective_btf(&self.path, &error))?;
            let relocated = relocate_distilled(bytes.btf(), distilled, &vmlinux)
                .map_err(|error| InputError::defective_btf(path, &error))?;
            bytes = BtfBytes::from_relocated(relocated, bytes.pointer_size);
        } else if let (Some(kernel), Some(module)) = (&self.vmlinux.said.release, &bytes.said.release)
            && kernel != module
        {
            let what = format!("it was built for {module}, and the kernel is {kernel}");
            return Err(InputError::missing_btf(path, &what));
        }
        Ok(ModuleFile { name: module_name(path), path: path.to_owned(), bytes })
    }

    /// Parses and indexes the kernel. A module whose BTF does not parse is left out and returned.
    ///
    /// # Errors
    /// [`InputError`] if the BTF of vmlinux is defective.
    pub fn parse(&self) -> Result<(Kernel<'_>, Vec<InputError>), InputError> {
        let vmlinux = self.parse_vmlinux().map_err(|error| InputError::defective_btf(&self.path, &error))?;
        let mut kernel = Kernel::new(with_size(vmlinux, self.vmlinux.pointer_size));
        kernel.facts = self.facts();
        kernel.kallsyms.clone_from(&self.kallsyms);
        kernel.kconfig.clone_from(&self.kconfig);
        let mut defects = Vec::new();
        for module in &self.modules {
            match module.parse(&kernel.vmlinux.btf) {
                Ok(btf) => kernel.modules.push(Module {
                    name: module.name.clone(),
                    indexed: Indexed::new(with_size(btf, module.bytes.pointer_size)),
                }),
                Err(error) => defects.push(error),
            }
        }
        Ok((kernel, defects))
    }

    /// Parses the kernel's BTF and does not index it. A module whose BTF does not parse is left out and returned.
    ///
    /// # Errors
    /// [`InputError`] if the BTF of vmlinux is defective.
    pub fn parse_btf(&self) -> Result<(KernelBtf<'_>, Vec<InputError>), InputError> {
        let vmlinux = self.parse_vmlinux().map_err(|error| InputError::defective_btf(&self.path, &error))?;
        let vmlinux = Arc::new(with_size(vmlinux, self.vmlinux.pointer_size));
        let (mut modules, mut defects) = (Vec::new(), Vec::new());
        for module in &self.modules {
            match module.parse(&vmlinux) {
                Ok(btf) => modules.push(ModuleBtf {
                    name: &module.name,
                    btf: with_size(btf, module.bytes.pointer_size),
                    bytes: module.bytes.btf(),
                }),
                Err(error) => defects.push(error),
            }
        }
        Ok((KernelBtf { vmlinux, vmlinux_bytes: self.vmlinux.btf(), modules }, defects))
    }

    fn parse_vmlinux(&self) -> Result<Btf<'_>, crate::btf::BtfError> {
        match self.vmlinux.distilled_base() {
            // Nothing to map it onto: it stays on its own small base.
            Some(base) => Btf::parse_split(self.vmlinux.btf(), Arc::new(Btf::parse(base)?)),
            None => Btf::parse(self.vmlinux.btf()),
        }
    }
}

impl ModuleFile {
    /// Its BTF, if it is of this vmlinux.
    fn parse<'a>(&'a self, vmlinux: &Arc<Btf<'a>>) -> Result<Btf<'a>, InputError> {
        let parsed = Btf::parse_split(self.bytes.btf(), Arc::clone(vmlinux));
        let parsed = parsed.and_then(|btf| btf.check_base().map(|()| btf));
        parsed.map_err(|error| {
            let mut defect = InputError::defective_btf(&self.path, &error).of_module();
            let leads_nowhere = matches!(
                error,
                BtfError::BadTypeRef { .. } | BtfError::BadNameRef { .. } | BtfError::FuncWithoutProto { .. }
            );
            if leads_nowhere {
                defect.what.push_str("; it was built against another vmlinux, or is damaged");
            }
            defect
        })
    }
}

fn with_size(btf: Btf<'_>, pointer_size: Option<u32>) -> Btf<'_> {
    match pointer_size {
        Some(size) => btf.with_pointer_size(size),
        None => btf,
    }
}

/// `nf_conntrack` for `nf_conntrack`, `nf_conntrack.btf`, `nf-conntrack.ko.zst`: the kernel has `_` for `-`.
fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = [".zst", ".xz", ".gz"].iter().find_map(|it| name.strip_suffix(it)).unwrap_or(&name);
    match name.strip_suffix(".ko") {
        Some(name) => name.replace('-', "_"),
        None => name.strip_suffix(".btf").unwrap_or(name).to_owned(),
    }
}
