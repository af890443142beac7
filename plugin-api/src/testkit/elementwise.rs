//! Operations element by element, one tensor or two that broadcast.

use super::node::{Inner, Node, affordable, count, invalid};
use crate::abi::types::{BinaryOp, UnaryOp};
use crate::error::Result;

/// `f` of every element, with its derivative from the element and the result.
fn map(x: &Node, f: impl Fn(f32) -> f32, slope: impl Fn(f32, f32) -> f32 + Send + Sync + 'static) -> Node {
    let from = x.values();
    let values: Vec<f32> = from.iter().map(|&v| f(v)).collect();
    let to = std::sync::Arc::new(values);
    let kept = to.clone();
    Inner::made(x.dims.clone(), to, &[x], move |g| {
        vec![g.iter().zip(from.iter().zip(kept.iter())).map(|(g, (&x, &y))| g * slope(x, y)).collect()]
    })
}

/// One tensor.
pub(crate) fn unary(op: UnaryOp, x: &Node) -> Result<Node> {
    let refusing = |f: fn(f32) -> f32| {
        let values: Vec<f32> = x.values().iter().map(|&v| f(v)).collect();
        Inner::refusing(op.name(), x.dims.clone(), values, &[x])
    };
    Ok(match op {
        UnaryOp::NEG => map(x, |x| -x, |_, _| -1.0),
        UnaryOp::EXP => map(x, f32::exp, |_, y| y),
        UnaryOp::LOG => map(x, f32::ln, |x, _| 1.0 / x),
        UnaryOp::SQRT => map(x, f32::sqrt, |_, y| 0.5 / y),
        UnaryOp::SQUARE => map(x, |x| x * x, |x, _| 2.0 * x),
        UnaryOp::ABS => map(x, f32::abs, |x, _| sign(x)),
        UnaryOp::RECIP => map(x, f32::recip, |_, y| -y * y),
        UnaryOp::RELU => map(x, |x| x.max(0.0), |x, _| if x > 0.0 { 1.0 } else { 0.0 }),
        UnaryOp::GELU => map(
            x,
            |x| x * normal_share(x) as f32,
            |x, _| (normal_share(x) + f64::from(x) * normal_density(x)) as f32,
        ),
        UnaryOp::SILU => map(
            x,
            |x| x * sigmoid(x),
            |x, _| {
                let p = sigmoid(x);
                p * (1.0 + x * (1.0 - p))
            },
        ),
        UnaryOp::SIGMOID => map(x, sigmoid, |_, y| y * (1.0 - y)),
        UnaryOp::TANH => map(x, f32::tanh, |_, y| 1.0 - y * y),
        UnaryOp::SOFTPLUS => map(x, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), |x, _| sigmoid(x)),
        UnaryOp::SIGN => refusing(sign),
        UnaryOp::FLOOR => refusing(f32::floor),
        UnaryOp::ROUND => refusing(f32::round),
        _ => return Err(invalid(format!("unary operation {} is unknown", op.0))),
    })
}

/// -1, 0 or 1; `f32::signum` has no 0.
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// `1 / (1 + e^-x)`; the exponent is never above zero, so that nothing overflows.
fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// Φ(x): the share of a standard normal below x.
fn normal_share(x: f32) -> f64 {
    0.5 * (1.0 + erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2))
}

/// φ(x), its density.
fn normal_density(x: f32) -> f64 {
    let x = f64::from(x);
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// The error function by its series `2 / √π · e^(-x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!`, whose terms all have one sign.
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    // 1 - erf(6) is 2e-17.
    if x.abs() >= 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while f64::abs(term) > 1e-17 * f64::abs(sum) {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// `x * mul + add`.
pub(crate) fn affine(x: &Node, mul: f64, add: f64) -> Node {
    let (mul, add) = (mul as f32, add as f32);
    if mul == 0.0 {
        // As in the real host, nothing times zero has a gradient.
        let values: Vec<f32> = x.values().iter().map(|v| v * mul + add).collect();
        return Inner::constant(x.dims.clone(), values);
    }
    map(x, move |x| x * mul + add, move |_, _| mul)
}

/// `x ^ exponent`.
pub(crate) fn power(x: &Node, exponent: f64) -> Node {
    if exponent == 0.0 {
        return Inner::constant(x.dims.clone(), vec![1.0; count(&x.dims)]);
    }
    let e = exponent as f32;
    map(x, move |x| x.powf(e), move |x, _| e * x.powf(e - 1.0))
}

/// `min(max(x, low), high)`: gradient 1 inside and on the bounds, 0 outside.
pub(crate) fn clamp(x: &Node, low: f64, high: f64) -> Result<Node> {
    if low.is_nan() || high.is_nan() || low > high {
        return Err(invalid(format!("clamp: low {low} is above high {high}")));
    }
    let (low, high) = (low as f32, high as f32);
    Ok(map(
        x,
        move |x| if x.is_nan() { x } else { x.clamp(low, high) },
        move |x, _| if (low..=high).contains(&x) { 1.0 } else { 0.0 },
    ))
}

/// The shape that two shapes broadcast to, as in NumPy.
pub(crate) fn broadcast_shape(what: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let axis = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let dims = (0..rank).map(|i| match (axis(a, i), axis(b, i)) {
        (n, m) if n == m || m == 1 => Some(n),
        (1, m) => Some(m),
        _ => None,
    });
    let dims: Option<Vec<usize>> = dims.collect();
    let dims = dims.ok_or_else(|| invalid(format!("{what}: {a:?} and {b:?} do not broadcast")))?;
    affordable(&dims)?;
    Ok(dims)
}

/// For each element of a broadcast shape the element of what is broadcast.
pub(crate) struct Places(Option<Vec<usize>>);

impl Places {
    /// `dims` must broadcast to `to`.
    pub fn new(dims: &[usize], to: &[usize]) -> Self {
        if dims == to {
            return Self(None);
        }
        let lead = to.len() - dims.len();
        let mut strides = vec![0; to.len()];
        let mut step = 1;
        for i in (0..dims.len()).rev() {
            strides[lead + i] = if dims[i] == 1 { 0 } else { step };
            step *= dims[i];
        }
        let mut places = vec![0];
        for (&n, stride) in to.iter().zip(strides) {
            places = places.iter().flat_map(|&at| (0..n).map(move |i| at + i * stride)).collect();
        }
        Self(Some(places))
    }

    pub fn at(&self, i: usize) -> usize {
        self.0.as_ref().map_or(i, |places| places[i])
    }
}

/// Two tensors, broadcast.
pub(crate) fn binary(op: BinaryOp, a: &Node, b: &Node) -> Result<Node> {
    let dims = broadcast_shape(op.name(), &a.dims, &b.dims)?;
    let n = count(&dims);
    let (of_a, of_b) = (Places::new(&a.dims, &dims), Places::new(&b.dims, &dims));
    let (x, y) = (a.values(), b.values());
    let of =
        |f: fn(f32, f32) -> f32| -> Vec<f32> { (0..n).map(|i| f(x[of_a.at(i)], y[of_b.at(i)])).collect() };
    // The derivatives by either, from both.
    type Slopes = fn(f32, f32) -> (f32, f32);
    let (values, slopes): (Vec<f32>, Slopes) = match op {
        BinaryOp::ADD => (of(|a, b| a + b), |_, _| (1.0, 1.0)),
        BinaryOp::SUB => (of(|a, b| a - b), |_, _| (1.0, -1.0)),
        BinaryOp::MUL => (of(|a, b| a * b), |a, b| (b, a)),
        BinaryOp::DIV => (of(|a, b| a / b), |a, b| (1.0 / b, -a / (b * b))),
        BinaryOp::MAXIMUM => (
            of(|a, b| {
                if a.is_nan() {
                    a
                } else if b.is_nan() {
                    b
                } else {
                    a.max(b)
                }
            }),
            |a, b| {
                let of_a = if a == b { 0.5 } else { f32::from(u8::from(a > b)) };
                (of_a, 1.0 - of_a)
            },
        ),
        BinaryOp::MINIMUM => (
            of(|a, b| {
                if a.is_nan() {
                    a
                } else if b.is_nan() {
                    b
                } else {
                    a.min(b)
                }
            }),
            |a, b| {
                let of_a = if a == b { 0.5 } else { f32::from(u8::from(a < b)) };
                (of_a, 1.0 - of_a)
            },
        ),
        BinaryOp::GREATER | BinaryOp::GREATER_EQUAL | BinaryOp::EQUAL => {
            let values = match op {
                BinaryOp::GREATER => of(|a, b| f32::from(u8::from(a > b))),
                BinaryOp::EQUAL => of(|a, b| f32::from(u8::from(a == b))),
                _ => of(|a, b| f32::from(u8::from(a >= b))),
            };
            return Ok(Inner::refusing(op.name(), dims, values, &[a, b]));
        }
        _ => return Err(invalid(format!("binary operation {} is unknown", op.0))),
    };
    let (size_a, size_b) = (x.len(), y.len());
    Ok(Inner::made(dims, values, &[a, b], move |g| {
        let (mut to_a, mut to_b) = (vec![0.0; size_a], vec![0.0; size_b]);
        for (i, g) in g.iter().enumerate() {
            let (at_a, at_b) = (of_a.at(i), of_b.at(i));
            let (da, db) = slopes(x[at_a], y[at_b]);
            to_a[at_a] += g * da;
            to_b[at_b] += g * db;
        }
        vec![to_a, to_b]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_the_tables_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, value) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
        {
            assert!((erf(x) - value).abs() < 1e-10 && (erf(-x) + value).abs() < 1e-10, "{x}: {}", erf(x));
        }
        assert_eq!((erf(40.0), erf(-40.0)), (1.0, -1.0));
    }

    #[test]
    fn shapes_broadcast_as_in_numpy() {
        assert_eq!(broadcast_shape("add", &[5, 1, 4], &[3, 1]).unwrap(), [5, 3, 4]);
        assert_eq!(broadcast_shape("add", &[], &[2]).unwrap(), [2]);
        assert!(broadcast_shape("add", &[2, 3], &[2]).is_err());
        let places = Places::new(&[3, 1], &[2, 3, 2]);
        assert_eq!((0..12).map(|i| places.at(i)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    }
}
