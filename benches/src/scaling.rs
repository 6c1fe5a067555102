//! How the time grows with objects and with kernels.

use std::fmt::Write as _;
use std::path::Path;

use btfleet_engine::batch::Batch;

use crate::clock::Time;
use crate::fleet::{self, Distinct, Phases};
use crate::plot::{Curve, Panel};
use crate::set::{Set, spread};
use crate::stats::Stats;
use crate::workload::File;

/// One measured workload.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Number of objects.
    pub objects: usize,
    /// Number of kernels, all from a pack of just these.
    pub kernels: usize,
    /// What of it is distinct.
    pub distinct: Distinct,
    /// Bytes of the pack.
    pub pack_len: usize,
    /// Least CPU time of all rounds in ms, from objects' bytes to every row. Points are measured one after the other, so
    /// that a slow minute of the machine would bend the curve.
    pub millis: f64,
    /// Likewise of the part of it that questions are answered in.
    pub resolve_millis: f64,
    /// CPU time of libbpf's relocation of the same pairs in ms, where it was measured.
    pub libbpf_millis: Option<f64>,
}

/// All curves.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// Parts of the objects on all kernels.
    pub over_objects: Vec<Point>,
    /// All objects on parts of the kernels.
    pub over_kernels: Vec<Point>,
    /// All objects on half of the kernels of one stable series, and on all of them.
    pub over_series: Vec<Point>,
}

/// What libbpf took, by kernel and object.
pub type PairTimes = [Vec<Time>];

/// Measures all curves; packs are written to `scratch`.
///
/// # Errors
/// If a kernel or an object is refused, or the pack cannot be written.
pub fn measure(
    set: &Set,
    rounds: usize,
    scratch: &Path,
    libbpf: Option<&PairTimes>,
) -> Result<Scaling, String> {
    let objects: Vec<usize> = (0..set.objects.len()).collect();
    let kernels: Vec<usize> = (0..set.kernels.len()).collect();
    let point = |objects: &[usize], all: &[File], kernels: &[usize], libbpf: Option<&PairTimes>| {
        let files: Vec<&File> = objects.iter().filter_map(|&it| set.objects.get(it)).collect();
        let kernel_files: Vec<&File> = kernels.iter().filter_map(|&it| all.get(it)).collect();
        let libbpf_millis = libbpf.map(|times| {
            let of_kernels = kernels.iter().filter_map(|&it| times.get(it));
            let pairs = of_kernels.flat_map(|it| objects.iter().filter_map(|&object| it.get(object)));
            pairs.map(|it| it.cpu.as_secs_f64() * 1e3).sum()
        });
        measure_point(&files, &kernel_files, rounds, scratch, libbpf_millis)
    };
    let over_objects = [16, 8, 4, 2, 1].map(|part| objects.len() / part).into_iter().filter(|it| *it > 0);
    let over_kernels = [1, 2, 5, 10, 20, 40, 80, 160].into_iter().filter(|it| *it <= kernels.len());
    let series: Vec<usize> = (0..set.series.len()).collect();
    let over_series = if series.len() < 2 { Vec::new() } else { vec![series.len() / 2, series.len()] };
    Ok(Scaling {
        over_objects: over_objects
            .map(|count| point(&spread(&objects, count), &set.kernels, &kernels, libbpf))
            .collect::<Result<_, _>>()?,
        over_kernels: over_kernels
            .map(|count| point(&objects, &set.kernels, &spread(&kernels, count), libbpf))
            .collect::<Result<_, _>>()?,
        over_series: over_series
            .into_iter()
            .map(|count| point(&objects, &set.series, &spread(&series, count), None))
            .collect::<Result<_, _>>()?,
    })
}

fn measure_point(
    files: &[&File],
    kernel_files: &[&File],
    rounds: usize,
    scratch: &Path,
    libbpf_millis: Option<f64>,
) -> Result<Point, String> {
    let loaded = fleet::load(kernel_files)?;
    let (pack_len, _) = fleet::write_pack(scratch, kernel_files, &loaded)?;
    drop(loaded);
    fleet::with_pack(scratch, |_, kernels| {
        // The first round also touches the pack for the first time.
        let (_, distinct) =
            fleet::round(&Batch::SEQUENTIAL, files, kernels, |rows| Ok(rows.distinct(kernels)))?;
        let mut measured: Vec<Phases> = Vec::new();
        for _ in 0..rounds {
            measured.push(fleet::round(&Batch::SEQUENTIAL, files, kernels, |_| Ok(()))?.0);
        }
        Ok(Point {
            objects: files.len(),
            kernels: kernels.len(),
            distinct,
            pack_len,
            millis: Stats::of(measured.iter().map(|it| it.total().cpu)).min,
            resolve_millis: Stats::of(measured.iter().map(|it| it.resolve.cpu)).min,
            libbpf_millis,
        })
    })
}

impl Scaling {
    /// As a table with tabs between the columns.
    pub fn tsv(&self) -> String {
        let mut text = "curve\tobjects\tkernels\trecords\tqueries\tshapes\tanswers\tpack_bytes\tbtfleet_best_ms\tresolve_best_ms\tlibbpf_ms\tratio\n".to_owned();
        for (curve, points) in
            [("objects", &self.over_objects), ("kernels", &self.over_kernels), ("series", &self.over_series)]
        {
            for it in points {
                let Distinct { records, queries, shapes, answers, .. } = it.distinct;
                let libbpf = it.libbpf_millis.map_or_else(
                    || "-\t-".to_owned(),
                    |libbpf| format!("{libbpf:.1}\t{:.0}", libbpf / it.millis),
                );
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{curve}\t{}\t{}\t{records}\t{queries}\t{shapes}\t{answers}\t{}\t{:.3}\t{:.3}\t{libbpf}",
                    it.objects, it.kernels, it.pack_len, it.millis, it.resolve_millis
                );
            }
        }
        text
    }

    /// As diagrams.
    pub fn panels(&self) -> Vec<Panel> {
        let panel = |title: String, x_label, points: &[Point], x: fn(&Point) -> usize| {
            let curve = |name, y: fn(&Point) -> Option<f64>| Curve {
                name,
                points: points.iter().filter_map(|it| Some((x(it) as f64, y(it)?))).collect(),
            };
            let mut curves = vec![
                curve("btfleet", |it| Some(it.millis)),
                curve("libbpf, relocation alone", |it| it.libbpf_millis),
            ];
            curves.retain(|it| !it.points.is_empty());
            Panel { title, x_label, y_label: "CPU time in ms, both axes logarithmic", curves }
        };
        let (most_objects, most_kernels) =
            self.over_objects.last().map_or((0, 0), |it| (it.objects, it.kernels));
        vec![
            panel(format!("Objects on {most_kernels} kernels"), "objects", &self.over_objects, |it| {
                it.objects
            }),
            panel(format!("{most_objects} objects on kernels"), "kernels", &self.over_kernels, |it| {
                it.kernels
            }),
        ]
    }
}
