//! A drawing as an SVG file: shapes and text as such, so that it can be searched and edited.

use super::{Anchor, Drawing, Shape};
use crate::output::colour::Rgb;
use std::fmt::Write as _;

pub(super) fn write(drawing: &Drawing) -> String {
    let [width, height] = drawing.size;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"Roboto, 'DejaVu Sans', Arial, sans-serif\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for shape in &drawing.shapes {
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "{}", element(shape));
    }
    svg + "</svg>\n"
}

fn element(shape: &Shape) -> String {
    match shape {
        Shape::Line { points, stroke } => {
            let points: Vec<String> =
                points.iter().map(|[x, y]| format!("{},{}", short(*x), short(*y))).collect();
            let dash: Vec<String> = stroke.dash.iter().map(f32::to_string).collect();
            let dash = if dash.is_empty() {
                String::new()
            } else {
                format!(" stroke-dasharray=\"{}\"", dash.join(" "))
            };
            format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{dash}/>",
                points.join(" "),
                hex(stroke.colour),
                stroke.width
            )
        }
        Shape::Box { at: [x, y], size: [w, h], fill } => format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>",
            short(*x),
            short(*y),
            short(*w),
            short(*h),
            hex(*fill)
        ),
        Shape::Dot { at: [x, y], radius, fill } => {
            format!(
                "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"{}\"/>",
                short(*x),
                short(*y),
                hex(*fill)
            )
        }
        Shape::Text { at: [x, y], size, anchor, colour, up, text } => {
            let (x, y) = (short(*x), short(*y));
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let turn = if *up { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
            let (colour, text) = (hex(*colour), escaped(text));
            format!(
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{colour}\"{anchor}{turn}>{text}</text>"
            )
        }
    }
}

/// Hundredths of a pixel are enough.
fn short(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Labels are anybody's text.
fn escaped(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}
