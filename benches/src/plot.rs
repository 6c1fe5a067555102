//! A picture of curves: panels side by side, both axes logarithmic, as SVG.

use std::fmt::Write as _;

/// One diagram.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What is to the right.
    pub x_label: &'static str,
    /// What is up.
    pub y_label: &'static str,
    /// Curves, in the order of their colours.
    pub curves: Vec<Curve>,
}

/// One line through points, which are positive.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is called.
    pub name: &'static str,
    /// Points, by x.
    pub points: Vec<(f64, f64)>,
}

const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 320.0;
/// Of the area of the curves within a panel.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 400.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 270.0;

/// Draws panels side by side.
pub fn svg(panels: &[Panel]) -> String {
    let width = WIDTH * panels.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        panel.draw(WIDTH * number as f64, &mut text);
    }
    text.push_str("</svg>\n");
    text
}

/// A logarithmic axis.
struct Axis {
    /// Logarithms of both ends.
    from: f64,
    to: f64,
    /// Where the ends are in the picture.
    at: (f64, f64),
}

impl Axis {
    /// Takes in all values, and whole decades if `decades`.
    fn new(values: impl Iterator<Item = f64> + Clone, decades: bool, at: (f64, f64)) -> Self {
        let (mut from, mut to) = (
            values.clone().fold(f64::INFINITY, f64::min).log10(),
            values.fold(f64::NEG_INFINITY, f64::max).log10(),
        );
        if decades {
            (from, to) = (from.floor(), to.ceil());
        }
        if to - from < 1e-9 {
            to = from + 1.0;
        }
        Self { from, to, at }
    }

    fn place(&self, value: f64) -> f64 {
        self.at.0 + (value.log10() - self.from) / (self.to - self.from) * (self.at.1 - self.at.0)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        // From a nanosecond to eleven days, where times are in milliseconds.
        (-6..=9).filter(|it| (self.from..=self.to).contains(&f64::from(*it))).map(|it| 10_f64.powi(it))
    }
}

impl Panel {
    fn draw(&self, left: f64, text: &mut String) {
        let points = || self.curves.iter().flat_map(|it| &it.points);
        let x = Axis::new(points().map(|it| it.0), false, (left + LEFT, left + RIGHT));
        let y = Axis::new(points().map(|it| it.1), true, (BOTTOM, TOP));
        let mut label = |at: (f64, f64), anchor: &str, more: &str, what: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\"{more}>{what}</text>",
                at.0, at.1
            );
        };
        let middle = left + (LEFT + RIGHT) / 2.0;
        label((middle, 20.0), "middle", " font-weight=\"bold\"", &self.title);
        label((middle, HEIGHT - 12.0), "middle", "", self.x_label);
        let turned = format!(" transform=\"rotate(-90 {:.1} 160)\"", left + 14.0);
        label((left + 14.0, 160.0), "middle", &turned, self.y_label);
        for value in y.decades() {
            label((left + LEFT - 6.0, y.place(value) + 4.0), "end", "", &number(value));
        }
        let mut ticks: Vec<f64> =
            self.curves.first().map(|it| it.points.iter().map(|it| it.0).collect()).unwrap_or_default();
        ticks.dedup();
        for value in &ticks {
            label((x.place(*value), BOTTOM + 16.0), "middle", "", &number(*value));
        }
        let mut line = |from: (f64, f64), to: (f64, f64)| {
            let _ = writeln!(
                text,
                "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
                from.0, from.1, to.0, to.1
            );
        };
        for value in y.decades() {
            line((left + LEFT, y.place(value)), (left + RIGHT, y.place(value)));
        }
        for value in ticks {
            line((x.place(value), TOP), (x.place(value), BOTTOM));
        }
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            let path: Vec<String> =
                curve.points.iter().map(|it| format!("{:.1},{:.1}", x.place(it.0), y.place(it.1))).collect();
            let _ = writeln!(
                text,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for &(at_x, at_y) in &curve.points {
                let _ = writeln!(
                    text,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                    x.place(at_x),
                    y.place(at_y)
                );
            }
            if let Some(&(at_x, at_y)) = curve.points.last() {
                let _ = writeln!(
                    text,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
                    x.place(at_x),
                    y.place(at_y) - 8.0,
                    curve.name
                );
            }
        }
    }
}

/// As short as it goes.
fn number(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{value}") }
}
