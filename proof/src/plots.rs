//! The plots of `docs/gate.md`, as SVG. Grey text and middle colours on no background: readable on white and on dark.

use plotters::prelude::*;

use crate::calls::Calls;
use crate::noise::Model;
use crate::peers::RULES;
use crate::results::Results;
use crate::scenario::Scenario;
use crate::tally::{Share, Tally};

/// A plot, with its file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// The name of the file.
    pub file: &'static str,
    /// SVG.
    pub svg: String,
}

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {file}: {what}")]
pub struct PlotError {
    /// Which plot.
    pub file: &'static str,
    /// What went wrong.
    pub what: String,
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

const WIDTH: u32 = 760;
/// Text and axes: as far from white as from black.
const GREY: RGBColor = RGBColor(128, 128, 128);
const FONT: &str = "sans-serif";

/// Colours of equal weight on white and on dark.
const COLOURS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(230, 110, 20),
    RGBColor(44, 160, 44),
    RGBColor(214, 60, 60),
    RGBColor(148, 103, 189),
    RGBColor(150, 100, 85),
    RGBColor(215, 100, 180),
    RGBColor(120, 120, 120),
    RGBColor(160, 160, 30),
    RGBColor(20, 170, 185),
];

/// The plots whose numbers are there.
pub fn all(results: &Results) -> Result<Vec<Plot>, PlotError> {
    let mut plots = Vec::new();
    let mut add = |file, draw: &dyn Fn(&mut String) -> Drawn| -> Result<(), PlotError> {
        let mut svg = String::new();
        draw(&mut svg).map_err(|error| PlotError { file, what: error.to_string() })?;
        plots.push(Plot { file, svg });
        Ok(())
    };
    let has = |scenario| results.synthetic.values().all(|o| o.verdicts.contains_key(&scenario));
    if results.synthetic.is_empty() || !has(Scenario::Slower(6)) {
        return Ok(plots);
    }
    add("pairs-to-verdict.svg", &|svg| pairs_to_verdict(svg, results))?;
    add("power.svg", &|svg| power(svg, results))?;
    add("wrong-verdicts.svg", &|svg| wrong_verdicts(svg, results))?;
    Ok(plots)
}

fn text(size: i32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&GREY)
}

/// A chart's mesh in grey.
macro_rules! draw_mesh {
    ($chart:expr, $x:expr, $y:expr) => {
        $chart
            .configure_mesh()
            .axis_style(GREY)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.2))
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_desc($x)
            .y_desc($y)
            .x_label_formatter(&|value| format!("{value:.0}"))
    };
}

macro_rules! draw_legend {
    ($chart:expr, $position:expr) => {
        $chart
            .configure_series_labels()
            .position($position)
            .label_font(text(13))
            .border_style(TRANSPARENT)
            .background_style(TRANSPARENT)
            .draw()?
    };
}

/// All models of the bars together.
fn over_models(results: &Results, scenario: Scenario) -> Tally {
    let mut sum = Tally::default();
    for model in Model::BARRED {
        if let Some(tally) = results.synthetic.get(&model).and_then(|o| o.verdicts.get(&scenario)) {
            sum.add(tally);
        }
    }
    sum
}

fn pairs_to_verdict(svg: &mut String, results: &Results) -> Drawn {
    let root = SVGBackend::with_string(svg, (WIDTH, 400)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(42)
        .y_label_area_size(52)
        .build_cartesian_2d(0f64..42f64, 0f64..100f64)?;
    draw_mesh!(chart, "pairs", "verdicts that say something, %")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    let scenarios = [
        Scenario::Same,
        Scenario::Slower(1),
        Scenario::Slower(2),
        Scenario::Slower(5),
        Scenario::Faster(2),
        Scenario::Faster(5),
        Scenario::SlowerTail,
    ];
    for (scenario, colour) in scenarios.into_iter().zip(COLOURS) {
        let tally = over_models(results, scenario);
        let mut steps = vec![(0.0, 0.0)];
        let mut decided = 0u32;
        for (pairs, count) in &tally.decided_at {
            let before = 100.0 * f64::from(decided) / f64::from(tally.trials.max(1));
            decided += count;
            let after = 100.0 * f64::from(decided) / f64::from(tally.trials.max(1));
            steps.extend([(f64::from(*pairs), before), (f64::from(*pairs), after)]);
        }
        steps.push((42.0, steps.last().map_or(0.0, |(_, share)| *share)));
        let line = chart.draw_series(LineSeries::new(steps, colour.stroke_width(2)))?;
        let name = if scenario == Scenario::Same {
            "identical: no change proven".to_owned()
        } else {
            scenario.name()
        };
        line.label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    draw_legend!(chart, SeriesLabelPosition::UpperLeft);
    root.present()?;
    Ok(())
}

fn power(svg: &mut String, results: &Results) -> Drawn {
    let root = SVGBackend::with_string(svg, (WIDTH, 400)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(42)
        .y_label_area_size(52)
        .build_cartesian_2d(0f64..6f64, 0f64..100f64)?;
    draw_mesh!(chart, "true slowdown, %", "REJECT, %")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (model, colour) in Model::BARRED.into_iter().zip(COLOURS) {
        let Some(outcome) = results.synthetic.get(&model) else { continue };
        let share = |percent: u8| {
            let scenario = if percent == 0 { Scenario::Same } else { Scenario::Slower(percent) };
            let tally = outcome.verdicts.get(&scenario)?;
            Some((f64::from(percent), tally.rejections().percent()))
        };
        let points: Vec<(f64, f64)> = (0..=6).filter_map(share).collect();
        let line = chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
        line.label(model.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 2, colour.filled())))?;
    }
    draw_legend!(chart, SeriesLabelPosition::LowerRight);
    root.present()?;
    Ok(())
}

/// The worst share of wrong verdicts over the models of the bars.
fn worst(calls: impl Iterator<Item = Calls>) -> Share {
    calls
        .filter(|c| c.of > 0)
        .map(Calls::either)
        .max_by(|a, b| a.percent().total_cmp(&b.percent()))
        .unwrap_or_default()
}

fn wrong_verdicts(svg: &mut String, results: &Results) -> Drawn {
    let of = |model: Model| results.synthetic.get(&model);
    let mut bars: Vec<(String, Share, bool)> = RULES
        .iter()
        .enumerate()
        .map(|(index, rule)| {
            let calls = Model::BARRED
                .into_iter()
                .filter_map(|m| of(m)?.peers.get(&Scenario::Same)?.get(index).copied());
            (rule.name.to_owned(), worst(calls), false)
        })
        .collect();
    let ours = Model::BARRED.into_iter().filter_map(|m| of(m)?.mean_only.get(&Scenario::Same).copied());
    bars.push(("Darwin, the mean alone".to_owned(), worst(ours), true));
    let gate = Model::BARRED.into_iter().filter_map(|m| {
        let tally = of(m)?.verdicts.get(&Scenario::Same)?;
        Some(Calls { slower: tally.rejected, faster: tally.approved, of: tally.trials })
    });
    bars.push(("Darwin, p50, mean and p99".to_owned(), worst(gate), true));
    bars.sort_by(|a, b| b.1.percent().total_cmp(&a.1.percent()));

    let count = bars.len();
    let root = SVGBackend::with_string(svg, (WIDTH, 560)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(42)
        .y_label_area_size(240)
        .build_cartesian_2d(0f64..100f64, (0..count.saturating_sub(1)).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(index) => bars.get(*index).map_or(String::new(), |(name, ..)| name.clone()),
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    draw_mesh!(
        chart,
        "identical builds called different in the worst of ten noise models, %, with its 90% interval",
        ""
    )
    .disable_y_mesh()
    .y_labels(count)
    .y_label_formatter(&name)
    .draw()?;
    for (index, (_, share, is_ours)) in bars.iter().enumerate() {
        let colour = if *is_ours { COLOURS[2] } else { COLOURS[0] };
        let at = SegmentValue::CenterOf(index);
        let corners = [(0.0, SegmentValue::Exact(index)), (share.percent(), SegmentValue::Exact(index + 1))];
        let mut bar = Rectangle::new(corners, colour.mix(0.75).filled());
        bar.set_margin(3, 3, 0, 0);
        chart.draw_series([bar])?;
        let interval = [(share.lower_percent(), at.clone()), (share.upper_percent(), at)];
        chart.draw_series([PathElement::new(interval, GREY.stroke_width(2))])?;
    }
    root.present()?;
    Ok(())
}
