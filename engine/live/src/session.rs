//! One object after the other into the running kernel.

use std::os::fd::OwnedFd;

use btfleet_engine::btf::essential_name;
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::format::insn::{CALL, INSN_LEN, Insn};
use btfleet_engine::kconfig::KconfigType;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{ExternKind, Object, ProgType, Reference};
use btfleet_engine::prog_load::ProgLoad;
use btfleet_engine::reach::Symbol;
use btfleet_engine::report::Known;
use btfleet_engine::resolve::Outcome;

use crate::bpf::{self, Errno, Program, raw};
use crate::btf::{self, KconfigPlace, Places};
use crate::compare::{Compared, Finding, compare};
use crate::maps::Maps;
use crate::target::{Found, Running};

/// `src_reg` of an ldimm64: a map.
const PSEUDO_MAP_FD: u8 = 1;
/// A place in a map's only value.
const PSEUDO_MAP_VALUE: u8 = 2;
/// A variable or function of the kernel.
const PSEUDO_BTF_ID: u8 = 3;
/// `src_reg` of a call of a kernel function.
const PSEUDO_KFUNC_CALL: u8 = 2;
/// What libbpf makes of the call of a weak function that is not there: the number of a helper that no kernel has.
const MISSING_KFUNC: u32 = 2_002_000_000;
/// `r0 = 0; exit`, on machines of either byte order.
const EXIT_0: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// In place of a map that could not be made: no descriptor.
const NO_FD: u32 = u32::MAX;

/// The running kernel, ready to judge.
#[derive(Debug)]
pub struct Session<'k, 'data> {
    running: Running<'k, 'data>,
    known: Known,
}

/// One program, loaded both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its number in [`Object::programs`].
    pub program: usize,
    /// Number of its records.
    pub records: usize,
    /// What was compared.
    pub compared: Compared,
    /// Why not all instructions were, or not those of the program as it is.
    pub why: Option<String>,
    /// What is different.
    pub findings: Vec<Finding>,
}

/// An object in the kernel, but for its programs.
struct Prepared<'data> {
    places: Places<'data>,
    btf: Option<OwnedFd>,
    maps: Maps<'data>,
    kconfig: Vec<KconfigPlace>,
}

impl<'k, 'data> Session<'k, 'data> {
    /// `kernel`: the running one, with what is known of it.
    ///
    /// # Errors
    /// If the kernel does not let us load programs.
    pub fn new(kernel: &'k Kernel<'data>, known: Known) -> Result<Self, Errno> {
        let exit_0 = Program { license: b"GPL", insns: &EXIT_0, ..loaded_as(ProgType::NEUTRAL, None) };
        match bpf::load(&exit_0).errno {
            Some(errno) => Err(errno),
            None => Ok(Self { running: Running::new(kernel), known }),
        }
    }

    /// Loads all programs of an object both ways, one after the other. `outcomes`: by record, those of
    /// [`Loader::Kernel`](btfleet_engine::dialect::Loader::Kernel) with the running release, on this kernel with all
    /// modules, all programs being active.
    ///
    /// # Errors
    /// Why the object cannot be loaded here at all.
    pub fn judge(&self, object: &Object<'_>, outcomes: &[&Outcome]) -> Result<Vec<Judged>, String> {
        let native = if cfg!(target_endian = "little") { Endian::Little } else { Endian::Big };
        if object.endian() != native {
            return Err("it is of another byte order than this machine".into());
        }
        let prepared = self.prepare(object)?;
        let programs = object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram);
        Ok(programs.map(|(program, _)| self.judge_program(object, program, &prepared, outcomes)).collect())
    }

    fn prepare<'o>(&self, object: &Object<'o>) -> Result<Prepared<'o>, String> {
        let places = Places::of(object);
        let (kconfig, values) = self.kconfig(object);
        let size = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let btf = match btf::for_kernel(object, &places, (&kconfig, size)) {
            Some(bytes) => Some(bpf::load_btf(&bytes).map_err(|(errno, log)| {
                let last = log.lines().rfind(|it| !it.trim().is_empty()).unwrap_or_default();
                format!("the kernel refuses its BTF: {errno}: {last}")
            })?),
            None => None,
        };
        let maps = Maps::create(object, &places, btf.as_ref(), &values);
        Ok(Prepared { places, btf, maps, kconfig })
    }

    /// Values of the configuration, each in a place of 8 bytes or more.
    fn kconfig(&self, object: &Object<'_>) -> (Vec<KconfigPlace>, Vec<u8>) {
        let (mut places, mut values) = (Vec::new(), Vec::new());
        for of in object.externs().iter().filter(|it| it.kind == ExternKind::Kconfig) {
            let Some((btf, id)) = object.btf().zip(of.btf_id) else { continue };
            let Some(ty) = KconfigType::of(btf, id) else { continue };
            let value = match self.known.kconfig(object, of) {
                Symbol::Value(bytes) => bytes,
                _ => Vec::new(),
            };
            places.push((id, u32::try_from(values.len()).unwrap_or(0)));
            let end = values.len() + ty.size().min(1 << 16);
            values.extend(value);
            values.resize(end.next_multiple_of(8), 0);
        }
        (places, values)
    }

    fn judge_program(
        &self,
        object: &Object<'_>,
        program: usize,
        prepared: &Prepared<'_>,
        outcomes: &[&Outcome],
    ) -> Judged {
        let mut load = ProgLoad::new(object, program);
        let records = load.core_relos.len();
        let nothing = |why: &str| {
            let (compared, why) = (Compared::Nothing, Some(why.to_owned()));
            Judged { program, records, compared, why, findings: Vec::new() }
        };
        if records == 0 {
            return nothing("it has no CO-RE records");
        }
        if !load.is_relocated_by(self.known.release) {
            return nothing(
                "it has neither function nor line information, without which kernels before 7.3 ignore records",
            );
        }
        let Some(of) = object.programs().get(program) else { return nothing("it is not there") };
        let mut fd_array = vec![0];
        let missing = self.fill_in(object, &mut load, prepared, &mut fd_array);
        // What is not known to be loadable is relocated all the same, as a program that attaches to nothing: then what
        // the kernel says of records is compared, and not whether it takes the program.
        let (unknown, loaded_as) = match self.loaded_as(object, program) {
            Ok(known) => (None, known),
            Err(why) => (Some(why), loaded_as(ProgType::NEUTRAL, None)),
        };
        let spec = Program {
            license: prepared.places.license,
            name: of.name,
            btf: prepared.btf.as_ref(),
            func_info: &load.func_info,
            line_info: &load.line_info,
            fd_array: &fd_array,
            ..loaded_as
        };
        let (compared, why, findings) = compare(&spec, &load, outcomes, missing.or(unknown));
        Judged { program, records, compared, why, findings }
    }

    /// What the section of a program says of loading it: its type, and what it attaches to.
    ///
    /// # Errors
    /// Why it cannot be loaded as what it is.
    pub fn loaded_as(&self, object: &Object<'_>, program: usize) -> Result<Program<'_>, String> {
        let of = object.programs().get(program);
        let section = of.map(|it| it.section).unwrap_or_default();
        let mut ty = ProgType::of_section(section).ok_or("its section stands for no type of program")?;
        let attach = if ty.prog_type == ProgType::STRUCT_OPS {
            let (found, member) =
                self.running.struct_ops(object, program).ok_or("the kernel has no such struct_ops")?;
            ty.attach_type = member;
            Some(found)
        } else {
            let target = of.and_then(|it| it.attach.as_ref());
            target.map_or(Ok(None), |it| self.running.attach(it))?
        };
        Ok(loaded_as(ty, attach))
    }

    /// Fills in what instructions refer to. What is not there is left open; says which kernel function, if one is not.
    fn fill_in(
        &self,
        object: &Object<'_>,
        load: &mut ProgLoad,
        prepared: &Prepared<'_>,
        fd_array: &mut Vec<u32>,
    ) -> Option<String> {
        let endian = object.endian();
        let mut missing = None;
        for &(slot, reference) in &load.references {
            let Some(bytes) = load.insns.get_mut(slot as usize * INSN_LEN..) else { continue };
            let Some((first, rest)) = bytes.split_first_chunk_mut::<INSN_LEN>() else { continue };
            let mut insn = Insn::decode(*first, endian);
            let is_call = insn.code == CALL;
            let held = match reference {
                Reference::Function(_) => continue,
                Reference::Map(symbol) => {
                    let map = prepared.maps.named.get(object.symbol_name(symbol));
                    Held { source: PSEUDO_MAP_FD, low: fd(map), high: 0 }
                }
                Reference::Data(section, offset) => {
                    let offset = u32::try_from(offset & 0xffff_ffff).unwrap_or(0);
                    let map = prepared.maps.data.get(section);
                    Held { source: PSEUDO_MAP_VALUE, low: fd(map), high: offset }
                }
                Reference::Extern(number) => {
                    self.held_of_extern(object, number, is_call, prepared, &mut missing)
                }
            };
            insn.src = held.source;
            insn.imm = held.low.cast_signed();
            if is_call {
                insn.off = number_of(held.high, fd_array);
            } else if let Some(second) = rest.first_chunk_mut::<INSN_LEN>() {
                let high = Insn { imm: held.high.cast_signed(), ..Insn::decode(*second, endian) };
                *second = high.encode(endian);
            }
            *first = insn.encode(endian);
        }
        missing
    }

    fn held_of_extern(
        &self,
        object: &Object<'_>,
        number: usize,
        is_call: bool,
        prepared: &Prepared<'_>,
        missing: &mut Option<String>,
    ) -> Held {
        const NULL: Held = Held { source: 0, low: 0, high: 0 };
        let Some(of) = object.externs().get(number) else { return NULL };
        let in_btf = |source: u8, found: Found<'_>| Held {
            source,
            low: found.id.0,
            high: found.module.map_or(0, raw),
        };
        match of.kind {
            ExternKind::Kconfig => {
                let place = prepared.kconfig.iter().find(|it| Some(it.0) == of.btf_id);
                let map = prepared.maps.kconfig.as_ref().map_or(NO_FD, raw);
                Held { source: PSEUDO_MAP_VALUE, low: map, high: place.map_or(0, |it| it.1) }
            }
            ExternKind::KsymTypeless => {
                let address = self.running.address(of.name);
                let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
                Held { source: 0, low: half(address), high: half(address >> 32) }
            }
            ExternKind::KsymVar => {
                let found = self.running.named(of.name, Kind::Var);
                found.map_or(NULL, |it| in_btf(PSEUDO_BTF_ID, it))
            }
            ExternKind::Kfunc | ExternKind::Unknown => {
                let name = essential_name(of.name);
                match self.running.named(name, Kind::Func) {
                    Some(found) => in_btf(if is_call { PSEUDO_KFUNC_CALL } else { PSEUDO_BTF_ID }, found),
                    None => {
                        if !of.is_weak {
                            let name = String::from_utf8_lossy(name);
                            *missing = Some(format!("the kernel has no function {name} for BPF"));
                        }
                        // The kernel looks functions up before it relocates: a helper that is not there comes later.
                        let helper = u32::try_from(number).unwrap_or(0).saturating_add(MISSING_KFUNC);
                        Held { low: if is_call { helper } else { 0 }, ..NULL }
                    }
                }
            }
        }
    }
}

fn loaded_as(ty: ProgType, attach: Option<Found<'_>>) -> Program<'_> {
    Program {
        prog_type: ty.prog_type,
        attach_type: ty.attach_type,
        flags: ty.flags,
        attach_btf_id: attach.map_or(0, |it| it.id.0),
        attach_btf: attach.and_then(|it| it.module),
        ..Program::default()
    }
}

/// What an instruction holds that refers to something.
struct Held {
    /// `src_reg`.
    source: u8,
    /// The immediate.
    low: u32,
    /// That of the second slot; of a call, the module.
    high: u32,
}

fn fd(map: Option<&Result<OwnedFd, Errno>>) -> u32 {
    map.and_then(|it| it.as_ref().ok()).map_or(NO_FD, raw)
}

/// The number of a module among those that a program calls functions of; 0 stands for vmlinux.
fn number_of(module: u32, fd_array: &mut Vec<u32>) -> i16 {
    let known = if module == 0 { Some(0) } else { fd_array.iter().position(|it| *it == module) };
    let number = known.unwrap_or_else(|| {
        fd_array.push(module);
        fd_array.len() - 1
    });
    i16::try_from(number).unwrap_or(i16::MAX)
}
