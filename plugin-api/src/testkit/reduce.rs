//! Reductions along an axis, softmax and layer norm.

use super::node::{Inner, Node, count, invalid};
use crate::abi::types::ReduceOp;
use crate::error::Result;
use std::sync::Arc;

/// A shape around one of its axes.
#[derive(Clone, Copy)]
struct Lines {
    outer: usize,
    n: usize,
    inner: usize,
}

impl Lines {
    fn new(what: &str, dims: &[usize], axis: usize) -> Result<Self> {
        let n = *dims.get(axis).ok_or_else(|| invalid(format!("{what}: no axis {axis} in {dims:?}")))?;
        Ok(Self { outer: count(&dims[..axis]), n, inner: count(&dims[axis + 1..]) })
    }

    fn count(self) -> usize {
        self.outer * self.inner
    }

    /// Element `i` of line `line`.
    fn at(self, line: usize, i: usize) -> usize {
        (line / self.inner * self.n + i) * self.inner + line % self.inner
    }

    fn line(self, x: &[f32], line: usize) -> impl Iterator<Item = f32> + Clone {
        (0..self.n).map(move |i| x[self.at(line, i)])
    }
}

/// One axis to length 1.
pub(crate) fn reduce(op: ReduceOp, x: &Node, axis: usize) -> Result<Node> {
    let lines = Lines::new(op.name(), &x.dims, axis)?;
    if lines.n == 0 {
        return Err(invalid(format!("{}: axis {axis} of {:?} is empty", op.name(), x.dims)));
    }
    let mut dims = x.dims.clone();
    dims[axis] = 1;
    let values = x.values();
    let each = |f: &dyn Fn(usize) -> f32| -> Vec<f32> { (0..lines.count()).map(f).collect() };
    let sum = |line| lines.line(&values, line).map(f64::from).sum::<f64>();
    Ok(match op {
        ReduceOp::SUM => Inner::made(dims, each(&|l| sum(l) as f32), &[x], spread(lines, 1.0)),
        ReduceOp::MEAN => {
            let n = lines.n as f64;
            Inner::made(dims, each(&|l| (sum(l) / n) as f32), &[x], spread(lines, (1.0 / n) as f32))
        }
        ReduceOp::MAX | ReduceOp::MIN => {
            // NaN wins, as it does in the host: a comparison that skips it would hide it.
            let pick = if op == ReduceOp::MAX { f32::max } else { f32::min };
            let best = each(&|l| {
                let better = |a: f32, b: f32| if a.is_nan() || b.is_nan() { f32::NAN } else { pick(a, b) };
                lines.line(&values, l).reduce(better).unwrap_or(f32::NAN)
            });
            let (winners, values) = (Arc::new(best), values.clone());
            let kept = winners.clone();
            Inner::made(dims, winners, &[x], move |g| {
                let mut to_x = vec![0.0; values.len()];
                for line in 0..lines.count() {
                    let ties = lines.line(&values, line).filter(|v| *v == kept[line]).count() as f32;
                    for at in (0..lines.n).map(|i| lines.at(line, i)) {
                        if values[at] == kept[line] {
                            to_x[at] = g[line] / ties;
                        }
                    }
                }
                vec![to_x]
            })
        }
        ReduceOp::MEDIAN => {
            let chosen: Vec<usize> = (0..lines.count())
                .map(|line| {
                    let mut order: Vec<usize> = (0..lines.n).map(|i| lines.at(line, i)).collect();
                    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
                    order[(lines.n - 1) / 2]
                })
                .collect();
            let medians: Vec<f32> = chosen.iter().map(|&at| values[at]).collect();
            let size = values.len();
            Inner::made(dims, medians, &[x], move |g| {
                let mut to_x = vec![0.0; size];
                chosen.iter().zip(g).for_each(|(&at, g)| to_x[at] = *g);
                vec![to_x]
            })
        }
        ReduceOp::ARGMAX => {
            let first = |line| {
                let best = lines.line(&values, line).enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a });
                best.map_or(0.0, |(i, _)| i as f32)
            };
            Inner::refusing(op.name(), dims, each(&first), &[x])
        }
        _ => return Err(invalid(format!("reduction {} is unknown", op.0))),
    })
}

/// The same share of a line's gradient for each of its elements.
fn spread(lines: Lines, share: f32) -> impl Fn(&[f32]) -> Vec<Vec<f32>> + Send + Sync {
    move |g| {
        let mut to_x = vec![0.0; lines.count() * lines.n];
        for line in 0..lines.count() {
            (0..lines.n).for_each(|i| to_x[lines.at(line, i)] = g[line] * share);
        }
        vec![to_x]
    }
}

/// `ln Σ eˣ` of a line, with its largest element taken out first.
fn log_sum(lines: Lines, x: &[f32], line: usize) -> f64 {
    let top = lines.line(x, line).map(f64::from).fold(f64::NEG_INFINITY, f64::max);
    top + lines.line(x, line).map(|v| (f64::from(v) - top).exp()).sum::<f64>().ln()
}

/// Softmax over one axis.
pub(crate) fn softmax(x: &Node, axis: usize) -> Result<Node> {
    let lines = Lines::new("softmax", &x.dims, axis)?;
    let values = x.values();
    let mut p = vec![0.0; values.len()];
    for line in 0..lines.count() {
        let log = log_sum(lines, &values, line);
        (0..lines.n)
            .map(|i| lines.at(line, i))
            .for_each(|at| p[at] = (f64::from(values[at]) - log).exp() as f32);
    }
    let p = Arc::new(p);
    let kept = p.clone();
    Ok(Inner::made(x.dims.clone(), p, &[x], move |g| {
        let mut to_x = vec![0.0; g.len()];
        for line in 0..lines.count() {
            let dot: f32 = (0..lines.n).map(|i| lines.at(line, i)).map(|at| g[at] * kept[at]).sum();
            (0..lines.n).map(|i| lines.at(line, i)).for_each(|at| to_x[at] = kept[at] * (g[at] - dot));
        }
        vec![to_x]
    }))
}

/// Logarithm of the softmax over one axis.
pub(crate) fn log_softmax(x: &Node, axis: usize) -> Result<Node> {
    let lines = Lines::new("log_softmax", &x.dims, axis)?;
    let values = x.values();
    let mut logs = vec![0.0; values.len()];
    for line in 0..lines.count() {
        let log = log_sum(lines, &values, line);
        (0..lines.n)
            .map(|i| lines.at(line, i))
            .for_each(|at| logs[at] = (f64::from(values[at]) - log) as f32);
    }
    let logs = Arc::new(logs);
    let kept = logs.clone();
    Ok(Inner::made(x.dims.clone(), logs, &[x], move |g| {
        let mut to_x = vec![0.0; g.len()];
        for line in 0..lines.count() {
            let sum: f32 = (0..lines.n).map(|i| g[lines.at(line, i)]).sum();
            for at in (0..lines.n).map(|i| lines.at(line, i)) {
                to_x[at] = g[at] - kept[at].exp() * sum;
            }
        }
        vec![to_x]
    }))
}

/// `(x - mean) / sqrt(var + epsilon) · weight + bias` over the last axis.
pub(crate) fn layer_norm(x: &Node, weight: &Node, bias: &Node, epsilon: f64) -> Result<Node> {
    let n = *x.dims.last().ok_or_else(|| invalid("layer_norm: a tensor without axes"))?;
    if weight.dims != [n] || bias.dims != [n] {
        let (w, b) = (&weight.dims, &bias.dims);
        return Err(invalid(format!("layer_norm: expected weight and bias [{n}], found {w:?} and {b:?}")));
    }
    let (values, w, b) = (x.values(), weight.values(), bias.values());
    let mut normal = Vec::with_capacity(values.len());
    let mut scales = Vec::new();
    for row in values.chunks_exact(n.max(1)) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n as f64;
        let scale = 1.0 / (variance + epsilon).sqrt();
        normal.extend(row.iter().map(|&v| ((f64::from(v) - mean) * scale) as f32));
        scales.push(scale as f32);
    }
    let out: Vec<f32> = normal.iter().enumerate().map(|(i, v)| v * w[i % n] + b[i % n]).collect();
    Ok(Inner::made(x.dims.clone(), out, &[x, weight, bias], move |g| {
        let mut to = [vec![0.0; g.len()], vec![0.0; n], vec![0.0; n]];
        for (row, scale) in scales.iter().enumerate() {
            let at = row * n..(row + 1) * n;
            let (g, z) = (&g[at.clone()], &normal[at.clone()]);
            let inner: Vec<f32> = g.iter().zip(w.iter()).map(|(g, w)| g * w).collect();
            let mean = inner.iter().sum::<f32>() / n as f32;
            let along = inner.iter().zip(z).map(|(g, z)| g * z).sum::<f32>() / n as f32;
            for i in 0..n {
                to[0][row * n + i] = scale * (inner[i] - mean - z[i] * along);
                to[1][i] += g[i] * z[i];
                to[2][i] += g[i];
            }
        }
        to.into()
    }))
}
