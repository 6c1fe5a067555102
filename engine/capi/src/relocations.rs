//! What `btfleet relocate` writes.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Arc, OnceLock};

use btfleet_engine::embed::{self, OwnedRun, ProgramCode, RelocatedClass};
use btfleet_engine::report::ObstacleRow;
use self_cell::self_cell;

use crate::border::{free, value, Error, Status};
use crate::keep::{Keep, Kept};
use crate::run::{or_minus_one, out, Run};

/// Why an object has no file for some kernels, or a program is left as it was.
#[repr(C)]
#[derive(Debug)]
pub struct Obstacle {
    /// Stable code.
    pub code: *const c_char,
    /// ELF section of the record that it is about, or NULL.
    pub section: *const c_char,
    /// Its program, or NULL.
    pub program: *const c_char,
    /// Offset of its instruction, in bytes within the section, or -1.
    pub insn_off: i64,
    /// libbpf's error number, negative, if it gives up; else 0.
    pub fatal: i32,
    /// One sentence.
    pub message: *const c_char,
}

/// A program after relocation, linked with all functions that it calls.
#[repr(C)]
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: *const c_char,
    /// Its ELF section.
    pub section: *const c_char,
    /// Not 0: it is left as it was, with its records to apply.
    pub left: u32,
    /// Instructions in the byte order of the object. Maps and the kernel's symbols are for the loader to fill in.
    pub insns: *const u8,
    /// Their length in bytes.
    pub insns_len: usize,
}

self_cell!(
    struct RelocationsOfRun {
        owner: Arc<OwnedRun>,
        #[covariant]
        dependent: EngineRelocations,
    }
);

type EngineRelocations<'r> = embed::Relocations<'r>;

/// The files of one object after relocation; kernels that need the same are a class. Any number of threads may use it at
/// once.
pub struct Relocations {
    of_run: RelocationsOfRun,
    classes: Vec<Class>,
}

struct Class {
    obstacle: Option<Kept<Obstacle>>,
    left: Kept<Vec<Obstacle>>,
    /// Made when it is first asked for.
    file: OnceLock<Vec<u8>>,
    /// Likewise.
    programs: OnceLock<Kept<Vec<Program>>>,
}

impl Relocations {
    fn class(&self, class: usize) -> Option<(RelocatedClass<'_>, &Class)> {
        self.of_run.borrow_dependent().classes().nth(class).zip(self.classes.get(class))
    }
}

impl Class {
    fn new(of: &RelocatedClass<'_>) -> Self {
        let obstacle = of.obstacle();
        Self {
            obstacle: obstacle.map(|it| Kept::new(|keep| Obstacle::new(keep, &it))),
            left: Kept::new(|keep| of.left().iter().map(|it| Obstacle::new(keep, it)).collect()),
            file: OnceLock::new(),
            programs: OnceLock::new(),
        }
    }
}

impl Obstacle {
    fn new(keep: &mut Keep, row: &ObstacleRow) -> Self {
        Self {
            code: keep.string(row.code),
            section: keep.option(row.section.as_deref()),
            program: keep.option(row.program.as_deref()),
            insn_off: or_minus_one(row.insn_off.map(u64::from)),
            fatal: row.fatal.unwrap_or(0),
            message: keep.string(&row.message),
        }
    }
}

impl Program {
    fn new(keep: &mut Keep, row: ProgramCode) -> Self {
        let (insns, insns_len) = keep.list(row.insns);
        Self {
            name: keep.string(&row.name),
            section: keep.string(&row.section),
            left: row.left.into(),
            insns,
            insns_len,
        }
    }
}

/// Relocates an object for every kernel, as libbpf does.
#[no_mangle]
pub extern "C" fn btfleet_run_relocate(
    run: Option<&Run>,
    object: usize,
    relocations: Option<&mut MaybeUninit<*mut Relocations>>,
) -> Status {
    out(relocations, || {
        let run = run.ok_or_else(|| Error::argument("the run is NULL"))?;
        let of_run = RelocationsOfRun::try_new(Arc::clone(&run.run), |it| it.relocate(object))?;
        let classes = of_run.borrow_dependent().classes().map(|it| Class::new(&it)).collect();
        Ok(Relocations { of_run, classes })
    })
}

/// Frees relocations.
#[no_mangle]
pub extern "C" fn btfleet_relocations_free(relocations: Option<Box<Relocations>>) {
    free(relocations);
}

/// Number of classes. Kernels that the object cannot be judged on are in none.
#[no_mangle]
pub extern "C" fn btfleet_relocations_class_count(relocations: Option<&Relocations>) -> usize {
    relocations.map_or(0, |it| it.classes.len())
}

/// The class of a kernel, or -1.
#[no_mangle]
pub extern "C" fn btfleet_relocations_class_of(relocations: Option<&Relocations>, kernel: usize) -> i64 {
    value(-1, || {
        let class = relocations.and_then(|it| {
            let mut classes = it.of_run.borrow_dependent().classes();
            classes.position(|it| it.kernels().binary_search(&kernel).is_ok())
        });
        or_minus_one(class.map(|it| it as u64))
    })
}

/// Why there is no file for a class; NULL if there is one.
#[no_mangle]
pub extern "C" fn btfleet_relocations_obstacle(
    relocations: Option<&Relocations>,
    class: usize,
) -> Option<&Obstacle> {
    Some(relocations?.classes.get(class)?.obstacle.as_ref()?.rows())
}

/// The object's file for a class, and its length; NULL if there is none.
#[no_mangle]
pub extern "C" fn btfleet_relocations_file(
    relocations: Option<&Relocations>,
    class: usize,
    len: Option<&mut MaybeUninit<usize>>,
) -> *const u8 {
    let file: &[u8] = value(&[], || {
        let class = relocations.and_then(|it| it.class(class));
        class.map_or(&[], |(of, class)| class.file.get_or_init(|| of.file().unwrap_or_default()))
    });
    if let Some(len) = len {
        len.write(file.len());
    }
    if file.is_empty() {
        ptr::null()
    } else {
        file.as_ptr()
    }
}

/// Number of records because of which programs are left as they were in the file for a class.
#[no_mangle]
pub extern "C" fn btfleet_relocations_left_count(relocations: Option<&Relocations>, class: usize) -> usize {
    relocations.and_then(|it| it.classes.get(class)).map_or(0, |it| it.left.rows().len())
}

/// Such a record; NULL if there is none of that number.
#[no_mangle]
pub extern "C" fn btfleet_relocations_left(
    relocations: Option<&Relocations>,
    class: usize,
    number: usize,
) -> Option<&Obstacle> {
    relocations?.classes.get(class)?.left.rows().get(number)
}

fn programs(relocations: Option<&Relocations>, class: usize) -> Option<&Vec<Program>> {
    let (of, class) = relocations?.class(class)?;
    let programs = class.programs.get_or_init(|| {
        let programs = of.programs().unwrap_or_default();
        Kept::new(|keep| programs.into_iter().map(|it| Program::new(keep, it)).collect())
    });
    Some(programs.rows())
}

/// Number of programs in the file for a class, subprograms aside.
#[no_mangle]
pub extern "C" fn btfleet_relocations_program_count(
    relocations: Option<&Relocations>,
    class: usize,
) -> usize {
    value(0, || programs(relocations, class).map_or(0, Vec::len))
}

/// A program of the file for a class, in the order of the file; NULL if there is none of that number.
#[no_mangle]
pub extern "C" fn btfleet_relocations_program(
    relocations: Option<&Relocations>,
    class: usize,
    program: usize,
) -> Option<&Program> {
    value(None, || programs(relocations, class)?.get(program))
}
