//! Pictures of made-up evaluations: what must be on them, and that both formats are whole.

use super::*;
use crate::eval::evaluation::{Bootstrap, Source, evaluate, questions};
use crate::eval::predictions::{Predictions, Question, ScoredCase, ScoredLabel, Scores};
use crate::output::drawing::Shape;
use std::path::PathBuf;

fn evaluated(labels: Vec<ScoredLabel>) -> (Evaluation, Vec<Question>) {
    let cases = (0..60)
        .map(|i| ScoredCase { case: format!("c{i}"), patient: None, fold: None, group: None, line: i + 2 })
        .collect();
    let predictions = Predictions { path: PathBuf::new(), cases, labels, ignored: vec![], notes: vec![] };
    let asked = questions(&predictions, &vec![0.5; predictions.labels.len()]);
    let source = Source::Predictions {
        predictions: "p.csv".into(),
        sha256: String::new(),
        data: None,
        data_sha256: None,
    };
    (evaluate(&predictions, &asked, Bootstrap { draws: 0, seed: 0 }, source), asked)
}

fn label(name: &str, seed: usize) -> ScoredLabel {
    let truth: Vec<Option<bool>> = (0..60).map(|i| Some((i * 7 + seed) % 5 < 2)).collect();
    let p = (0..60).map(|i| ((i * 31 + seed * 17) % 59) as f64 / 59.0).collect();
    ScoredLabel { name: name.into(), scores: Scores::Binary { truth, probabilities: p } }
}

type Chart = fn(&Evaluation, &[Question]) -> Drawing;
const CHARTS: [Chart; 4] = [roc, precision_recall, calibration, confusion];

#[test]
fn every_picture_is_whole_says_what_it_is_of_and_that_it_is_research() {
    let (evaluation, asked) = evaluated(vec![label("a < b & \"c\"", 1), label("nodule", 2)]);
    for (chart, title) in CHARTS.iter().zip(["ROC", "Precision and recall", "Calibration", "Confusion"]) {
        let drawing = chart(&evaluation, &asked);
        let svg = drawing.svg();
        for words in [title, "60 cases, 60 patients", RESEARCH_ONLY, "a &lt; b &amp; &quot;c&quot;", "nodule"]
        {
            assert!(svg.contains(words), "{title}: `{words}` is missing");
        }
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{title}");
        let png = drawing.png().unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let size = [reader.info().width, reader.info().height];
        assert_eq!(size.map(|s| s as f32), drawing.size.map(|s| 2.0 * s), "{title}");
    }
}

#[test]
fn a_picture_counts_the_cases_with_a_label() {
    let mut some = label("nodule", 2);
    if let Scores::Binary { truth, .. } = &mut some.scores {
        truth[51..].fill(None);
    }
    let (evaluation, asked) = evaluated(vec![some]);
    for chart in CHARTS {
        let svg = chart(&evaluation, &asked).svg();
        assert!(svg.contains("51 labelled of 60 cases, 51 patients"), "{svg}");
    }
}

#[test]
fn roc_names_the_area_with_its_interval_and_marks_the_threshold() {
    let (evaluation, asked) = evaluated(vec![label("nodule", 2)]);
    let m = &evaluation.labels[0].1.metrics;
    let drawing = roc(&evaluation, &asked);
    let [low, high] = m.auroc_ci95.unwrap();
    let said = format!("AUROC {:.3} [{low:.3}, {high:.3}]", m.auroc.unwrap());
    let svg = drawing.svg();
    assert!(svg.contains(&said) && svg.contains("threshold 0.500"), "{said}");
    // On the curve: at 1 − specificity and sensitivity.
    let square = axes::Square { at: [EDGE + axes::LEFT, TITLE + 8.0], side: 420.0 };
    let at = square.place([1.0 - m.specificity.unwrap(), m.sensitivity.unwrap()]);
    assert!(drawing.shapes.iter().any(|s| matches!(s, Shape::Dot { at: dot, .. } if *dot == at)));
}

#[test]
fn labels_of_one_class_and_many_labels_are_drawn_too() {
    let alone = Scores::Binary { truth: vec![Some(true); 60], probabilities: vec![0.5; 60] };
    let (evaluation, asked) = evaluated(vec![ScoredLabel { name: "alone".into(), scores: alone }]);
    CHARTS.iter().for_each(|chart| assert!(chart(&evaluation, &asked).png().is_ok()));
    assert!(roc(&evaluation, &asked).svg().contains("AUROC not defined"));
    let many = (0..20).map(|i| label(&format!("label {i}"), i)).collect();
    let (evaluation, asked) = evaluated(many);
    for chart in CHARTS {
        let svg = chart(&evaluation, &asked).svg();
        assert!((0..20).all(|i| svg.contains(&format!(">label {i}<"))));
    }
    // Colours come back with another dash.
    let looks: Vec<Stroke> = (0..20).map(look_of).collect();
    assert!((0..20).all(|i| (0..i).all(|j| looks[i] != looks[j])));
}
