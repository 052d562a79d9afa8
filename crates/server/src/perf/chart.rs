//! The drawn results: throughput and latency over time, and latency by percentile, as an SVG.

use std::ops::Range;
use std::path::{Path, PathBuf};

use plotters::{
    coord::{
        combinators::BindKeyPoints,
        ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, Ranged, ValueFormatter},
    },
    prelude::*,
};

use super::files;
use super::summary::{Percentiles, Second, Summary};

const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 300;
const TITLE_HEIGHT: u32 = 56;
const MARGIN: u32 = 14;
const FONT: &str = "sans-serif";
/// Colours that are told apart also by who does not see red and green.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x59, 0x59, 0x59),
    RGBColor(0x7b, 0x32, 0x94),
];

/// A named line.
struct Series {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// What stands beside the axes.
struct Panel {
    y: &'static str,
    x: Axis,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Axis {
    Seconds,
    /// The count of nines, so that 99.9 lies as far from 99 as 99 from 90.
    Percentiles,
}

/// p50.
const NINES_MIN: f64 = 0.301;
/// The maximum, which has no percentile, stands where p99.999 would.
const NINES_MAX: f64 = 5.0;

/// So many labels an axis over time has at most.
const SECONDS_LABELS_MAX: f64 = 12.0;
/// Above the highest throughput there is room for the names of the lines.
const HEADROOM: f64 = 1.3;

type Drawn = Result<(), String>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The name of a file to draw into.
///
/// # Errors
/// Where it promises something else than is drawn.
pub(super) fn file(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    let is_svg = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg"));
    if is_svg { Ok(path) } else { Err("charts are SVG: its name has to end in .svg".to_owned()) }
}

/// Draws the results into a file.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn draw(summary: &Summary, path: &Path) -> Drawn {
    let mut text = String::new();
    let over_time = throughput(&summary.seconds);
    let latencies = latency(&summary.seconds);
    let by_percentile = percentiles(summary);
    let panels = 1 + u32::from(!latencies.is_empty()) * 2;
    {
        let size = (WIDTH, TITLE_HEIGHT + PANEL_HEIGHT * panels);
        let whole = SVGBackend::with_string(&mut text, size).into_drawing_area();
        whole.fill(&WHITE).map_err(said)?;
        let (title, rest) = whole.split_vertically(TITLE_HEIGHT);
        heading(summary, &title)?;
        let areas = rest.split_evenly((panels as usize, 1));
        let until = last_x(&over_time);
        let panel = Panel { y: "MB/s", x: Axis::Seconds };
        panel.draw(&areas[0], &over_time, 0.0..until, 0.0..top(&over_time))?;
        if let [_, second, third] = &areas[..] {
            let panel = Panel { y: "latency, ms", x: Axis::Seconds };
            panel.draw(second, &latencies, 0.0..until, log_scale(&latencies))?;
            let panel = Panel { y: "latency, ms", x: Axis::Percentiles };
            panel.draw(third, &by_percentile, NINES_MIN..NINES_MAX, log_scale(&by_percentile))?;
        }
        whole.present().map_err(said)?;
    }
    files::write(path, &text)
}

fn said(error: impl std::fmt::Display) -> String {
    format!("cannot draw: {error}")
}

fn heading(summary: &Summary, area: &Area<'_>) -> Drawn {
    let settings: Vec<String> =
        summary.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let title = format!("{}  {}", summary.workload, summary.broker);
    let draw = |text: String, size: i32, y: i32| {
        let style = (FONT, size).into_font().color(&BLACK);
        area.draw(&Text::new(text, (14, y), style)).map_err(said)
    };
    draw(title, 20, 8)?;
    draw(settings.join("  "), 12, 36)
}

fn throughput(seconds: &[Second]) -> Vec<Series> {
    let of = |name, value: fn(&Second) -> f64| Series {
        name,
        points: seconds.iter().map(|second| (x(second), value(second))).collect(),
    };
    let all =
        [of("produced", |second| second.produced_mb), of("consumed", |second| second.consumed_mb)];
    all.into_iter().filter(|series| series.points.iter().any(|(_, y)| *y > 0.0)).collect()
}

fn latency(seconds: &[Second]) -> Vec<Series> {
    type Of = fn(&Second) -> Option<&Percentiles>;
    let of = |name, of: Of, value: fn(&Percentiles) -> f64| Series {
        name,
        points: seconds.iter().filter_map(|second| Some((x(second), value(of(second)?)))).collect(),
    };
    let acknowledged: Of = |second| second.acknowledged_ms.as_ref();
    let end_to_end: Of = |second| second.end_to_end_ms.as_ref();
    let all = [
        of("ack p50", acknowledged, |all| all.p50),
        of("ack p99", acknowledged, |all| all.p99),
        of("ack max", acknowledged, |all| all.max),
        of("end to end p99", end_to_end, |all| all.p99),
    ];
    all.into_iter().filter(|series| !series.points.is_empty()).collect()
}

fn percentiles(summary: &Summary) -> Vec<Series> {
    let of = |name, percentiles: Option<&Percentiles>| {
        let points = percentiles?.curve().into_iter();
        let points = points.map(|(percent, ms)| (-(1.0 - percent / 100.0).log10(), ms));
        Some(Series { name, points: points.collect() })
    };
    let all = [
        of("ack", summary.acknowledged_ms.as_ref()),
        of("end to end", summary.end_to_end_ms.as_ref()),
    ];
    all.into_iter().flatten().collect()
}

/// The middle of a second.
#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
fn x(second: &Second) -> f64 {
    second.second as f64 + 0.5
}

/// The end of the last second.
fn last_x(series: &[Series]) -> f64 {
    let points = series.iter().flat_map(|series| &series.points);
    points.map(|(x, _)| *x).fold(0.5, f64::max) + 0.5
}

fn top(series: &[Series]) -> f64 {
    let points = series.iter().flat_map(|series| &series.points);
    points.map(|(_, y)| *y).fold(0.001, f64::max) * HEADROOM
}

/// From below the least to above the most, with labels at 1, 2 and 5 of each power of ten.
fn log_scale(
    series: &[Series],
) -> impl AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>> {
    let points = || series.iter().flat_map(|series| &series.points).map(|(_, y)| *y);
    let least = points().fold(f64::INFINITY, f64::min).clamp(0.001, 1e6);
    let (from, to) = (least / 1.5, points().fold(least, f64::max) * 1.5);
    let labels = steps().filter(|step| (from..=to).contains(step)).collect();
    (from..to).log_scale().with_key_points(labels)
}

/// 1, 2 and 5 of each power of ten that a latency in milliseconds or a run in seconds has.
fn steps() -> impl Iterator<Item = f64> {
    (-4..8).flat_map(|power| [1.0, 2.0, 5.0].map(|first| first * 10_f64.powi(power)))
}

/// Where an axis that ends at `until` has labels: at whole seconds.
fn seconds(until: f64) -> Vec<f64> {
    let step = steps().find(|step| *step >= 1.0 && until / step <= SECONDS_LABELS_MAX);
    let step = step.unwrap_or(until);
    std::iter::successors(Some(0.0), |x| Some(x + step)).take_while(|x| *x <= until).collect()
}

/// An even axis with labels where it is told.
struct Labelled {
    xs: Range<f64>,
    labels: Vec<f64>,
}

impl Ranged for Labelled {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "a pixel of those between the limits")]
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.xs.start) / (self.xs.end - self.xs.start);
        from + (f64::from(to - from) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.labels.clone()
    }

    fn range(&self) -> Range<f64> {
        self.xs.clone()
    }
}

impl Panel {
    fn draw<Y>(&self, area: &Area<'_>, series: &[Series], xs: Range<f64>, ys: Y) -> Drawn
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let labels = self.x.labels(xs.end);
        let mut chart = ChartBuilder::on(area)
            .margin(MARGIN)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(Labelled { xs, labels }, ys)
            .map_err(said)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .y_labels(6)
            .y_desc(self.y)
            .x_desc(self.x.description())
            .x_label_formatter(&|x| self.x.label(*x))
            .y_label_formatter(&|y| ((y * 1e4).round() / 1e4).to_string())
            .label_style((FONT, 12))
            .axis_desc_style((FONT, 13))
            .draw()
            .map_err(said)?;
        for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            let line = LineSeries::new(series.points.iter().copied(), style);
            chart
                .draw_series(line)
                .map_err(said)?
                .label(series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(self.x.legend_position())
            .background_style(WHITE.mix(0.85))
            .label_font((FONT, 12))
            .draw()
            .map_err(said)
    }
}

impl Axis {
    fn description(self) -> &'static str {
        match self {
            Axis::Seconds => "seconds",
            Axis::Percentiles => "share of the records",
        }
    }

    /// Where labels stand, on an axis that ends at `until`.
    fn labels(self, until: f64) -> Vec<f64> {
        match self {
            Axis::Seconds => seconds(until),
            Axis::Percentiles => vec![NINES_MIN, 1.0, 2.0, 3.0, 4.0, NINES_MAX],
        }
    }

    fn label(self, x: f64) -> String {
        match self {
            Axis::Seconds => format!("{x:.0}"),
            Axis::Percentiles if x > NINES_MAX - 0.1 => "max".to_owned(),
            Axis::Percentiles => {
                let percent = 100.0 - 100.0 * 10_f64.powf(-x);
                let digits = if x < 1.0 { 1.0 } else { 1000.0 };
                format!("p{}", (percent * digits).round() / digits)
            }
        }
    }

    /// Where lines seldom are.
    fn legend_position(self) -> SeriesLabelPosition {
        match self {
            Axis::Seconds => SeriesLabelPosition::UpperRight,
            Axis::Percentiles => SeriesLabelPosition::UpperLeft,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_named_at_their_nines() {
        let named: Vec<String> = Axis::Percentiles
            .labels(NINES_MAX)
            .iter()
            .map(|x| Axis::Percentiles.label(*x))
            .collect();
        assert_eq!(named, ["p50", "p90", "p99", "p99.9", "p99.99", "max"]);
    }

    #[test]
    fn a_name_says_what_is_drawn() {
        assert_eq!(file("a/b.SVG"), Ok(PathBuf::from("a/b.SVG")));
        for name in ["chart.png", "svg", ""] {
            assert!(file(name).is_err(), "{name}");
        }
    }

    #[test]
    fn no_second_is_named_twice() {
        for (until, expected) in [
            (1.0, vec![0.0, 1.0]),
            (5.0, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            (25.0, vec![0.0, 5.0, 10.0, 15.0, 20.0, 25.0]),
        ] {
            assert_eq!(seconds(until), expected);
        }
        assert_eq!(seconds(3600.0).len(), 8, "0 to 3500 by 500");
    }
}
