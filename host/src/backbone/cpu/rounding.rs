//! Weights of a layer as integers, rounded one after the other so that each makes up for the errors of those before it.
//!
//! A layer with weights W reads inputs X and is asked for XW. Rounding to the nearest minimises W's error; what counts is that of XW,
//! which is ‖R(W − Ŵ)‖ with RᵀR = XᵀX. From the last row of an upper triangular R to the first, each weight is rounded once what the
//! rows below it got wrong has been added: Babai's nearest plane, which is GPTQ (Frantar et al. 2022, arXiv:2210.17323) in the order
//! of its columns turned round, without an inverse (Chen et al. 2025, arXiv:2507.18553).

use crate::backbone::quantised::QuantisedLayer;
use rayon::prelude::*;

/// Most steps from 0.
const STEPS: f32 = 127.0;
/// The largest that an input was counts as no less than this share of the largest of all.
const LEAST: f32 = 1e-4;
/// Added to the diagonal of XᵀX, in shares of its mean: directions that no input showed still cost something.
const DAMPING: f64 = 0.01;
/// Rows of R that are formed before the rows below them are brought up to date: a row of those stays in the first-level cache.
const ROWS: usize = 32;
/// Columns of W that are rounded side by side; their errors stay in the second-level cache.
const COLUMNS: usize = 64;

/// Rounds `weights` [k, n] for inputs whose products of each two numbers sum to `gram` [k, k].
///
/// # Panics
/// Where the lengths do not fit.
pub(super) fn rounded(weights: &[f32], gram: &[f32], k: usize) -> QuantisedLayer {
    let n = weights.len() / k;
    assert!(gram.len() == k * k && weights.len() == k * n, "inputs of another layer");
    let order = by_size(gram, k);
    let factor = triangle(gram, &order);
    let columns: Vec<usize> = (0..n).step_by(COLUMNS).collect();
    let parts: Vec<(Vec<i8>, Vec<f32>)> = columns
        .into_par_iter()
        .map(|first| round_columns(weights, n, first..(first + COLUMNS).min(n), &factor, &order))
        .collect();
    let (steps, units): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    QuantisedLayer { steps: steps.concat(), units: units.concat(), inputs: Vec::new() }
}

/// As [`rounded`], of inputs that are divided first: each by the root of the largest that it was, `most` [k]. A token's steps reach
/// to its largest number, so few inputs that are always large coarsen all others; half of that goes over to the weights, whose
/// rounding makes up for it (Xiao et al. 2023, arXiv:2211.10438, with a migration strength of a half).
pub(super) fn rounded_divided(mut weights: Vec<f32>, mut gram: Vec<f32>, most: &[f32]) -> QuantisedLayer {
    let (k, largest) = (most.len(), most.iter().fold(0f32, |a, b| a.max(*b)));
    // An input that was never seen is no reason for weights without an end.
    let of = |most: &f32| if largest > 0.0 { (most / largest).max(LEAST).sqrt() } else { 1.0 };
    let inputs: Vec<f32> = most.iter().map(of).collect();
    let n = weights.len() / k;
    for (i, (row, of_row)) in weights.chunks_exact_mut(n).zip(gram.chunks_exact_mut(k)).enumerate() {
        row.iter_mut().for_each(|w| *w *= inputs[i]);
        of_row.iter_mut().zip(&inputs).for_each(|(sum, of_j)| *sum /= inputs[i] * of_j);
    }
    QuantisedLayer { inputs, ..rounded(&weights, &gram, k) }
}

/// Inputs from the smallest to the largest: the last is rounded first, and the others make up for it.
fn by_size(gram: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|a, b| gram[a * k + a].total_cmp(&gram[b * k + b]).then(a.cmp(b)));
    order
}

/// R with RᵀR = XᵀX + damping, rows and columns in this order, each row divided by its diagonal: what a step of column j is wrong by
/// changes what is left to row i. [k, k], 0 below the diagonal.
fn triangle(gram: &[f32], order: &[usize]) -> Vec<f32> {
    let k = order.len();
    let mean = (0..k).map(|i| f64::from(gram[i * k + i])).sum::<f64>() / k as f64;
    // Without any input every weight counts the same.
    let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    let mut square: Vec<f64> = Vec::with_capacity(k * k);
    for &i in order {
        square.extend(order.iter().map(|&j| f64::from(gram[i * k + j])));
    }
    (0..k).for_each(|i| square[i * k + i] += damping);
    // Cholesky's factor in place of the upper triangle, `ROWS` rows at a time.
    for top in (0..k).step_by(ROWS) {
        let end = (top + ROWS).min(k);
        let (formed, below) = square[top * k..].split_at_mut((end - top) * k);
        for i in top..end {
            let (done, rest) = formed.split_at_mut((i - top) * k);
            let row = &mut rest[..k];
            subtract_rows(done, k, i, row);
            // Rounding may leave a direction without any length.
            let length = row[i].max(damping * 1e-3).sqrt();
            row[i..].iter_mut().for_each(|x| *x /= length);
            row[i] = length;
        }
        below.par_chunks_exact_mut(k).enumerate().for_each(|(r, row)| subtract_rows(formed, k, end + r, row));
    }
    let scaled = |(i, row): (usize, &[f64])| -> Vec<f32> {
        let of = |j: usize| if j < i { 0.0 } else { (row[j] / row[i]) as f32 };
        (0..k).map(of).collect()
    };
    square.chunks_exact(k).enumerate().flat_map(scaled).collect()
}

/// `row` −= what rows of R say of it: `row` is row `i` of what is left of XᵀX.
fn subtract_rows(rows: &[f64], k: usize, i: usize, row: &mut [f64]) {
    for of_r in rows.chunks_exact(k) {
        let share = of_r[i];
        row[i..].iter_mut().zip(&of_r[i..]).for_each(|(x, r)| *x -= share * r);
    }
}

/// Steps [columns, k] and units of some columns of W [k, n].
fn round_columns(
    weights: &[f32],
    n: usize,
    columns: std::ops::Range<usize>,
    factor: &[f32],
    order: &[usize],
) -> (Vec<i8>, Vec<f32>) {
    let (k, wide) = (order.len(), columns.len());
    let mut units = vec![0f32; wide];
    for row in weights.chunks_exact(n) {
        units.iter_mut().zip(&row[columns.clone()]).for_each(|(most, w)| *most = most.max(w.abs()));
    }
    units.iter_mut().for_each(|most| *most /= STEPS);
    let (mut steps, mut errors) = (vec![0i8; wide * k], vec![0f32; k * wide]);
    let mut wanted = vec![0f32; wide];
    for place in (0..k).rev() {
        let (input, row) = (order[place], &factor[place * k..][..k]);
        let of_input = &weights[input * n..][columns.clone()];
        wanted.copy_from_slice(of_input);
        let (before, after) = errors.split_at_mut((place + 1) * wide);
        for (share, error) in row[place + 1..].iter().zip(after.chunks_exact(wide)) {
            wanted.iter_mut().zip(error).for_each(|(w, e)| *w += share * e);
        }
        let own = &mut before[place * wide..];
        for j in 0..wide {
            let step = if units[j] > 0.0 { (wanted[j] / units[j]).round().clamp(-STEPS, STEPS) } else { 0.0 };
            steps[j * k + input] = step as i8;
            own[j] = of_input[j] - step * units[j];
        }
    }
    (steps, units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn noise(seed: u64, n: usize) -> Vec<f32> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// Inputs [t, k] whose numbers follow each other, as those of a layer do.
    fn inputs(t: usize, k: usize) -> Vec<f32> {
        let common = noise(1, t);
        let own = noise(2, t * k);
        (0..t * k).map(|i| common[i / k] * (1.0 + (i % k) as f32 * 0.1) + 0.3 * own[i]).collect()
    }

    fn gram_of(x: &[f32], k: usize) -> Vec<f32> {
        let mut gram = vec![0f32; k * k];
        for row in x.chunks_exact(k) {
            for i in 0..k {
                (0..k).for_each(|j| gram[i * k + j] += row[i] * row[j]);
            }
        }
        gram
    }

    /// Squared error of XŴ for the layer's steps.
    fn error(x: &[f32], weights: &[f32], k: usize, layer: &QuantisedLayer) -> f64 {
        let n = layer.units.len();
        let mut sum = 0.0;
        for row in x.chunks_exact(k) {
            for j in 0..n {
                let off = |i: usize| {
                    f64::from(weights[i * n + j])
                        - f64::from(layer.steps[j * k + i]) * f64::from(layer.units[j])
                };
                sum += (0..k).map(|i| f64::from(row[i]) * off(i)).sum::<f64>().powi(2);
            }
        }
        sum
    }

    fn nearest(weights: &[f32], k: usize, units: &[f32]) -> QuantisedLayer {
        let n = units.len();
        let step = |i: usize| (weights[i % k * n + i / k] / units[i / k]).round() as i8;
        let steps = (0..n * k).map(step).collect();
        QuantisedLayer { steps, units: units.to_vec(), inputs: Vec::new() }
    }

    #[test]
    fn what_a_layer_answers_is_nearer_than_with_weights_rounded_to_the_nearest() {
        for (t, k, n) in [(200, 70, 130), (64, 33, 5), (300, 100, 64)] {
            let (x, weights) = (inputs(t, k), noise(3, k * n));
            let found = rounded(&weights, &gram_of(&x, k), k);
            let plain = error(&x, &weights, k, &nearest(&weights, k, &found.units));
            let own = error(&x, &weights, k, &found);
            assert!(own < 0.5 * plain, "{k}x{n}: {own} {plain}");
        }
    }

    #[test]
    fn inputs_that_have_nothing_in_common_leave_the_nearest_steps() {
        let (k, n) = (40, 70);
        let weights = noise(4, k * n);
        let mut gram = vec![0f32; k * k];
        (0..k).for_each(|i| gram[i * k + i] = 1.0 + i as f32);
        for gram in [gram, vec![0f32; k * k]] {
            let found = rounded(&weights, &gram, k);
            assert_eq!(found, nearest(&weights, k, &found.units));
        }
    }

    #[test]
    fn the_triangle_is_that_of_the_sums_of_products() {
        let k = 75;
        let gram = gram_of(&inputs(200, k), k);
        let order = by_size(&gram, k);
        let factor = triangle(&gram, &order);
        // With D the squares of the diagonal, RᵀDR is the damped gram; D follows from its first principle: row by row.
        let mean = (0..k).map(|i| f64::from(gram[i * k + i])).sum::<f64>() / k as f64;
        let damped = |i: usize, j: usize| {
            f64::from(gram[order[i] * k + order[j]]) + if i == j { DAMPING * mean } else { 0.0 }
        };
        let mut squares = vec![0f64; k];
        for i in 0..k {
            let before: f64 = (0..i).map(|r| squares[r] * f64::from(factor[r * k + i]).powi(2)).sum();
            squares[i] = damped(i, i) - before;
        }
        for i in 0..k {
            for j in i..k {
                let of = |r: usize| squares[r] * f64::from(factor[r * k + i]) * f64::from(factor[r * k + j]);
                let found: f64 = (0..=i).map(of).sum();
                assert!((found - damped(i, j)).abs() < 1e-4 * mean, "{i} {j}: {found} {}", damped(i, j));
            }
        }
    }

    #[test]
    fn inputs_that_are_divided_leave_a_layers_answers_as_they_were() {
        let (k, n) = (30, 20);
        let (mut x, weights) = (inputs(100, k), noise(6, k * n));
        x.iter_mut().skip(7).step_by(k).for_each(|v| *v *= 50.0);
        let most: Vec<f32> =
            (0..k).map(|i| x.iter().skip(i).step_by(k).fold(0f32, |a, v| a.max(v.abs()))).collect();
        let layer = rounded_divided(weights.clone(), gram_of(&x, k), &most);
        let widest = |of: &[f32]| of.iter().fold(0f32, |a, v| a.max(v.abs()));
        let divided: Vec<f32> = x.iter().enumerate().map(|(i, v)| v / layer.inputs[i % k]).collect();
        let spread = |x: &[f32]| widest(x) / (x.iter().map(|v| v.abs()).sum::<f32>() / x.len() as f32);
        assert!(spread(&divided) < 0.6 * spread(&x), "{} {}", spread(&divided), spread(&x));
        let scaled: Vec<f32> = weights.iter().enumerate().map(|(i, w)| w * layer.inputs[i / n]).collect();
        let nothing = QuantisedLayer { steps: vec![0; k * n], units: vec![0.0; n], inputs: Vec::new() };
        let (apart, whole) = (error(&divided, &scaled, k, &layer), error(&x, &weights, k, &nothing));
        assert!(apart < 1e-4 * whole, "{apart} {whole}");
    }

    #[test]
    fn a_column_of_zeros_has_no_steps() {
        let mut weights = noise(5, 20 * 3);
        (0..20).for_each(|i| weights[i * 3 + 1] = 0.0);
        let found = rounded(&weights, &gram_of(&inputs(50, 20), 20), 20);
        assert_eq!(found.units[1], 0.0);
        assert!(found.steps[20..40].iter().all(|s| *s == 0));
    }
}
