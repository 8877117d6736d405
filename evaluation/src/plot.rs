//! Charts as SVG text: bars against a line, time series, distributions.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::stats;

/// Colours that those who see few colours can tell apart (Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
];

const FONT: &str = "sans-serif";
const TEXT: u32 = 13;
const TITLE: u32 = 18;
const HEIGHT: u32 = 420;
const WIDTH: u32 = 900;
/// The width of a group of bars.
const GROUP: u32 = 100;

/// How much of a group's width its bars take.
const BARS: f64 = 0.8;

/// Bars that stand together over one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What is below them.
    pub name: String,
    /// A bar for each kind of the chart, where there is one.
    pub bars: Vec<Option<f64>>,
    /// The height of the line across them.
    pub line: f64,
}

/// A named line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// Curves over the same axes.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What is to the right.
    pub x: String,
    /// What is upwards.
    pub y: String,
    /// The curves.
    pub curves: Vec<Curve>,
    /// Values of x at which something happened, and what.
    pub marks: Vec<(f64, String)>,
}

impl Curve {
    /// Values at the ends of steps of this length, from zero.
    pub fn steps(name: impl Into<String>, step: f64, values: &[f64]) -> Self {
        let points = values.iter().enumerate().map(|(index, value)| ((index + 1) as f64 * step, *value));
        Self { name: name.into(), points: points.collect() }
    }

    /// The distribution of values: which share of them is no larger.
    pub fn distribution(name: impl Into<String>, values: &[f64]) -> Self {
        let point =
            |percent: u32| Some((stats::percentile(values, f64::from(percent))?, f64::from(percent) / 100.0));
        Self { name: name.into(), points: (0..=100).filter_map(point).collect() }
    }
}

/// Groups of bars of these kinds, with a line over each group.
pub fn bars(title: &str, y: &str, kinds: &[&str], line: &str, groups: &[Group]) -> Result<String> {
    let width = (GROUP * groups.len() as u32 + 120).max(WIDTH / 2);
    let most = groups.iter().flat_map(|group| group.bars.iter().flatten().chain([&group.line]));
    let most = most.copied().fold(0.0, f64::max);
    draw(width, HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, (FONT, TITLE))
            .margin(10)
            .set_label_area_size(LabelAreaPosition::Left, 60)
            .set_label_area_size(LabelAreaPosition::Bottom, 30)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..upper(most * 1.2))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc(y)
            .label_style((FONT, TEXT))
            .draw()?;
        let step = BARS / kinds.len().max(1) as f64;
        for (kind, name) in kinds.iter().enumerate() {
            let colour = colour(kind);
            let boxes = groups.iter().enumerate().filter_map(|(place, group)| {
                let left = place as f64 + (1.0 - BARS) / 2.0 + kind as f64 * step;
                let height = (*group.bars.get(kind)?)?;
                Some(Rectangle::new([(left, 0.0), (left + step * 0.95, height)], colour.filled()))
            });
            chart
                .draw_series(boxes)?
                .label(*name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
        }
        let lines = groups.iter().enumerate().map(|(place, group)| {
            let place = place as f64;
            PathElement::new(
                vec![(place + 0.05, group.line), (place + 0.95, group.line)],
                BLACK.stroke_width(2),
            )
        });
        chart
            .draw_series(lines)?
            .label(line)
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], BLACK.stroke_width(2)));
        let style = (FONT, TEXT).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
        for (place, group) in groups.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(place as f64 + 0.5, 0.0));
            area.draw_text(&group.name, &style, (x, y + 8))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, TEXT))
            .draw()?;
        Ok(())
    })
}

/// Panels one below the other.
pub fn panels(title: &str, panels: &[Panel]) -> Result<String> {
    let height = if panels.len() > 1 { HEIGHT * 3 / 4 } else { HEIGHT };
    draw(WIDTH, height * panels.len().max(1) as u32 + 30, |area| {
        let area = area.titled(title, (FONT, TITLE))?;
        let parts = area.split_evenly((panels.len().max(1), 1));
        parts.iter().zip(panels).try_for_each(|(part, panel)| draw_panel(part, panel))
    })
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Result<()> {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let right = upper(points().map(|point| point.0).fold(0.0, f64::max));
    let top = upper(points().map(|point| point.1).fold(0.0, f64::max) * 1.1);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .set_label_area_size(LabelAreaPosition::Left, 60)
        .set_label_area_size(LabelAreaPosition::Bottom, 40)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .label_style((FONT, TEXT))
        .draw()?;
    for (at, what) in &panel.marks {
        let style = BLACK.mix(0.5).stroke_width(1);
        chart.draw_series([PathElement::new(vec![(*at, 0.0), (*at, top)], style)])?;
        let text = (FONT, TEXT).into_font().color(&BLACK.mix(0.7));
        chart.draw_series([Text::new(what.clone(), (*at, top * 0.97), text)])?;
    }
    for (index, curve) in panel.curves.iter().enumerate() {
        let style = colour(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), style))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], style));
    }
    if panel.curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, TEXT))
            .draw()?;
    }
    Ok(())
}

fn draw(
    width: u32,
    height: u32,
    paint: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()>,
) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        area.fill(&WHITE)?;
        paint(&area)?;
        area.present()?;
    }
    Ok(text)
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// An axis needs some length, whatever the values are.
fn upper(most: f64) -> f64 {
    if most > 0.0 { most } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_rises_to_one() {
        let curve = Curve::distribution("ping", &[30.0, 10.0, 20.0]);
        assert_eq!(curve.points.first(), Some(&(10.0, 0.0)));
        assert_eq!(curve.points[50], (20.0, 0.5));
        assert_eq!(curve.points.last(), Some(&(30.0, 1.0)));
        assert_eq!(Curve::distribution("nothing", &[]).points, []);
    }

    #[test]
    fn charts_name_what_they_show() {
        let group = Group { name: "equal".into(), bars: vec![Some(91.0), None], line: 100.0 };
        let text = bars("Throughput", "Mbit/s", &["bonded", "MPTCP"], "sum", &[group]).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for word in ["Throughput", "Mbit/s", "bonded", "MPTCP", "sum", "equal"] {
            assert!(text.contains(word), "{word}");
        }
        let panel = Panel {
            x: "seconds".into(),
            y: "Mbit/s".into(),
            curves: vec![Curve::steps("goodput", 0.1, &[1.0, 2.0])],
            marks: vec![(0.15, "cut".into())],
        };
        let text = panels("Failover", &[panel.clone(), panel]).unwrap();
        assert!(["Failover", "seconds", "cut"].iter().all(|word| text.contains(word)));
    }

    #[test]
    fn charts_of_nothing_are_no_error() {
        bars("Nothing", "Mbit/s", &["bonded"], "sum", &[]).unwrap();
        panels("Nothing", &[Panel::default()]).unwrap();
    }
}
