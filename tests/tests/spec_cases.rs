//! The conformance table: section 13 of the specification of CO-RE relocation, case by case.
//!
//! Each row builds local and target types in a few lines, lists records with their instructions, and says what
//! each comes to. Every row runs in both byte orders.

#[path = "spec_cases/case.rs"]
mod case;
#[path = "spec_cases/fields.rs"]
mod fields;
#[path = "spec_cases/records.rs"]
mod records;
#[path = "spec_cases/types.rs"]
mod types;
#[path = "spec_cases/values.rs"]
mod values;

use case::{Case, check};

/// Number of the case in the specification, the behaviour, and the row.
type Row = (u32, &'static str, fn(&mut Case));

fn rows() -> impl Iterator<Item = Row> {
    [fields::ROWS, values::ROWS, types::ROWS, records::ROWS].into_iter().flatten().copied()
}

#[test]
fn every_case_of_the_specification_has_a_row() {
    // 87, 88: the kernel's own relocation only, see `kernel_judge`. 90: symbols, not records.
    let missing: Vec<u32> =
        (1..=86).chain([89]).filter(|number| rows().all(|(it, ..)| it != *number)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
}

#[test]
fn every_case_comes_out_as_in_libbpf() {
    let failures: Vec<String> = rows()
        .flat_map(|(number, what, build)| {
            check(build).into_iter().map(move |why| format!("case {number} ({what}): {why}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
