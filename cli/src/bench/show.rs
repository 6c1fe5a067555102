//! Measurements as a table for people, and as CSV with one line for each figure.

use btfleet_engine::matchers::MATCHERS;

use super::OnKernel;
use super::measure::{Bench, Figures, MEASURES, ROUNDS, Times};
use crate::args::BenchFormat;
use crate::output::{DIM, Failure, HEAD, Output, paint, plural};

/// Width of the first column, and of the others.
const NAME_WIDTH: usize = 16;
const WIDTH: usize = 11;
/// What a table shows of each measure: how many quarters of the times are not above it.
const SPREAD: [(&str, usize); 4] = [("", 2), ("min", 0), ("q1", 1), ("q3", 3)];

const CSV_HEAD: &str = "cpu,kernel,types,root_types,lookups,hits,misses,matcher,bytes,measure,samples,min_ns,q1_ns,\
                        median_ns,q3_ns";

/// Shows each kernel as soon as it was measured, and at the end all of them together.
pub(super) struct Report {
    out: Output,
    format: BenchFormat,
    cpu: String,
    kernels: Vec<OnKernel>,
}

impl Report {
    pub(super) fn new(format: BenchFormat, bench: &Bench, what: &str) -> Result<Self, Failure> {
        let mut this =
            Self { out: Output::new(), format, cpu: cpu_model().unwrap_or_default(), kernels: Vec::new() };
        match format {
            BenchFormat::Csv => this.out.line(CSV_HEAD)?,
            BenchFormat::Table => this.head(bench, what)?,
        }
        Ok(this)
    }

    fn head(&mut self, bench: &Bench, what: &str) -> Result<(), Failure> {
        let cpu = if self.cpu.is_empty() { "an unknown processor" } else { &self.cpu };
        self.out.line(&format!("Candidate search on {cpu}, one thread; {what}"))?;
        for matcher in MATCHERS {
            self.out.line(&format!("  {:NAME_WIDTH$}  {}", matcher.name, matcher.about))?;
        }
        self.out.line(&paint(
            DIM,
            &format!(
                "Medians of {ROUNDS} rounds in which the matchers take turns. warm: lookups one after another; cold: \
                 one lookup after\nwalking {} MiB of other memory; one object: building and its lookups; pays off: \
                 lookups from which building beats the scan.",
                bench.walked_len() >> 20,
            ),
        ))
    }

    pub(super) fn kernel(&mut self, measured: OnKernel) -> Result<(), Failure> {
        match self.format {
            BenchFormat::Csv => self.csv(&measured)?,
            BenchFormat::Table => {
                self.out.line("")?;
                self.out.line(&paint(HEAD, &measured.kernel))?;
                self.out.line(&format!(
                    "{}, {} of kinds that programs look up; {}: {}, {}; one object: {}",
                    plural(measured.type_count as usize, "type"),
                    measured.root_type_count,
                    plural(measured.lookup_count, "lookup"),
                    plural(measured.hit_count, "hit"),
                    if measured.miss_count() == 1 {
                        "1 miss".into()
                    } else {
                        format!("{} misses", measured.miss_count())
                    },
                    measured.one_object,
                ))?;
                self.table(measured.root_type_count, &measured.figures)?;
            }
        }
        // A run over many kernels takes minutes.
        self.out.flush()?;
        self.kernels.push(measured);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        if self.format == BenchFormat::Table && self.kernels.len() > 1 {
            let kernels = std::mem::take(&mut self.kernels);
            let roots: usize = kernels.iter().map(|it| it.root_type_count).sum();
            self.out.line("")?;
            self.out.line(&paint(HEAD, &format!("all {} kernels", kernels.len())))?;
            self.out.line(
                "Sums of memory; of each time the median of the kernels' medians, and how these spread",
            )?;
            let figures: Vec<Figures> = (0..MATCHERS.len())
                .map(|number| over_kernels(kernels.iter().filter_map(|it| it.figures.get(number))))
                .collect();
            self.table(roots, &figures)?;
        }
        self.out.finish()
    }

    fn table(&mut self, root_type_count: usize, figures: &[Figures]) -> Result<(), Failure> {
        let mut head = format!("{:NAME_WIDTH$}{:>WIDTH$}{:>WIDTH$}", "", "KiB", "bytes/type");
        for (name, _) in MEASURES {
            head.push_str(&format!("{:>WIDTH$}", name.replace('-', " ")));
        }
        head.push_str(&format!("{:>WIDTH$}", "pays off"));
        self.out.line(&paint(HEAD, &head))?;
        for (matcher, own) in MATCHERS.iter().zip(figures) {
            for (spread, quarters) in SPREAD {
                let mut line = match spread {
                    "" => format!(
                        "{:NAME_WIDTH$}{:>WIDTH$}{:>WIDTH$.1}",
                        matcher.name,
                        own.bytes.div_ceil(1 << 10),
                        count(own.bytes) / count(root_type_count.max(1)),
                    ),
                    _ => format!("{:NAME_WIDTH$}{:WIDTH$}{:WIDTH$}", format!("  {spread}"), "", ""),
                };
                for (_, times) in MEASURES {
                    let time = times(own).quartile(quarters).map_or("-".into(), show_time);
                    line.push_str(&format!("{time:>WIDTH$}"));
                }
                match spread {
                    "" => {
                        let pays_off = figures.first().and_then(|scan| pays_off(scan, own));
                        let pays_off = pays_off.map_or("-".into(), |it| format!("{it:.0}"));
                        self.out.line(&format!("{line}{pays_off:>WIDTH$}"))?;
                    }
                    _ => self.out.line(&paint(DIM, &line))?,
                }
            }
        }
        Ok(())
    }

    fn csv(&mut self, on: &OnKernel) -> Result<(), Failure> {
        let before = format!(
            "{},{},{},{},{},{},{}",
            csv_text(&self.cpu),
            csv_text(&on.kernel),
            on.type_count,
            on.root_type_count,
            on.lookup_count,
            on.hit_count,
            on.miss_count(),
        );
        for (matcher, figures) in MATCHERS.iter().zip(&on.figures) {
            for (measure, times) in MEASURES {
                let times = times(figures);
                let mut line =
                    format!("{before},{},{},{measure},{}", matcher.name, figures.bytes, times.len());
                for quarters in [0, 1, 2, 3] {
                    let time = times.quartile(quarters).map(|it| format!("{it:.1}"));
                    line.push(',');
                    line.push_str(time.as_deref().unwrap_or_default());
                }
                self.out.line(&line)?;
            }
        }
        Ok(())
    }
}

fn over_kernels<'a>(all: impl Iterator<Item = &'a Figures> + Clone) -> Figures {
    let of = |times: fn(&Figures) -> &Times| Times::of_medians(all.clone().map(times));
    Figures {
        bytes: all.clone().map(|it| it.bytes).sum(),
        build: of(|it| &it.build),
        warm_hit: of(|it| &it.warm_hit),
        warm_miss: of(|it| &it.warm_miss),
        cold_hit: of(|it| &it.cold_hit),
        cold_miss: of(|it| &it.cold_miss),
        one_object: of(|it| &it.one_object),
    }
}

/// Number of warm lookups from which building `own` and looking up there takes less time than scanning; `None` if never.
fn pays_off(scan: &Figures, own: &Figures) -> Option<f64> {
    let lookup = |it: &Figures| it.warm_hit.median().or(it.warm_miss.median());
    let saved = lookup(scan)? - lookup(own)?;
    (saved > 0.0).then_some((own.build.median()? / saved).ceil())
}

/// Three digits and a unit.
fn show_time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        1e3..1e6 => (nanos / 1e3, "µs"),
        1e6..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A number for division; what is counted here is far below 2^52.
fn count(number: usize) -> f64 {
    number as f64
}

fn csv_text(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// What Linux calls the processor.
fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
