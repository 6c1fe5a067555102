//! Equal shapes, equal answers: generated types against the same types under other ids, and with one change.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::collections::{BTreeMap, HashMap, HashSet};

use btfleet_engine::btf::{Btf, ShapeHash, ShapeHasher, TypeId, same_shape};
use btfleet_engine::dialect::{Loader, Release, Rules};
use btfleet_engine::error::ResolveError;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::object::Object;
use btfleet_engine::pack::{self, Abi, Added, Facts, NewKernel, PackFile};
use btfleet_engine::query::{self, Query};
use btfleet_engine::resolve::{Budget, Found, Match, on_candidate};
use btfleet_tests::build::ByteOrder;
use btfleet_tests::generator::{Case, Rng, Type, edit, permuted};

/// Cases of the test.
const CASES: u64 = 600;

/// Types of one BTF with their hashes.
struct Side<'a> {
    btf: &'a Btf<'a>,
    hashes: HashMap<TypeId, Option<ShapeHash>>,
}

impl<'a> Side<'a> {
    fn new(btf: &'a Btf<'a>) -> Self {
        let mut hasher = ShapeHasher::new(btf);
        let hashes = btf.own_types().map(|(id, _)| (id, hasher.hash(id))).collect();
        Self { btf, hashes }
    }

    /// Its hash; `None` if its shape is its own.
    fn hash(&self, id: TypeId) -> Option<ShapeHash> {
        self.hashes.get(&id).copied().flatten()
    }
}

/// What was judged.
#[derive(Debug, Default)]
struct Totals {
    /// Pairs of equal shape, and of unequal shape, by what the first type is.
    pairs: BTreeMap<String, (u64, u64)>,
    /// Types that are equal to none.
    unshared: u64,
    /// Questions that were put to both types of a pair of equal shape, by kind.
    asked: BTreeMap<String, u64>,
    /// Of these, such that both have what was asked for.
    found: u64,
    /// Pairs of unequal shape of the same name that some question tells apart.
    told_apart: u64,
    /// Pairs of unequal shape that one change has made.
    near_misses: u64,
    /// Named types of BTFs that went into packs, and types of the packs that they are now.
    packed: u64,
    distinct: u64,
    /// BTFs that packs cannot hold.
    refused: u64,
}

/// A question and the rules by which it is asked.
type Asked<'q, 'a> = (&'q Rules, Query<'a>, RelocKind);

/// Every question of an object by every set of rules.
fn questions<'q, 'a>(rules: &'q [Rules], object: &'q Object<'a>) -> Vec<Asked<'q, 'a>> {
    let btf = object.btf().expect("the object has BTF");
    let mut all = Vec::new();
    for rules in rules {
        let mut seen = HashSet::new();
        for reloc in object.relocs() {
            let question = query::parse(rules, btf, reloc.type_id, reloc.access, reloc.raw_kind);
            let query = question.ok().and_then(|it| it.query);
            let Some(asked) = query.zip(reloc.kind) else { continue };
            if seen.insert(asked.clone()) {
                all.push((rules, asked.0, asked.1));
            }
        }
    }
    all
}

/// An answer without ids: types by what they are called.
fn answer(
    (rules, query, kind): &Asked<'_, '_>,
    btf: &Btf<'_>,
    id: TypeId,
) -> Result<(Match, String), ResolveError> {
    let mut found = on_candidate(rules, query, *kind, btf, id, &mut Budget::new())?;
    let mut target = String::new();
    if let Match::Found(Found { value: Ok(value), .. }) = &mut found {
        if *kind == RelocKind::TypeIdTarget {
            assert_eq!(value.value, u64::from(id.0), "the id of the candidate");
            value.value = 0;
        }
        let ty = btf.ty(value.type_id);
        target = format!("{:?} {}", ty.map(|it| it.kind), btf.type_name(value.type_id));
        value.type_id = TypeId::VOID;
    }
    Ok((found, target))
}

/// What a type counts as.
fn describe(btf: &Btf<'_>, id: TypeId) -> String {
    let Some(ty) = btf.ty(id) else { return "none".to_owned() };
    let detail = match ty.kind {
        Kind::Int if ty.int_offset() != 0 || ty.int_bits() != ty.size() * 8 => " of a legacy bitfield",
        Kind::Array if ty.array().nelems == 0 => " without elements",
        Kind::Struct | Kind::Union if btf.is_anonymous(ty.name_off) => " without a name",
        Kind::Struct if ty.members().any(|it| it.bitfield_size != 0) => " with bitfields",
        _ => "",
    };
    format!("{}{detail}", ty.kind.name())
}

impl Totals {
    /// Judges one pair of types.
    fn judge(
        &mut self,
        (a, id_a): (&Side<'_>, TypeId),
        (b, id_b): (&Side<'_>, TypeId),
        questions: &[Asked<'_, '_>],
    ) -> bool {
        let context = || format!("{} {id_a:?} and {id_b:?}", a.btf.type_name(id_a));
        let same = same_shape((a.btf, id_a), (b.btf, id_b));
        assert_eq!(same, same_shape((b.btf, id_b), (a.btf, id_a)), "either way: {}", context());
        let (hash_a, hash_b) = (a.hash(id_a), b.hash(id_b));
        assert_eq!(same, hash_a.is_some() && hash_a == hash_b, "hash and comparison: {}", context());
        let counts = self.pairs.entry(describe(a.btf, id_a)).or_default();
        *(if same { &mut counts.0 } else { &mut counts.1 }) += 1;
        self.unshared += u64::from(hash_a.is_none());
        let kind = |btf: &Btf<'_>, id| btf.ty(id).map(|it| it.kind);
        if kind(a.btf, id_a) != kind(b.btf, id_b) {
            return same;
        }
        let mut is_told_apart = false;
        for asked in questions {
            let (one, two) = (answer(asked, a.btf, id_a), answer(asked, b.btf, id_b));
            is_told_apart |= one != two;
            if same {
                assert_eq!(one, two, "{asked:?}\n{}", context());
                *self.asked.entry(asked.2.name().to_owned()).or_default() += 1;
                self.found += u64::from(matches!(one, Ok((Match::Found(_), _))));
            }
        }
        self.told_apart += u64::from(!same && is_told_apart);
        same
    }

    /// Judges what a pack makes of some BTFs.
    fn judge_pack(&mut self, btfs: &[Vec<u8>], sides: &[&Side<'_>]) {
        let facts = Facts::default();
        let names: Vec<String> = (0..btfs.len()).map(|it| it.to_string()).collect();
        let new: Vec<NewKernel<'_, '_>> = btfs
            .iter()
            .zip(sides)
            .zip(&names)
            .map(|((vmlinux_bytes, side), name)| NewKernel {
                name,
                facts: &facts,
                vmlinux: side.btf,
                vmlinux_bytes,
                modules: Vec::new(),
            })
            .collect();
        let (bytes, added) = pack::build(&new).expect("a pack");
        let file = PackFile::from_bytes(bytes);
        let pack = file.view().expect("a whole pack");
        let mut number = 0;
        // Types of the pack, each with the first type that became it.
        let mut known: HashMap<(Abi, TypeId), (&Side<'_>, TypeId)> = HashMap::new();
        let mut by_hash: HashMap<ShapeHash, (Abi, TypeId)> = HashMap::new();
        for (side, added) in sides.iter().zip(&added) {
            if *added != Added::New {
                self.refused += 1;
                continue;
            }
            let abi = pack.abi_of(number).expect("a kernel");
            let merged = Side::new(pack.btf(abi).expect("types"));
            for (id, in_pack) in pack.roots_of(number, None).expect("roots") {
                self.packed += 1;
                let hash = side.hash(id).expect("what packs hold has a shape");
                assert!(same_shape((side.btf, id), (merged.btf, in_pack)), "{}", side.btf.type_name(id));
                assert_eq!(Some(hash), merged.hash(in_pack), "{}", side.btf.type_name(id));
                let (other, other_id) = *known.entry((abi, in_pack)).or_insert((side, id));
                assert!(same_shape((side.btf, id), (other.btf, other_id)), "one type of the pack, one shape");
                let of_hash = *by_hash.entry(hash).or_insert((abi, in_pack));
                assert_eq!(of_hash, (abi, in_pack), "one shape, one type of the pack");
            }
            number += 1;
        }
        self.distinct += known.len() as u64;
    }
}

/// The BTF of some types.
fn build(order: ByteOrder, target: &[Type]) -> Vec<u8> {
    let (local, modules, records) = (Vec::new(), Vec::new(), Vec::new());
    Case { seed: 0, order, local, target: target.to_vec(), modules, records }.target_btf()
}

/// Check that equal shapes are found by comparison and by hash alike, and give equal answers; packs hold each once.
#[test]
fn equal_shapes_give_equal_answers() {
    let release = |text| Loader::Kernel(Release::parse(text).expect("a release"));
    let mut totals = Totals::default();
    for seed in 0..CASES {
        let rng = &mut Rng::new(seed ^ 0x5a9e);
        let order = if seed % 4 == 3 { ByteOrder::Big } else { ByteOrder::Little };
        let case = Case::generate_in(order, 9_000_000 + seed);
        let rules = [Loader::Libbpf, release("5.17"), release("7.1")].map(|it| Rules::of(it, 8));
        let file = case.to_object();
        let object = Object::parse(&file).expect("an object");
        let questions = questions(&rules, &object);
        // The same types under other ids, and then one of them changed.
        let (other, ids) = permuted(rng, &case.target);
        let mut changed = other.clone();
        while !changed.is_empty() {
            let at = rng.index(changed.len());
            if changed.get_mut(at).is_some_and(|ty| edit(rng, ty)) {
                break;
            }
        }
        let bytes = [build(order, &case.target), build(order, &other), build(order, &changed)];
        let btfs = bytes.each_ref().map(|it| Btf::parse(it).expect("BTF"));
        let [first, second, third] = btfs.each_ref().map(Side::new);
        for (old, &new) in ids.iter().enumerate().skip(1) {
            let old = TypeId(u32::try_from(old).expect("a small id"));
            let same = totals.judge((&first, old), (&second, TypeId(new)), &questions);
            assert_eq!(same, first.hash(old).is_some(), "the same types under other ids");
            let same = totals.judge((&first, old), (&third, TypeId(new)), &questions);
            totals.near_misses += u64::from(!same && first.hash(old).is_some());
            // Any other: of the same kind most often, as few kinds are common.
            let any = TypeId(rng.range(1, u32::try_from(changed.len()).expect("few types")));
            totals.judge((&second, TypeId(new)), (&third, any), &[]);
        }
        totals.judge_pack(&bytes, &[&first, &second, &third]);
    }
    eprintln!("{totals:#?}");
    let (equal, unequal) = totals.pairs.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    eprintln!("{equal} pairs of equal shape, {unequal} of unequal shape");
    assert!(equal > 20_000 && unequal > 10_000, "{equal}, {unequal}");
    for kind in [
        "int",
        "int of a legacy bitfield",
        "float",
        "ptr",
        "array",
        "array without elements",
        "struct",
        "struct with bitfields",
        "struct without a name",
        "union",
        "union without a name",
        "enum",
        "enum64",
        "fwd",
        "typedef",
        "const",
        "volatile",
        "restrict",
        "type_tag",
        "func",
        "func_proto",
    ] {
        let (equal, unequal) = totals.pairs.get(kind).copied().unwrap_or_default();
        assert!(equal >= 15 && unequal >= 8, "{kind}: {equal} equal, {unequal} unequal");
    }
    assert!(totals.asked.len() == 12 && totals.asked.values().all(|it| *it > 1000), "{:?}", totals.asked);
    assert!(totals.found > 20_000 && totals.told_apart > 500, "{} {}", totals.found, totals.told_apart);
    assert!(totals.near_misses > 1000, "{}", totals.near_misses);
    assert!(totals.refused < CASES && totals.distinct * 2 < totals.packed, "{totals:?}");
}

/// Check that byte order and pointer size belong to a shape.
#[test]
fn shapes_of_different_abis_differ() {
    let case = Case::generate(1);
    let [little, big] = [ByteOrder::Little, ByteOrder::Big].map(|order| build(order, &case.target));
    let [little, big] = [&little, &big].map(|it| Btf::parse(it).expect("BTF"));
    let [little, big] = [&little, &big].map(Side::new);
    let ids: Vec<TypeId> = little.btf.own_types().map(|(id, _)| id).collect();
    assert!(!ids.is_empty());
    for id in ids {
        assert!(!same_shape((little.btf, id), (big.btf, id)));
        assert!(little.hash(id).is_none() || little.hash(id) != big.hash(id));
    }
}
