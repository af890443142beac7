//! A frozen pass in every number format, and how near its class tokens are to those of f32: which switch brings how much here.

use super::{Row, median, sorted};
use crate::outcome::CommandError;
use anymc3d_host::backbone::kernels::clock::{Moment, Spent};
use anymc3d_host::backbone::{Backbone, Kernels, NEAR_COSINE, NoAdapter, Precision, cosine};
use candle_core::Tensor;

/// A format that was timed.
struct Timed {
    precision: Precision,
    backbone: Backbone,
    spent: Vec<Spent>,
    /// The lowest of a slice's class token.
    cosine: f64,
}

/// Rows of the formats, whose repetitions take turns on the same `pixels` [S, 3, H, W], and a line with what they come to.
///
/// # Errors
/// When a backbone cannot be opened, or a pass fails.
pub(super) fn precisions(
    open: impl Fn(Precision) -> Result<Backbone, CommandError>,
    pixels: &Tensor,
    repetitions: usize,
) -> Result<(Vec<Row>, String), CommandError> {
    let mut all = Vec::new();
    for precision in Precision::ALL {
        all.push(Timed { precision, backbone: open(precision)?, spent: Vec::new(), cosine: 1.0 });
    }
    let mut truth: Option<Vec<Vec<f32>>> = None;
    for repetition in 0..=repetitions {
        for one in &mut all {
            let start = Moment::now();
            let features = one.backbone.forward(pixels, &NoAdapter, false).map_err(CommandError::failed)?;
            one.backbone.device().synchronize().map_err(CommandError::failed)?;
            if repetition > 0 {
                one.spent.push(start.spent());
                continue;
            }
            let tokens: Vec<Vec<f32>> = features.class_tokens.to_vec2().map_err(CommandError::failed)?;
            let truth = truth.get_or_insert_with(|| tokens.clone());
            one.cosine = truth.iter().zip(&tokens).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
        }
    }
    let slices = pixels.dims()[0] as f64;
    let of_f32 = all[0].spent.clone();
    let times = |one: &Timed| {
        // Pairs that stood beside each other in time.
        median(&sorted(of_f32.iter().zip(&one.spent).map(|(f32, it)| f32.wall / it.wall)))
    };
    let row = |one: &Timed| {
        let name = format!("frozen, {}, cosine {:.5}", one.precision.name(), one.cosine);
        let mut row = Row::of(&name, &one.spent);
        (row.rate, row.unit) = (Some(slices / row.ms * 1e3), Some("slices/s"));
        (row.ratio, row.against) = (Some(times(one)), Some("x as fast as f32".to_owned()));
        row
    };
    let near = all.iter().filter(|one| one.cosine >= NEAR_COSINE);
    let best = near.max_by(|a, b| times(a).total_cmp(&times(b))).unwrap_or(&all[0]);
    let verdict = format!(
        "Kernels: {}. Fastest with class tokens within a cosine of {NEAR_COSINE}: --precision {}, {:.2} times as fast as f32",
        Kernels::detect().map_err(CommandError::refused)?,
        best.precision.name(),
        times(best)
    );
    Ok((all.iter().map(row).collect(), verdict))
}
