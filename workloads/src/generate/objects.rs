//! Synthetic objects: a real one whose records ask, here and there, for something else.
//!
//! A record that is changed stays consistent: its type is in the object's BTF, its access string leads to a
//! member there, and its instruction holds the value that follows. Types and strings are only added, so that
//! everything else in the file stays right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use btfleet_engine::btf::{Btf, TypeId, essential_name};
use btfleet_engine::dialect::Rules;
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::format::btf_ext::{CORE_LEN_AT, CORE_RELO_LEN, HEADER_LEN_CORE, RelocKind};
use btfleet_engine::format::insn::{INSN_LEN, Insn, class};
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::query::{self, LocalValue};

use super::btf_edit::{Model, Record};
use super::elf::Elf;
use super::inputs::ObjectInput;
use super::kernels::Counts;
use super::rng::Rng;
use super::vocabulary::{Field, Root, Vocabulary};

/// Part of the records that are left out.
const DROPPED: f64 = 0.02;
/// Part of the records that ask what another record of the object asks.
const COPIED: f64 = 0.04;
/// Part of the programs that get another name.
const RENAMED: f64 = 0.5;

/// How much of an object is new.
#[derive(Clone, Copy, Debug)]
pub(super) struct Novelty {
    /// Root types that no real object asks for, on average.
    pub(super) roots: f64,
    /// Members that its origin does not ask for, on average.
    pub(super) queries: f64,
}

/// What derives objects.
#[derive(Debug)]
pub(super) struct Deriver<'a> {
    pub(super) seed: u64,
    pub(super) vocabulary: &'a Vocabulary,
    /// Structs to take new roots from.
    pub(super) fresh: Vec<&'a Root>,
}

/// One CO-RE record of a file, and where it stands.
#[derive(Clone, Debug)]
struct Entry {
    /// Name of its section, in the strings of `.BTF`.
    section: u32,
    insn_off: u32,
    type_id: u32,
    access: u32,
    kind: u32,
}

/// What a record is to ask instead.
#[derive(Clone, Debug)]
struct Ask {
    type_id: u32,
    access: String,
}

impl Deriver<'_> {
    /// Derives the object of this number. `None` if the origin is built in a way that is not understood.
    pub(super) fn derive(
        &self,
        input: &ObjectInput,
        number: u64,
        novelty: Novelty,
    ) -> Option<(Vec<u8>, Counts)> {
        let mut rng = Rng::of(self.seed, &[11, number]);
        let mut counts = Counts::new();
        let object = Object::parse(&input.data).ok()?;
        let mut elf = Elf::read(&input.data)?;
        let mut model = Model::read(elf.section(b".BTF")?)?;
        let ext = elf.section(b".BTF.ext")?.to_vec();
        let mut entries = read_entries(&ext, elf.endian)?;
        if entries.len() != object.relocs().len() {
            return None;
        }
        let open: Vec<usize> = changeable(&object);
        let asks = self.plan(&object, &mut model, &entries, &open, novelty, &mut rng);
        self.rename(&object, &mut elf, &mut model, &mut rng, &mut counts);
        // A string that nothing uses: no two objects are equal.
        model.string(format!("synth-{:x}-{number}", self.seed).as_bytes());
        apply(&asks, &object, &mut elf, &mut model, &mut entries, &mut counts)?;
        let before = entries.len();
        let mut left = before;
        entries.retain(|_| {
            let drop = left > 1 && rng.chance(DROPPED);
            left -= usize::from(drop);
            !drop
        });
        count(&mut counts, "records_dropped", before - entries.len());
        *elf.section_mut(b".BTF")? = model.write();
        *elf.section_mut(b".BTF.ext")? = write_entries(&ext, elf.endian, &entries)?;
        elf.drop_dwarf();
        let data = elf.write();
        drop(asks);
        let derived = Object::parse(&data).ok()?;
        let errno = |it: &Object<'_>| it.refused().map(|it| it.errno);
        let is_alike = errno(&derived) == errno(&object) && derived.ignored_btf().is_none();
        (is_alike && derived.relocs().len() == entries.len()).then_some((data, counts))
    }

    /// Chooses records and what they are to ask.
    fn plan(
        &self,
        object: &Object<'_>,
        model: &mut Model,
        entries: &[Entry],
        open: &[usize],
        novelty: Novelty,
        rng: &mut Rng,
    ) -> BTreeMap<usize, (Ask, &'static str)> {
        let mut asks = BTreeMap::new();
        for _ in 0..rng.count(novelty.roots) {
            let (Some(&at), Some(root)) = (rng.pick(open), rng.pick(&self.fresh)) else { break };
            if let Some(ask) = flavour(object, at, model, root, rng) {
                asks.insert(at, (ask, "records_of_new_roots"));
            }
        }
        for _ in 0..rng.count(novelty.queries) {
            // Several tries: not every record stands where another member fits.
            for _ in 0..6 {
                let Some(&at) = rng.pick(open) else { break };
                if asks.contains_key(&at) {
                    continue;
                }
                let found = if rng.chance(0.3) { sibling(object, at, model, entries, rng) } else { None };
                let found = found.or_else(|| {
                    let root = self.vocabulary.named(root_name(object, at)?)?;
                    flavour(object, at, model, root, rng)
                });
                if let Some(ask) = found {
                    asks.insert(at, (ask, "records_of_new_members"));
                    break;
                }
            }
        }
        for _ in 0..rng.count(COPIED * open.len() as f64) {
            let (Some(&from), Some(&to)) = (rng.pick(open), rng.pick(open)) else { break };
            let (Some(one), Some(other)) = (object.relocs().get(from), object.relocs().get(to)) else {
                break;
            };
            let (Some(entry), false) = (entries.get(from), asks.contains_key(&to)) else { continue };
            if from != to && one.kind == other.kind && width(object, other).is_none_or(|it| it == size(one)) {
                let access = String::from_utf8_lossy(one.access).into_owned();
                asks.insert(to, (Ask { type_id: entry.type_id, access }, "records_copied"));
            }
        }
        asks
    }

    /// Gives programs other names, in the symbol table and in the BTF.
    fn rename(
        &self,
        object: &Object<'_>,
        elf: &mut Elf,
        model: &mut Model,
        rng: &mut Rng,
        counts: &mut Counts,
    ) {
        let tags: Vec<Vec<u8>> = model
            .types()
            .filter(|(_, it)| it.kind() == Kind::DeclTag)
            .map(|(_, it)| model.text(it.name).to_vec())
            .collect();
        let mut taken: BTreeSet<Vec<u8>> = object.programs().iter().map(|it| it.name.to_vec()).collect();
        for program in object.programs().iter().filter(|it| !it.is_subprogram) {
            let new = [program.name, format!("_s{}", rng.below(100)).as_bytes()].concat();
            // A tag may call a program by its name: the one that handles exceptions.
            let is_tagged = tags.iter().any(|it| it.ends_with(program.name));
            if !rng.chance(RENAMED) || is_tagged || !taken.insert(new.clone()) {
                continue;
            }
            let func = model.types().find(|(_, it)| {
                it.kind() == Kind::Func && it.info & 0xff != 2 && model.text(it.name) == program.name
            });
            let func = func.map(|(id, _)| id);
            if elf.rename_function(program.section, program.name, &new) {
                let name = model.string(&new);
                if let Some(record) = func.and_then(|id| model.get_mut(id)) {
                    record.name = name;
                }
                count(counts, "programs_renamed", 1);
            }
        }
    }
}

fn count(counts: &mut Counts, what: &'static str, by: usize) {
    if by > 0 {
        *counts.entry(what).or_default() += by as u64;
    }
}

/// Numbers of the records that may ask something else: alone on their instruction, which holds what it should.
fn changeable(object: &Object<'_>) -> Vec<usize> {
    let mut at: BTreeMap<(&[u8], u32), usize> = BTreeMap::new();
    for reloc in object.relocs() {
        *at.entry((reloc.section, reloc.insn_off)).or_default() += 1;
    }
    let is_open = |reloc: &Reloc<'_>| {
        let kind = matches!(
            reloc.kind,
            Some(
                RelocKind::FieldByteOffset
                    | RelocKind::FieldByteSize
                    | RelocKind::FieldExists
                    | RelocKind::EnumvalExists
                    | RelocKind::EnumvalValue
            )
        );
        let alone = at.get(&(reloc.section, reloc.insn_off)) == Some(&1);
        let local = reloc.question.as_ref().ok().and_then(|it| it.local.as_ref().ok());
        let bytes = object.insn_bytes(reloc);
        let holds = |local: &LocalValue| {
            local.validate && patched(bytes, object.endian(), local.value.value).as_deref() == Some(bytes)
        };
        kind && alone && reloc.program.is_some() && local.is_some_and(holds)
    };
    object.relocs().iter().enumerate().filter(|(_, it)| is_open(it)).map(|(index, _)| index).collect()
}

/// Size in bytes of what a record's field has; 0 if it does not matter.
fn size(reloc: &Reloc<'_>) -> u32 {
    let local = reloc.question.as_ref().ok().and_then(|it| it.local.as_ref().ok());
    local.map_or(0, |it| it.value.size)
}

/// The size that a field has to have because the record's instruction loads or stores it.
fn width(object: &Object<'_>, reloc: &Reloc<'_>) -> Option<u32> {
    let bytes = object.insn_bytes(reloc).first_chunk::<INSN_LEN>()?;
    let is_access =
        matches!(Insn::decode(*bytes, object.endian()).class(), class::LDX | class::ST | class::STX);
    is_access.then(|| size(reloc))
}

fn root_name<'a>(object: &Object<'a>, at: usize) -> Option<&'a [u8]> {
    let query = object.relocs().get(at)?.question.as_ref().ok()?.query.as_ref()?;
    (query.root.kind == Kind::Struct).then_some(query.root.essential)
}

/// Another member of the struct that the record asks about, as the object's own BTF has it.
fn sibling(object: &Object<'_>, at: usize, model: &Model, entries: &[Entry], rng: &mut Rng) -> Option<Ask> {
    let (reloc, entry) = (object.relocs().get(at)?, entries.get(at)?);
    let ty = model.get(model.skip(entry.type_id))?;
    let width = width(object, reloc);
    if !matches!(reloc.access, [b'0', b':', ..]) || !ty.kind().is_composite() {
        return None;
    }
    let fits = |it: &super::btf_edit::Member| {
        let kind = model.get(model.skip(it.ty)).map(Record::kind);
        it.width == 0
            && !model.text(it.name).is_empty()
            && matches!(kind, Some(Kind::Int | Kind::Ptr))
            && width.is_none_or(|width| model.size(it.ty) == width)
    };
    let fitting: Vec<usize> =
        ty.members().enumerate().filter(|(_, it)| fits(it)).map(|(index, _)| index).collect();
    Some(Ask { type_id: entry.type_id, access: format!("0:{}", rng.pick(&fitting)?) })
}

/// A member of a kernel's struct, by way of a new local struct with that member only.
fn flavour(object: &Object<'_>, at: usize, model: &mut Model, root: &Root, rng: &mut Rng) -> Option<Ask> {
    let reloc = object.relocs().get(at)?;
    let is_field = matches!(
        reloc.kind,
        Some(RelocKind::FieldByteOffset | RelocKind::FieldByteSize | RelocKind::FieldExists)
    );
    let width = width(object, reloc);
    let fitting: Vec<&Field> =
        root.members.iter().filter(|it| width.is_none_or(|width| width == it.size)).collect();
    let field = rng.pick(&fitting).filter(|_| is_field)?;
    let is_there = model.types().any(|(_, it)| it.kind() == Kind::Struct && model.text(it.name) == root.name);
    let name = if is_there || essential_name(&root.name) != root.name {
        [essential_name(&root.name), format!("___synth{}", rng.below(10)).as_bytes()].concat()
    } else {
        root.name.clone()
    };
    let ty = match field.encoding {
        None => model.push(Record::new(0, 2, 0, Vec::new(), 0)),
        Some(encoding) => {
            let name = match field.size {
                1 => "unsigned char",
                2 => "short unsigned int",
                4 => "unsigned int",
                _ => "long unsigned int",
            };
            let name = model.string(name.as_bytes());
            model.push(Record::new(
                name,
                1,
                field.size,
                vec![u32::from(encoding) << 24 | (field.size * 8)],
                0,
            ))
        }
    };
    let (name, member) = (model.string(&name), model.string(&field.name));
    let type_id = model.push(Record::new(name, 4, root.size, vec![member, ty, field.offset * 8], 3));
    Some(Ask { type_id, access: "0:0".to_owned() })
}

/// Makes records ask what was planned, where the instruction can hold the value that follows.
fn apply(
    asks: &BTreeMap<usize, (Ask, &'static str)>,
    object: &Object<'_>,
    elf: &mut Elf,
    model: &mut Model,
    entries: &mut [Entry],
    counts: &mut Counts,
) -> Option<()> {
    let accesses: Vec<u32> = asks.values().map(|(ask, _)| model.string(ask.access.as_bytes())).collect();
    let bytes = model.write();
    let btf = Arc::new(Btf::parse(&bytes).ok()?.with_pointer_size(8));
    for ((&at, (ask, what)), access) in asks.iter().zip(accesses) {
        let (Some(reloc), Some(entry)) = (object.relocs().get(at), entries.get_mut(at)) else { continue };
        let id = TypeId(ask.type_id);
        let question = query::parse(&Rules::LIBBPF, &btf, id, ask.access.as_bytes(), reloc.raw_kind);
        let local = question.ok().and_then(|it| it.local.ok()).filter(|it| it.validate);
        let Some(local) = local else { continue };
        if width(object, reloc).is_some_and(|width| width != local.value.size) {
            continue;
        }
        let Some(new) = patched(object.insn_bytes(reloc), object.endian(), local.value.value) else {
            continue;
        };
        let start = reloc.insn_off as usize;
        let slot = elf.section_mut(reloc.section).and_then(|it| it.get_mut(start..start + new.len()));
        let Some(slot) = slot else { continue };
        slot.copy_from_slice(&new);
        (entry.type_id, entry.access) = (ask.type_id, access);
        count(counts, what, 1);
    }
    Some(())
}

/// The instruction with another value, if it can hold it.
fn patched(bytes: &[u8], endian: Endian, value: u64) -> Option<Vec<u8>> {
    let (first, rest) = bytes.split_first_chunk::<INSN_LEN>()?;
    let mut insn = Insn::decode(*first, endian);
    match insn.class() {
        class::ALU | class::ALU64 if insn.code & 0x08 == 0 => insn.imm = i32::try_from(value).ok()?,
        class::LDX | class::ST | class::STX => insn.off = i16::try_from(value).ok()?,
        class::LD if insn.is_ldimm64() && insn.src == 0 => {
            let second = Insn::decode(*rest.first_chunk::<INSN_LEN>()?, endian);
            let low = u32::try_from(value & 0xffff_ffff).ok()?;
            let high = u32::try_from(value >> 32).ok()?;
            let first = Insn { imm: low.cast_signed(), ..insn };
            let second = Insn { imm: high.cast_signed(), ..second };
            return Some([first.encode(endian), second.encode(endian)].concat());
        }
        _ => return None,
    }
    Some(insn.encode(endian).to_vec())
}

/// Where the CO-RE records are in `.BTF.ext`: start and length in bytes.
fn core_range(ext: &[u8], endian: Endian) -> Option<(usize, usize)> {
    let field = |at: usize| Some(endian.u32_at(ext, at)? as usize);
    let header_len = field(4)?;
    if header_len < HEADER_LEN_CORE {
        return None;
    }
    Some((header_len.checked_add(field(CORE_LEN_AT - 4)?)?, field(CORE_LEN_AT)?))
}

fn read_entries(ext: &[u8], endian: Endian) -> Option<Vec<Entry>> {
    let (start, len) = core_range(ext, endian)?;
    let data = ext.get(start..start.checked_add(len)?)?;
    let word = |at: usize| endian.u32_at(data, at);
    if word(0)? as usize != CORE_RELO_LEN {
        return None;
    }
    let (mut entries, mut at) = (Vec::new(), 4);
    while at < data.len() {
        let (section, count) = (word(at)?, word(at + 4)?);
        at += 8;
        for _ in 0..count {
            let [insn_off, type_id, access, kind] = [word(at)?, word(at + 4)?, word(at + 8)?, word(at + 12)?];
            entries.push(Entry { section, insn_off, type_id, access, kind });
            at += CORE_RELO_LEN;
        }
    }
    Some(entries)
}

/// `.BTF.ext` with other records. They stand at its end, whatever stood there before stays.
fn write_entries(ext: &[u8], endian: Endian, entries: &[Entry]) -> Option<Vec<u8>> {
    let (start, len) = core_range(ext, endian)?;
    let header_len = endian.u32_at(ext, 4)? as usize;
    let mut out = ext.get(..if start + len == ext.len() { start } else { ext.len() })?.to_vec();
    out.resize(out.len().next_multiple_of(4), 0);
    let start = out.len();
    let put = |out: &mut Vec<u8>, word: u32| out.extend(endian.u32_bytes(word));
    put(&mut out, u32::try_from(CORE_RELO_LEN).ok()?);
    for block in entries.chunk_by(|one, next| one.section == next.section) {
        put(&mut out, block.first()?.section);
        put(&mut out, u32::try_from(block.len()).ok()?);
        for it in block {
            for word in [it.insn_off, it.type_id, it.access, it.kind] {
                put(&mut out, word);
            }
        }
    }
    let end = out.len();
    for (at, value) in [(CORE_LEN_AT - 4, start - header_len), (CORE_LEN_AT, end - start)] {
        *out.get_mut(at..)?.first_chunk_mut::<4>()? = endian.u32_bytes(u32::try_from(value).ok()?);
    }
    Some(out)
}
