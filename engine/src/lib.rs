//! x
pub mod btf;
pub mod format;
#[cfg(test)]
mod scratch {
    #[test]
    fn t() {
        for f in std::fs::read_dir("/work/shared/corpus/kernels").unwrap() {
            let p = f.unwrap().path();
            if p.extension().is_none_or(|e| e != "btf") { continue }
            let d = std::fs::read(&p).unwrap();
            let t = std::time::Instant::now();
            let b = crate::btf::Btf::parse(&d).unwrap();
            let t1 = t.elapsed();
            let t = std::time::Instant::now();
            let r = crate::btf::RootIndex::build(&b);
            eprintln!("{:?} {} {:?} {:?} ptr {}", p.file_name().unwrap(), b.type_count(), t1, t.elapsed(), b.pointer_size());
            let c: Vec<_> = r.candidates(&b, b"nf_conn", crate::btf::NameHash::of(b"nf_conn"), crate::format::btf::Kind::Struct).collect();
            eprintln!("{c:?}");
        }
    }
}
