//! The widest directions of many vectors, and how wide they are.

use candle_core::{Device, Result, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Directions that are iterated beside those that are wanted: the wanted ones then settle within a few rounds.
const BESIDE: usize = 8;
const ROUNDS: usize = 200;
/// Relative change of the variances at which they have settled.
const SETTLED: f64 = 1e-10;

/// Mean and covariance of vectors, as far as a few directions and the same variance in all others say it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Components {
    /// `[d]`
    pub mean: Vec<f64>,
    /// `[k][d]`, orthonormal, the widest first.
    pub directions: Vec<Vec<f64>>,
    /// `[k]`
    pub variances: Vec<f64>,
    /// Mean variance of the `d − k` other directions.
    pub residual: f64,
}

impl Components {
    /// Of `n` vectors `[n][d]`, `n − 1` in the denominator, by subspace iteration on their covariance.
    ///
    /// # Errors
    /// When there is no memory for a `[d, d]` matrix.
    pub fn of(rows: &[&[f32]], wanted: usize) -> Result<Self> {
        let (n, d) = (rows.len(), rows.first().map_or(0, |r| r.len()));
        let flat: Vec<f64> = rows.iter().flat_map(|r| r.iter().map(|v| f64::from(*v))).collect();
        let x = Tensor::from_vec(flat, (n, d), &Device::Cpu)?;
        let mean = x.mean_keepdim(0)?;
        let x = x.broadcast_sub(&mean)?;
        let covariance = (x.t()?.contiguous()?.matmul(&x)? / (n - 1) as f64)?;
        let all = x.sqr()?.sum_all()?.to_scalar::<f64>()? / (n - 1) as f64;
        let k = wanted.min(d - 1);
        let (variances, directions) = widest(&covariance, k, d)?;
        let residual = (all - variances.iter().sum::<f64>()) / (d - k) as f64;
        Ok(Self { mean: mean.flatten_all()?.to_vec1()?, directions, variances, residual })
    }
}

/// The `k` largest eigenvalues of a symmetric `[d, d]`, and their vectors.
fn widest(covariance: &Tensor, k: usize, d: usize) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let m = (k + BESIDE).min(d);
    let mut random = ChaCha20Rng::seed_from_u64(0);
    let mut basis: Vec<Vec<f64>> =
        (0..m).map(|_| (0..d).map(|_| random.random::<f64>() - 0.5).collect()).collect();
    orthonormalise(&mut basis);
    let mut before = vec![f64::INFINITY; k];
    for _ in 0..ROUNDS {
        let q = Tensor::from_vec(basis.concat(), (m, d), &Device::Cpu)?;
        let image = q.matmul(covariance)?; // [m, d]
        let small = image.matmul(&q.t()?.contiguous()?)?.to_vec2::<f64>()?; // [m, m]
        let (values, rotation) = jacobi(small);
        let image = image.to_vec2::<f64>()?;
        let rotated = |by: &Vec<f64>, rows: &[Vec<f64>]| -> Vec<f64> {
            (0..d).map(|j| by.iter().zip(rows).map(|(w, row)| w * row[j]).sum()).collect()
        };
        let now = &values[..k];
        let moved = now.iter().zip(&before).any(|(a, b)| (a - b).abs() > SETTLED * values[0].abs());
        if !moved {
            let vectors = rotation[..k].iter().map(|by| rotated(by, &basis)).collect();
            return Ok((values[..k].to_vec(), vectors));
        }
        before = now.to_vec();
        basis = rotation.iter().map(|by| rotated(by, &image)).collect();
        orthonormalise(&mut basis);
    }
    let (values, vectors) = (before, basis[..k].to_vec());
    Ok((values, vectors))
}

/// Makes vectors orthogonal and as long as 1, each to those before it, twice against rounding (Gram and Schmidt). One that
/// the others span becomes 0.
fn orthonormalise(basis: &mut [Vec<f64>]) {
    for i in 0..basis.len() {
        let (before, rest) = basis.split_at_mut(i);
        let v = &mut rest[0];
        let whole = dot(v, v).sqrt();
        for _ in 0..2 {
            for u in before.iter() {
                let along = dot(u, v);
                v.iter_mut().zip(u).for_each(|(v, u)| *v -= along * u);
            }
        }
        let length = dot(v, v).sqrt();
        let scale = if length > 1e-12 * whole { 1.0 / length } else { 0.0 };
        v.iter_mut().for_each(|v| *v *= scale);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Eigenvalues of a small symmetric matrix, the largest first, and their vectors as rows (Jacobi's cyclic rotations).
fn jacobi(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = a.len();
    let mut v: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let whole: f64 = a.iter().flatten().map(|x| x * x).sum();
    for _ in 0..60 {
        let beside: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        if beside <= 1e-30 * whole {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                for i in 0..n {
                    (a[p][i], a[q][i]) = (c * a[p][i] - s * a[q][i], s * a[p][i] + c * a[q][i]);
                    (v[p][i], v[q][i]) = (c * v[p][i] - s * v[q][i], s * v[p][i] + c * v[q][i]);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    (order.iter().map(|&i| a[i][i]).collect(), order.into_iter().map(|i| v[i].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_symmetric_matrix_has_the_eigenvalues_that_numpy_gives() {
        // numpy.linalg.eigvalsh([[4, 1, 0], [1, 3, 1], [0, 1, 2]])
        let (values, vectors) = jacobi(vec![vec![4.0, 1.0, 0.0], vec![1.0, 3.0, 1.0], vec![0.0, 1.0, 2.0]]);
        for (found, expected) in values.iter().zip([4.732_050_807_568_877, 3.0, 1.267_949_192_431_123]) {
            assert!((found - expected).abs() < 1e-12, "{values:?}");
        }
        assert!(
            (dot(&vectors[0], &vectors[1])).abs() < 1e-12
                && (dot(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-12
        );
    }

    #[test]
    fn directions_and_variances_of_known_ones_are_found_and_the_rest_is_shared() {
        let mut random = ChaCha20Rng::seed_from_u64(7);
        // Sums of twelve even numbers are nearly normal.
        let mut normal = || (0..12).map(|_| random.random::<f64>() - 0.5).sum::<f64>();
        let rows: Vec<Vec<f32>> = (0..4000)
            .map(|_| {
                let (a, b) = (3.0 * normal(), 2.0 * normal());
                (0..20)
                    .map(|j| {
                        (if j == 3 {
                            a
                        } else if j == 11 {
                            b
                        } else {
                            0.5 * normal()
                        }) as f32
                            + 1.0
                    })
                    .collect()
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let found = Components::of(&rows, 2).unwrap();
        assert!(
            (found.variances[0] - 9.0).abs() < 0.6 && (found.variances[1] - 4.0).abs() < 0.3,
            "{found:?}"
        );
        assert!(found.directions[0][3].abs() > 0.99 && found.directions[1][11].abs() > 0.99, "{found:?}");
        assert!((found.residual - 0.25).abs() < 0.02 && (found.mean[0] - 1.0).abs() < 0.05, "{found:?}");
    }
}
