//! Essential names.

use std::iter;

use btfleet_engine::btf::essential_len;
use btfleet_tests::generator::Rng;

use crate::compare::oracle;

/// Every name of up to `len` characters out of `a` and `_`.
fn all_up_to(len: u32) -> impl Iterator<Item = String> {
    (0..=len).flat_map(|len| {
        (0..1_u32 << len)
            .map(move |bits| (0..len).map(|at| if bits >> at & 1 == 1 { '_' } else { 'a' }).collect())
    })
}

#[test]
fn essential_names_end_where_libbpf_cuts_them() {
    let mut rng = Rng::new(5);
    let random = iter::repeat_with(|| {
        let len = rng.range(13, 64);
        (0..len).map(|_| *rng.pick(&["a", "_", "_", "___", "z9", "X"])).collect::<String>()
    });
    let names: Vec<String> = all_up_to(13).chain(random).take(40_000).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lengths = oracle().essential_len(&names).expect("lengths");
    assert_eq!(lengths.len(), names.len());
    let cut = names.iter().zip(&lengths).filter(|(name, len)| name.len() != **len as usize).count();
    assert!(cut > 5_000, "only {cut} names have a flavour");
    for (name, len) in names.iter().zip(lengths) {
        assert_eq!(essential_len(name.as_bytes()), len as usize, "{name}");
    }
}
