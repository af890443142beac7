//! ROC, and precision against recall: all labels in one square, each with its operating point.

use super::axes::{BELOW, LEFT, Square};
use super::{EDGE, FOOTER, INK, QUIET, TITLE, cases_of, look_of, titled, with_interval};
use crate::eval::evaluation::{Evaluation, LabelReport};
use crate::eval::metrics::{Operating, precision_recall_curve, roc_curve};
use crate::eval::predictions::Question;
use crate::output::drawing::{Drawing, Stroke, font};

const SIDE: f32 = 420.0;
/// One label of the legend: its name, and its figure below.
const ENTRY: f32 = 38.0;
const LEGEND_WIDTH: [f32; 2] = [190.0, 330.0];

/// What stands for a label.
struct Curve {
    name: String,
    figure: String,
    points: Vec<[f64; 2]>,
    /// Where its threshold lies.
    operating: Option<[f64; 2]>,
    /// How the point came about.
    decided: String,
}

/// What a method says of the cases of a question.
#[derive(Debug, Clone, Copy)]
pub struct MethodScores<'a> {
    /// In the legend.
    pub name: &'a str,
    /// Its figure there.
    pub auroc: Option<f64>,
    /// The interval beside it.
    pub interval: Option<[f64; 2]>,
    /// The cases and their scores.
    pub question: &'a Question,
}

/// False against true positive rate of several methods on the same cases. A method's folds are in one order here, whatever its
/// figure is the mean of. `of` says what the cases are.
pub fn roc_of_methods(title: &str, of: &str, methods: &[MethodScores<'_>]) -> Drawing {
    let curves = methods.iter().map(|method| Curve {
        name: method.name.to_owned(),
        figure: format!("AUROC {}", with_interval(method.auroc, method.interval)),
        points: roc_curve(&method.question.truth, &method.question.probabilities),
        operating: None,
        decided: String::new(),
    });
    let mut picture = plotted(title, of, curves.collect());
    picture.chance();
    picture.finish()
}

/// False against true positive rate.
pub fn roc(evaluation: &Evaluation, questions: &[Question]) -> Drawing {
    let curve = |q: &Question, report: &LabelReport| {
        let m = &report.metrics;
        Curve {
            name: q.name.clone(),
            // The curve has all folds in one order; the figure has not.
            figure: match m.folds {
                Some(folds) => format!(
                    "AUROC {} in {folds} folds; of the curve {}",
                    with_interval(m.auroc, m.auroc_ci95),
                    with_interval(m.auroc_pooled, None)
                ),
                None => format!("AUROC {}", with_interval(m.auroc, m.auroc_ci95)),
            },
            points: roc_curve(&q.truth, &q.probabilities),
            operating: m.specificity.zip(m.sensitivity).map(|(specificity, s)| [1.0 - specificity, s]),
            decided: decided(q),
        }
    };
    let mut picture = picture("ROC", evaluation, questions, curve);
    picture.chance();
    picture.finish()
}

/// Precision against recall, the steps whose area is the average precision.
pub fn precision_recall(evaluation: &Evaluation, questions: &[Question]) -> Drawing {
    let curve = |q: &Question, report: &LabelReport| {
        let m = &report.metrics;
        let at = Operating::of(&q.truth, &q.positive);
        let called = at.true_positives + at.false_positives;
        let precision = (called > 0).then(|| at.true_positives as f64 / called as f64);
        let prevalence = m.positives as f64 / m.n.max(1) as f64;
        let interval = report.bootstrap_ci95.and_then(|b| b.average_precision);
        Curve {
            name: q.name.clone(),
            figure: format!("AP {}, by chance {prevalence:.3}", with_interval(m.average_precision, interval)),
            points: precision_recall_curve(&q.truth, &q.probabilities),
            operating: m.sensitivity.zip(precision).map(|(recall, precision)| [recall, precision]),
            decided: decided(q),
        }
    };
    let mut picture = picture("Precision and recall", evaluation, questions, curve);
    picture.square.draw(&mut picture.drawing, "recall (sensitivity)", "precision");
    // With more labels the lines of chance would be read as curves.
    if let [only] = questions {
        let prevalence = only.truth.iter().filter(|t| **t).count() as f64 / only.truth.len().max(1) as f64;
        let chance = Stroke { dash: &[4.0, 4.0], ..Stroke::thin(QUIET) };
        picture.drawing.line(&picture.square.places(&[[0.0, prevalence], [1.0, prevalence]]), chance);
    }
    picture.finish()
}

fn decided(q: &Question) -> String {
    q.threshold.map_or("most probable class".to_owned(), |t| format!("threshold {t:.3}"))
}

struct Picture {
    drawing: Drawing,
    square: Square,
    curves: Vec<Curve>,
    legend: f32,
}

fn picture(
    title: &str,
    evaluation: &Evaluation,
    questions: &[Question],
    curve: impl Fn(&Question, &LabelReport) -> Curve,
) -> Picture {
    let curves = questions.iter().zip(&evaluation.labels).map(|(q, (_, report))| curve(q, report));
    plotted(title, &cases_of(evaluation), curves.collect())
}

fn plotted(title: &str, of: &str, curves: Vec<Curve>) -> Picture {
    let widths = curves.iter().flat_map(|c| [font::width(13.0, &c.name), font::width(11.0, &c.figure)]);
    let legend = widths.fold(0.0f32, f32::max).clamp(LEGEND_WIDTH[0], LEGEND_WIDTH[1]);
    let plot = SIDE + BELOW;
    let height = TITLE + plot.max(curves.len() as f32 * ENTRY + 34.0) + FOOTER;
    let square = Square { at: [EDGE + LEFT, TITLE + 8.0], side: SIDE };
    let width = EDGE + LEFT + SIDE + 28.0 + 34.0 + legend + EDGE;
    let drawing = titled([width.ceil(), height.ceil()], title, of);
    Picture { drawing, square, curves, legend }
}

impl Picture {
    /// The axes of an ROC, and what guessing gives.
    fn chance(&mut self) {
        self.square.draw(&mut self.drawing, "1 − specificity", "sensitivity");
        let chance = Stroke { dash: &[4.0, 4.0], ..Stroke::thin(QUIET) };
        self.drawing.line(&self.square.places(&[[0.0, 0.0], [1.0, 1.0]]), chance);
    }

    /// Curves over the axes, operating points over the curves, and the legend.
    fn finish(mut self) -> Drawing {
        let (drawing, square) = (&mut self.drawing, self.square);
        for (i, curve) in self.curves.iter().enumerate() {
            drawing.line(&square.places(&curve.points), look_of(i));
        }
        let drawn = |curve: &&Curve| !curve.points.is_empty();
        for (i, curve) in self.curves.iter().enumerate().filter(|(_, c)| drawn(c)) {
            if let Some(at) = curve.operating {
                drawing.dot(square.place(at), 4.5, look_of(i).colour);
            }
        }
        let left = square.at[0] + SIDE + 28.0;
        for (i, curve) in self.curves.iter().enumerate() {
            let (top, look) = (square.at[1] + i as f32 * ENTRY, look_of(i));
            if drawn(&curve) {
                drawing.line(&[[left, top + 8.0], [left + 24.0, top + 8.0]], look);
                drawing.dot([left + 12.0, top + 8.0], 3.5, look.colour);
            }
            drawing.text([left + 34.0, top + 12.0], 13.0, INK, &font::fitted(13.0, &curve.name, self.legend));
            drawing.text([left + 34.0, top + 27.0], 11.0, QUIET, &curve.figure);
        }
        let same = self.curves.iter().all(|c| c.decided == self.curves[0].decided);
        let point = match self.curves.first() {
            Some(first) if same => first.decided.as_str(),
            _ => "each at its threshold",
        };
        if self.curves.iter().all(|c| c.operating.is_none()) {
            return self.drawing;
        }
        let top = square.at[1] + self.curves.len() as f32 * ENTRY + 14.0;
        drawing.dot([left + 12.0, top - 4.0], 3.5, QUIET);
        drawing.text([left + 34.0, top], 11.0, QUIET, point);
        self.drawing
    }
}
