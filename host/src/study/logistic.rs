//! Models of a few numbers per case that are fitted at once: logistic regression for yes or no, ridge regression for values.

/// Columns brought to mean 0 and standard deviation 1 by the cases of a fit; a number that is not known counts as the mean.
struct Standardised {
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl Standardised {
    fn of(rows: &[&[f64]]) -> Self {
        let columns = rows.first().map_or(0, |r| r.len());
        let moments = |c: usize| {
            let known: Vec<f64> = rows.iter().map(|r| r[c]).filter(|v| v.is_finite()).collect();
            let n = known.len().max(1) as f64;
            let mean = known.iter().sum::<f64>() / n;
            let deviation = (known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean, if deviation > 1e-12 { deviation } else { 1.0 })
        };
        let (means, deviations) = (0..columns).map(moments).unzip();
        Self { means, deviations }
    }

    /// With a 1 behind, for the intercept.
    fn row(&self, row: &[f64]) -> Vec<f64> {
        let number = |(c, v): (usize, &f64)| match v.is_finite() {
            true => (v - self.means[c]) / self.deviations[c],
            false => 0.0,
        };
        row.iter().enumerate().map(number).chain([1.0]).collect()
    }
}

/// Steps after which Newton's method is where it stays.
const STEPS: usize = 100;
/// Longest step at which it has arrived.
const ARRIVED: f64 = 1e-10;

/// Logistic regression on standardised columns with scikit-learn's default penalty: the least
/// `½ w·w + Σ ln(1 + exp(-y (w·x + b)))`, `y` of -1 and 1, the intercept free.
pub(super) struct Logistic {
    columns: Standardised,
    /// The last is the intercept.
    weights: Vec<f64>,
}

impl Logistic {
    /// `rows` `[n][columns]` and what is known of them, `[n]`. Newton's method, its steps halved where they overshoot.
    pub fn fit(rows: &[&[f64]], truth: &[bool]) -> Self {
        let columns = Standardised::of(rows);
        let x: Vec<Vec<f64>> = rows.iter().map(|r| columns.row(r)).collect();
        let k = x.first().map_or(1, Vec::len);
        let mut weights = vec![0.0; k];
        let mut loss = penalised(&x, truth, &weights);
        for _ in 0..STEPS {
            let mut gradient: Vec<f64> = weights.clone();
            let mut curvature = vec![vec![0.0; k]; k];
            (0..k - 1).for_each(|i| curvature[i][i] = 1.0);
            // The intercept has no penalty; a millionth of one keeps the system solvable where all cases are alike.
            gradient[k - 1] = 0.0;
            curvature[k - 1][k - 1] = 1e-9;
            for (row, truth) in x.iter().zip(truth) {
                let p = sigmoid(dot(row, &weights));
                let off = p - f64::from(u8::from(*truth));
                for i in 0..k {
                    gradient[i] += off * row[i];
                    (0..k).for_each(|j| curvature[i][j] += p * (1.0 - p) * row[i] * row[j]);
                }
            }
            let step = solved(curvature, gradient);
            let mut share = 1.0;
            let (next, better) = loop {
                let next: Vec<f64> = weights.iter().zip(&step).map(|(w, s)| w - share * s).collect();
                let found = penalised(&x, truth, &next);
                if found <= loss || share < 1e-6 {
                    break (next, found);
                }
                share *= 0.5;
            };
            let length = step.iter().map(|s| s * s).sum::<f64>().sqrt();
            (weights, loss) = (next, better);
            if length < ARRIVED {
                break;
            }
        }
        Self { columns, weights }
    }

    /// Probability of a case.
    pub fn probability(&self, row: &[f64]) -> f64 {
        sigmoid(dot(&self.columns.row(row), &self.weights))
    }
}

/// Least squares on standardised columns with the penalty `w·w`, the intercept free.
pub(super) struct Ridge {
    columns: Standardised,
    weights: Vec<f64>,
}

impl Ridge {
    /// `rows` `[n][columns]` and their values, `[n]`.
    pub fn fit(rows: &[&[f64]], values: &[f64]) -> Self {
        let columns = Standardised::of(rows);
        let x: Vec<Vec<f64>> = rows.iter().map(|r| columns.row(r)).collect();
        let k = x.first().map_or(1, Vec::len);
        let (mut right, mut left) = (vec![0.0; k], vec![vec![0.0; k]; k]);
        (0..k - 1).for_each(|i| left[i][i] = 1.0);
        for (row, value) in x.iter().zip(values) {
            for i in 0..k {
                right[i] += value * row[i];
                (0..k).for_each(|j| left[i][j] += row[i] * row[j]);
            }
        }
        Self { columns, weights: solved(left, right) }
    }

    /// Value of a case.
    pub fn value(&self, row: &[f64]) -> f64 {
        dot(&self.columns.row(row), &self.weights)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn penalised(x: &[Vec<f64>], truth: &[bool], weights: &[f64]) -> f64 {
    let penalty: f64 = weights[..weights.len() - 1].iter().map(|w| 0.5 * w * w).sum();
    let of = |(row, truth): (&Vec<f64>, &bool)| {
        let z = dot(row, weights) * if *truth { 1.0 } else { -1.0 };
        // ln(1 + exp(-z)) without overflow.
        (-z).max(0.0) + (-z.abs()).exp().ln_1p()
    };
    penalty + x.iter().zip(truth).map(of).sum::<f64>()
}

/// The solution of `a x = b` by elimination with pivots; `a` is positive definite here.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|i, j| a[*i][column].abs().total_cmp(&a[*j][column].abs()));
        let pivot = pivot.unwrap_or(column);
        a.swap(column, pivot);
        b.swap(column, pivot);
        let (head, tail) = a.split_at_mut(column + 1);
        let top = &head[column];
        for (row, right) in tail.iter_mut().zip(column + 1..n) {
            let share = row[column] / top[column];
            (column..n).for_each(|c| row[c] -= share * top[c]);
            b[right] -= share * b[column];
        }
    }
    let mut x = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|c| a[row][c] * x[c]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [[f64; 2]; 8] =
        [[1.0, 2.0], [2.0, 1.0], [3.0, 5.0], [4.0, 3.0], [5.0, 8.0], [6.0, 5.0], [7.0, 9.0], [8.0, 7.0]];
    const Y: [bool; 8] = [false, false, true, false, true, false, true, true];

    #[test]
    fn probabilities_are_those_of_scikit_learn() {
        // make_pipeline(StandardScaler(), LogisticRegression(tol=1e-12)).fit(x, y).predict_proba(x)[:, 1], scikit-learn 1.9.1
        let expected = [
            0.157865708347,
            0.120092472300,
            0.456600323901,
            0.285289668767,
            0.790198353995,
            0.538625439670,
            0.877860977625,
            0.773467055221,
        ];
        let rows = X.each_ref().map(|r| r.as_slice());
        let model = Logistic::fit(&rows, &Y);
        for (row, expected) in rows.iter().zip(expected) {
            let found = model.probability(row);
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    }

    #[test]
    fn values_are_those_of_scikit_learn() {
        // make_pipeline(StandardScaler(), Ridge(alpha=1)).fit(x, v).predict(x), scikit-learn 1.9.1
        let values = [1.0, 1.5, 2.0, 2.5, 3.5, 3.0, 5.0, 4.5];
        let expected = [
            1.164182013570,
            1.296256690126,
            2.388759534747,
            2.328748577690,
            3.613337055923,
            3.361240465253,
            4.453743309874,
            4.393732352817,
        ];
        let rows = X.each_ref().map(|r| r.as_slice());
        let model = Ridge::fit(&rows, &values);
        for (row, expected) in rows.iter().zip(expected) {
            assert!((model.value(row) - expected).abs() < 1e-9, "{}, expected {expected}", model.value(row));
        }
    }

    #[test]
    fn a_number_that_is_not_known_counts_as_the_mean_and_a_constant_says_nothing() {
        let rows = [[1.0, 5.0], [f64::NAN, 5.0], [3.0, 5.0], [4.0, 5.0]];
        let rows = rows.each_ref().map(|r| r.as_slice());
        let model = Logistic::fit(&rows, &[false, false, true, true]);
        let mean = (1.0 + 3.0 + 4.0) / 3.0;
        assert_eq!(model.probability(&[f64::NAN, 5.0]), model.probability(&[mean, 5.0]));
        assert_eq!(model.probability(&[2.0, f64::NAN]), model.probability(&[2.0, 5.0]));
        assert!(model.probability(&[1.0, 5.0]) < model.probability(&[4.0, 5.0]));
    }
}
