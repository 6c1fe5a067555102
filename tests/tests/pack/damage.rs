//! Damaged packs: an error, the right answer, or `verify` tells; never a panic, never without end.

use std::panic::catch_unwind;

use btfleet_engine::btf::Btf;
use btfleet_engine::pack::{self, PackError, PackFile};
use btfleet_tests::build::{BtfBuilder, ByteOrder, Member};

use super::same;

/// Two small kernels.
fn kernels() -> [Vec<u8>; 2] {
    [4, 8].map(|size| {
        let mut btf = BtfBuilder::new(ByteOrder::Little);
        let int = btf.int("int", 4, 1);
        let ptr = btf.ptr(btf.next_id() + 1);
        btf.structure("task_struct", size, &[Member::new("next", ptr, 0), Member::new("pid", int, size * 4)]);
        btf.structure("twice", size, &[]);
        btf.structure("twice___flavor", 2, &[]);
        btf.enumeration("e", 4, false, &[("A", 1), ("B", 2)]);
        btf.enum64("e64", 8, true, &[("C", -1)]);
        let array = btf.array(int, int, size);
        btf.typedef("numbers", array);
        let proto = btf.func_proto(int, &[("x", ptr), ("", 0)]);
        btf.func("do_it", proto, 1);
        btf.finish()
    })
}

fn small_pack() -> Vec<u8> {
    let kernels = kernels();
    let parsed: Vec<(String, Btf<'_>, &[u8])> = kernels
        .iter()
        .enumerate()
        .map(|(number, bytes)| (format!("k{number}"), Btf::parse(bytes).unwrap(), bytes.as_slice()))
        .collect();
    same::build(&parsed)
}

/// All that a pack says of the small kernels, or its first error.
fn all_answers(bytes: &[u8]) -> Result<Vec<String>, PackError> {
    let file = PackFile::from_bytes(bytes.to_vec());
    let pack = file.view()?;
    let mut answers = Vec::new();
    let kernels = kernels();
    for (kernel, bytes) in (0..).zip(&kernels) {
        let btf = Btf::parse(bytes).unwrap();
        for root in same::roots(&btf) {
            let found = pack.expand(&root)?;
            let ids = pack.ids(kernel, None, &root)?;
            let types = pack.btf(pack.abi_of(kernel)?).map(|it| {
                let shapes = found.vmlinux.iter().flat_map(|it| pack.list(*it).into_iter().flatten());
                let shapes =
                    shapes.map(|id| (it.type_name(id), it.resolve_size(id), it.ty(id).map(|it| it.vlen())));
                format!("{:?}", shapes.collect::<Vec<_>>())
            });
            answers.push(format!("{:?} {ids:?} {types:?}", found.vmlinux.len()));
        }
        answers.push(format!("{:?} {:?}", pack.kernel(kernel)?, pack.roots_of(kernel, None)?));
        answers.push(format!("{:?}", pack.whole(kernel, None)?));
    }
    Ok(answers)
}

fn check(bytes: &[u8], right: &[String], what: &str) {
    let outcome = catch_unwind(|| {
        let verified = PackFile::from_bytes(bytes.to_vec()).view().and_then(|pack| pack::verify(&pack));
        (all_answers(bytes), verified)
    });
    let (answers, verified) = outcome.unwrap_or_else(|_| panic!("{what}: panicked"));
    if let Ok(answers) = answers {
        assert!(answers == right || verified.is_err(), "{what}: a wrong answer, and verify does not tell");
    }
}

/// Check every single byte that is cut off or flipped, and 10,000 random damages of several bits.
#[test]
fn damage_is_an_error_or_does_not_matter() {
    let whole = small_pack();
    let right = all_answers(&whole).unwrap();
    for len in 0..whole.len() {
        assert!(all_answers(&whole[..len]).is_err(), "cut to {len}");
    }
    let mut bytes = whole.clone();
    for at in 0..whole.len() {
        bytes[at] ^= 1 << (at % 8);
        check(&bytes, &right, &format!("bit of byte {at}"));
        bytes[at] = whole[at];
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).expect("64 bits") % below
    };
    for round in 0..10_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(4) {
            let (at, bit) = (random(whole.len()), random(8));
            bytes[at] ^= 1 << bit;
        }
        check(&bytes, &right, &format!("round {round}"));
    }
}

/// Check that a pack of a later version is refused by its number, and other files as no packs.
#[test]
fn later_versions_are_refused_by_name() {
    let mut bytes = small_pack();
    bytes[8] = 2;
    let err = |bytes: &[u8]| PackFile::from_bytes(bytes.to_vec()).view().map(|_| ()).unwrap_err();
    assert_eq!(err(&bytes), PackError::LaterVersion { found: 2, known: 1 });
    assert_eq!(err(&bytes).to_string(), "the pack has format version 2, this program reads version 1");
    assert_eq!(err(b"\x7fELF").to_string(), "not a pack: it does not start with the magic of packs");
    assert_eq!(err(b"").to_string(), "not a pack: the file is empty");
}
