//! x
pub mod btf;
pub mod format;
pub mod kernel;
pub mod object;
pub mod patch;
pub mod query;
pub mod resolve;

#[cfg(test)]
#[allow(clippy::all)]
mod scratch {
    use crate::resolve::*;
    use std::collections::HashMap;
    #[test]
    fn corpus() {
        let root = "/work/shared/corpus";
        for (file, mods) in [("core_reloc-x-targets", 0), ("objects-x-kernels", 1), ("objects-x-modules", 2)] {
            let text = zstd::decode_all(std::fs::File::open(format!("{root}/expected/{file}.tsv.zst")).unwrap()).unwrap();
            let text = String::from_utf8(text).unwrap();
            let mut groups: Vec<(&str, &str, Vec<Vec<&str>>)> = vec![];
            for line in text.lines().skip(1) {
                let c: Vec<&str> = line.split('\t').collect();
                if groups.last().is_none_or(|g| g.0 != c[0] || g.1 != c[1]) { groups.push((c[0], c[1], vec![])); }
                groups.last_mut().unwrap().2.push(c);
            }
            let mut kbytes: HashMap<&str, (Vec<u8>, Option<Vec<u8>>)> = HashMap::new();
            for g in &groups {
                kbytes.entry(g.1).or_insert_with(|| match mods {
                    0 => (std::fs::read(format!("{root}/objects/{}", g.1)).unwrap(), None),
                    1 => (std::fs::read(format!("{root}/kernels/{}", g.1)).unwrap(), None),
                    _ => { let (k, _) = g.1.split_once('/').unwrap();
                        (std::fs::read(format!("{root}/kernels/{k}.btf")).unwrap(), Some(std::fs::read(format!("{root}/modules/{}", g.1)).unwrap())) }
                });
            }
            let t = std::time::Instant::now();
            let kernels: HashMap<&str, crate::kernel::Kernel> = kbytes.iter().map(|(k, (d, m))| {
                let bytes = if mods == 0 { use object::{Object, ObjectSection}; let f = object::File::parse(&d[..]).unwrap(); let s = f.section_by_name(".BTF").unwrap(); s.data().unwrap() } else { &d[..] };
                let mut kernel = crate::kernel::Kernel::parse(bytes).unwrap();
                if let Some(m) = m { kernel.add_module("m".into(), m).unwrap(); }
                (*k, kernel)
            }).collect();
            eprintln!("{} kernels {:?}", kernels.len(), t.elapsed());
            let mut obytes: HashMap<&str, Vec<u8>> = HashMap::new();
            for g in &groups { obytes.entry(g.0).or_insert_with(|| std::fs::read(format!("{root}/objects/{}", g.0)).unwrap()); }
            let t = std::time::Instant::now();
            let objects: HashMap<&str, crate::object::Object> = obytes.iter().map(|(k, d)| (*k, crate::object::Object::parse(d).unwrap())).collect();
            eprintln!("{} objects {:?}", objects.len(), t.elapsed());
            let (mut n, mut bad) = (0, 0);
            let mut time = std::time::Duration::ZERO;
            for (o, k, rows) in &groups {
                let obj = &objects[o];
                let t = std::time::Instant::now();
                let out = Fold::new(obj, &kernels[k], Modules::All).run(|_| true);
                time += t.elapsed();
                if out.len() != rows.len() { eprintln!("{o} {k}: {} records, expected {}", out.len(), rows.len()); bad += 1; continue; }
                for ((r, outcome), row) in obj.relocs().iter().zip(&out).zip(rows) {
                    n += 1;
                    let id = format!("{}\t{}\t{}\t{}\t{}", str::from_utf8(r.section).unwrap(), r.insn_off, r.kind.map_or("?", |k| k.name()), r.type_id, str::from_utf8(r.access).unwrap());
                    let want_id = row[2..7].join("\t");
                    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
                    let got = match outcome {
                        Outcome::Skipped => "no_prog\t".to_owned(),
                        Outcome::Fatal(e) => format!("error\t{}", e.errno()),
                        Outcome::Decided(d) => format!("{}\t0\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}", if d.poisoned {"poison"} else {"ok"}, d.unresolved as u8, d.validate as u8, d.orig, d.new.unwrap_or(0), d.orig_size, d.new_size, d.resize_fails as u8, d.target_type.0, hex(&d.insn)),
                        o => format!("{o:?}"),
                    };
                    let want = match row[7] { "no_prog" => "no_prog\t".to_owned(), "error" => format!("error\t{}", row[8]), _ => row[7..18].join("\t") };
                    if id != want_id || got != want { bad += 1; if bad < 10 { eprintln!("{o} {k}\n got {id} {got}\nwant {want_id} {want}"); } }
                }
            }
            eprintln!("{file}: {n} records, {bad} differ, {time:?}");
        }
    }
}
