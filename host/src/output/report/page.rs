//! Text and figures of a page: everything that comes from outside is escaped here.

use crate::output::percent as plain_percent;
use std::fmt::Write as _;

/// Text as it may stand in an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What a browser would not show.
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// As in pictures and on the terminal, for an element.
pub(super) fn percent(share: f64) -> String {
    escaped(&plain_percent(share))
}

/// A row of a table of two columns.
pub(super) fn row(name: &str, value: &str) -> String {
    format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escaped(name), escaped(value))
}

/// A digest, which may break anywhere.
pub(super) fn digest_row(name: &str, value: &str) -> String {
    format!("<tr><th scope=\"row\">{}</th><td class=\"digest\">{}</td></tr>\n", escaped(name), escaped(value))
}

/// A bar of a probability with its threshold, 0 to 1 from left to right.
pub(super) fn probability_bar(probability: f64, threshold: Option<f64>, positive: bool) -> String {
    let x = |v: f64| 2.0 + 196.0 * v.clamp(0.0, 1.0);
    let class = if positive { "bar positive" } else { "bar" };
    let mut svg = format!(
        "<svg class=\"probability\" viewBox=\"0 0 200 16\" aria-hidden=\"true\"><rect class=\"ground\" x=\"2\" y=\"4\" \
         width=\"196\" height=\"8\" rx=\"2\"/><rect class=\"{class}\" x=\"2\" y=\"4\" width=\"{:.2}\" height=\"8\" rx=\"2\"/>",
        x(probability) - 2.0
    );
    if let Some(threshold) = threshold {
        let at = x(threshold);
        let _ = write!(svg, "<line class=\"threshold\" x1=\"{at:.2}\" x2=\"{at:.2}\" y1=\"0\" y2=\"16\"/>");
    }
    svg + "</svg>"
}

/// Weights of slices by their place in mm: a line, and a dot at the heaviest.
pub(super) fn weight_curve(view: &str, weights: &[f32], positions: &[f64]) -> String {
    const WIDE: f64 = 640.0;
    const HIGH: f64 = 180.0;
    const LEFT: f64 = 56.0;
    const BOTTOM: f64 = 34.0;
    let most = weights.iter().copied().fold(0.0, f32::max).max(f32::MIN_POSITIVE);
    let (low, high) = positions.iter().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(*p), h.max(*p)));
    let x = |p: f64| LEFT + (WIDE - LEFT - 12.0) * if high > low { (p - low) / (high - low) } else { 0.5 };
    let y = |w: f32| HIGH - BOTTOM - (HIGH - BOTTOM - 16.0) * f64::from(w / most);
    let mut order: Vec<usize> = (0..weights.len().min(positions.len())).collect();
    order.sort_by(|a, b| positions[*a].total_cmp(&positions[*b]));
    let points: Vec<String> =
        order.iter().map(|&i| format!("{:.1},{:.1}", x(positions[i]), y(weights[i]))).collect();
    let Some(&top) = order.iter().max_by(|a, b| weights[**a].total_cmp(&weights[**b])) else {
        return String::new();
    };
    let label = format!(
        "Weight of {} slices of view {view} from {low:.1} to {high:.1} mm; the heaviest, {}, lies at {:.1} mm",
        weights.len(),
        plain_percent(f64::from(weights[top])),
        positions[top]
    );
    let axis = HIGH - BOTTOM;
    let right = WIDE - 12.0;
    format!(
        "<svg class=\"curve\" viewBox=\"0 0 {WIDE} {HIGH}\" role=\"img\" aria-label=\"{}\">\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{axis}\" y2=\"{axis}\"/>\
         <line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"12\" y2=\"{axis}\"/>\
         <polyline class=\"line\" points=\"{}\"/>\
         <circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>\
         <text x=\"{LEFT}\" y=\"{}\">{low:.0} mm</text><text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{high:.0} mm</text>\
         <text x=\"{}\" y=\"20\" text-anchor=\"end\">{}</text><text x=\"{}\" y=\"{axis}\" text-anchor=\"end\">0</text></svg>",
        escaped(&label),
        points.join(" "),
        x(positions[top]),
        y(weights[top]),
        axis + 20.0,
        axis + 20.0,
        LEFT - 8.0,
        percent(f64::from(most)),
        LEFT - 8.0,
    )
}

/// How a logit becomes a probability, with this case's place on it and the threshold.
pub(super) fn calibration_curve(label: &str, logit: f64, temperature: f64, threshold: Option<f64>) -> String {
    let reach = (logit.abs() * 1.3).max(4.0 * temperature.max(1.0));
    let x = |z: f64| 40.0 + 260.0 * (z + reach) / (2.0 * reach);
    let y = |p: f64| 140.0 - 120.0 * p;
    let sigmoid = |z: f64, t: f64| 1.0 / (1.0 + (-z / t).exp());
    let line = |t: f64| -> String {
        let at = |i: usize| -reach + 2.0 * reach * i as f64 / 60.0;
        (0..=60).map(|i| format!("{:.1},{:.1}", x(at(i)), y(sigmoid(at(i), t)))).collect::<Vec<_>>().join(" ")
    };
    let p = sigmoid(logit, temperature);
    let told = format!(
        "Probability of {label} by logit: the logit {logit:.2} divided by the temperature {temperature:.2} gives {}",
        plain_percent(p)
    );
    let mut svg = format!(
        "<svg class=\"curve small\" viewBox=\"0 0 312 170\" role=\"img\" aria-label=\"{}\">\
         <line class=\"axis\" x1=\"40\" x2=\"300\" y1=\"140\" y2=\"140\"/><line class=\"axis\" x1=\"40\" x2=\"40\" y1=\"20\" y2=\"140\"/>",
        escaped(&told)
    );
    if temperature != 1.0 {
        let _ = write!(svg, "<polyline class=\"line raw\" points=\"{}\"/>", line(1.0));
    }
    let _ = write!(svg, "<polyline class=\"line\" points=\"{}\"/>", line(temperature));
    if let Some(t) = threshold {
        let at = y(t);
        let _ = write!(svg, "<line class=\"threshold\" x1=\"40\" x2=\"300\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
    }
    let _ = write!(
        svg,
        "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/><text x=\"34\" y=\"26\" text-anchor=\"end\">1</text>\
         <text x=\"34\" y=\"140\" text-anchor=\"end\">0</text><text x=\"40\" y=\"160\">logit {:.1}</text>\
         <text x=\"300\" y=\"160\" text-anchor=\"end\">{reach:.1}</text></svg>",
        x(logit),
        y(p),
        -reach
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(escaped("<b a=\"x\" b='y'>&\u{7}"), "&lt;b a=&quot;x&quot; b=&#39;y&#39;&gt;&amp; ");
    }

    #[test]
    fn the_heaviest_slice_is_the_highest_point_of_its_curve() {
        let svg = weight_curve("a<b", &[0.1, 0.6, 0.3], &[10.0, 0.0, 20.0]);
        assert!(svg.contains("60.0 %, lies at 0.0 mm") && svg.contains("a&lt;b"), "{svg}");
        // It lies at the left end (56) and at the top (16).
        assert!(svg.contains("cx=\"56.0\" cy=\"16.0\""), "{svg}");
        assert_eq!(weight_curve("v", &[], &[]), "");
    }

    #[test]
    fn the_case_lies_on_its_calibration_curve() {
        // A logit of 0 is 1 / 2 at every temperature.
        let svg = calibration_curve("nodule", 0.0, 2.0, Some(0.75));
        assert!(svg.contains("cx=\"170.0\" cy=\"80.0\"") && svg.contains("y1=\"50.0\""), "{svg}");
    }
}
