//! The operations by name: 3D convolution and linear interpolation.

use super::node::{Inner, Node, affordable, count, invalid};
use super::shape::reshape;
use crate::abi::named;
use crate::abi::types::{Entry, ErrorCode};
use crate::error::{Error, Result};
use std::ops::Range;

/// Runs an operation of [`named::ALL`].
pub(crate) fn run(name: &str, inputs: &[Node], attributes: &[Entry]) -> Result<Vec<Node>> {
    match name {
        named::CONV3D => {
            let [stride, padding] = triples(name, ["stride", "padding"], attributes)?;
            let [x, weight] = only(name, inputs)?;
            Ok(vec![conv3d(x, weight, stride.unwrap_or([1; 3]), padding.unwrap_or_default())?])
        }
        named::RESIZE_LINEAR => {
            let [size] = triples(name, ["size"], attributes)?;
            let [x] = only(name, inputs)?;
            let size = size.ok_or_else(|| invalid("resize_linear: `size` is missing"))?;
            Ok(vec![resize_linear(x, size)?])
        }
        other => Err(Error::new(
            ErrorCode::UNKNOWN_OP,
            format!("op `{other}` is unknown to this host (ABI 1.0); upgrade the host"),
        )),
    }
}

fn only<'a, const N: usize>(name: &str, inputs: &'a [Node]) -> Result<[&'a Node; N]> {
    let all: Vec<&Node> = inputs.iter().collect();
    all.try_into().map_err(|all: Vec<_>| invalid(format!("{name}: {} tensors, expected {N}", all.len())))
}

/// Three numbers each, `1,1,1`, of those that are there.
fn triples<const N: usize>(
    name: &str,
    known: [&str; N],
    attributes: &[Entry],
) -> Result<[Option<[usize; 3]>; N]> {
    let mut found = [None; N];
    for Entry { key, value } in attributes {
        let Some(at) = known.iter().position(|k| k == &key.as_str()) else {
            let message = format!("op `{name}` has no `{key}` in this host (ABI 1.0); upgrade the host");
            return Err(Error::new(ErrorCode::UNKNOWN_OP, message));
        };
        let numbers: Option<Vec<usize>> = value.split(',').map(|n| n.parse().ok()).collect();
        let three = numbers.and_then(|n| <[usize; 3]>::try_from(n).ok());
        let wrong = || invalid(format!("{name}: `{key}` is `{value}`, expected three numbers"));
        found[at] = Some(three.ok_or_else(wrong)?);
    }
    Ok(found)
}

/// What a convolution is of; depth, height, width.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    channels: usize,
    outputs: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    output: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
}

impl Sizes {
    fn new(x: &[usize], weight: &[usize], stride: [usize; 3], padding: [usize; 3]) -> Result<Self> {
        let (&[batch, channels, d, h, w], &[outputs, inner, kd, kh, kw]) = (x, weight) else {
            return Err(invalid(format!(
                "conv3d: {x:?} with weight {weight:?}, expected [C, D, H, W] or [N, C, D, H, W] with [O, C, kD, kH, kW]"
            )));
        };
        let (input, kernel) = ([d, h, w], [kd, kh, kw]);
        if channels != inner || count(x) == 0 || count(weight) == 0 || stride.contains(&0) {
            return Err(invalid(format!("conv3d: {x:?} with weight {weight:?} and stride {stride:?}")));
        }
        let mut output = [0; 3];
        for i in 0..3 {
            let padded = padding[i].checked_mul(2).and_then(|p| p.checked_add(input[i]));
            let room = padded.and_then(|p| p.checked_sub(kernel[i])).ok_or_else(|| {
                invalid(format!("conv3d: a kernel of {kernel:?} on {input:?} with padding {padding:?}"))
            })?;
            output[i] = room / stride[i] + 1;
        }
        affordable(&[batch, outputs, output[0], output[1], output[2]])?;
        Ok(Self { batch, channels, outputs, input, kernel, output, stride, padding })
    }

    /// The outputs along an axis that a tap of the kernel reads from inside the input.
    fn reached(&self, axis: usize, tap: usize) -> Range<usize> {
        let (s, p) = (self.stride[axis], self.padding[axis]);
        let first = p.saturating_sub(tap).div_ceil(s);
        let beyond = (self.input[axis] + p).saturating_sub(tap).div_ceil(s);
        first..beyond.clamp(first, self.output[axis].max(first))
    }

    /// Every row of products: index of the weight, first output, first input, length. Inputs are `stride[2]` apart.
    fn rows(&self, mut each: impl FnMut(usize, usize, usize, usize)) {
        let ([d, h, w], [od, oh, ow], [kd, kh, kw]) = (self.input, self.output, self.kernel);
        for (n, o, c) in triple([self.batch, self.outputs, self.channels]) {
            for (td, th, tw) in triple(self.kernel) {
                let weight = (((o * self.channels + c) * kd + td) * kh + th) * kw + tw;
                let columns = self.reached(2, tw);
                for z in self.reached(0, td) {
                    let from_z = z * self.stride[0] + td - self.padding[0];
                    for y in self.reached(1, th) {
                        let from_y = y * self.stride[1] + th - self.padding[1];
                        let to = (((n * self.outputs + o) * od + z) * oh + y) * ow + columns.start;
                        let from = (((n * self.channels + c) * d + from_z) * h + from_y) * w
                            + (columns.start * self.stride[2] + tw - self.padding[2]);
                        each(weight, to, from, columns.len());
                    }
                }
            }
        }
    }
}

fn triple([a, b, c]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

/// Correlation with zero padding, PyTorch's `conv3d`.
fn conv3d(x: &Node, weight: &Node, stride: [usize; 3], padding: [usize; 3]) -> Result<Node> {
    if let [c, d, h, w] = x.dims[..] {
        let out = conv3d(&reshape(x, &[1, c, d, h, w])?, weight, stride, padding)?;
        return reshape(&out, &out.dims[1..]);
    }
    let sizes = Sizes::new(&x.dims, &weight.dims, stride, padding)?;
    let [d, h, w] = sizes.output;
    let dims = vec![sizes.batch, sizes.outputs, d, h, w];
    let (input, kernel) = (x.values(), weight.values());
    let step = sizes.stride[2];
    let mut out = vec![0.0; count(&dims)];
    sizes.rows(|tap, to, from, n| {
        let by = kernel[tap];
        let row = &mut out[to..to + n];
        if step == 1 {
            row.iter_mut().zip(&input[from..from + n]).for_each(|(t, f)| *t += by * f);
        } else {
            row.iter_mut().zip(input[from..].iter().step_by(step)).for_each(|(t, f)| *t += by * f);
        }
    });
    Ok(Inner::made(dims, out, &[x, weight], move |g| {
        let (mut to_x, mut to_weight) = (vec![0.0; input.len()], vec![0.0; kernel.len()]);
        sizes.rows(|tap, to, from, n| {
            let (by, g) = (kernel[tap], &g[to..to + n]);
            let reached = to_x[from..].iter_mut().step_by(step);
            reached.zip(g).for_each(|(t, g)| *t += by * g);
            let read = input[from..].iter().step_by(step);
            to_weight[tap] += read.zip(g).map(|(x, g)| x * g).sum::<f32>();
        });
        vec![to_x, to_weight]
    }))
}

/// `[…, D, H, W]` to `[…, size]`: PyTorch's trilinear `interpolate` with `align_corners=False`.
fn resize_linear(x: &Node, size: [usize; 3]) -> Result<Node> {
    let Some(lead) = x.dims.len().checked_sub(3) else {
        return Err(invalid(format!("resize_linear: {:?} has fewer than three axes", x.dims)));
    };
    if count(&x.dims) == 0 || size.contains(&0) {
        return Err(invalid(format!("resize_linear: {:?} to {size:?}", x.dims)));
    }
    let mut dims = x.dims.clone();
    dims[lead..].copy_from_slice(&size);
    affordable(&dims)?;
    let mut out = x.clone();
    for (i, &to) in size.iter().enumerate() {
        if out.dims[lead + i] != to {
            out = resize_axis(&out, lead + i, to);
        }
    }
    Ok(out)
}

fn resize_axis(x: &Node, axis: usize, to: usize) -> Node {
    let from = x.dims[axis];
    // For each sample the two around it, and how far it is to the second.
    let taps: Vec<(usize, usize, f32)> = (0..to)
        .map(|i| {
            let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
            let below = at as usize;
            (below, (below + 1).min(from - 1), (at - below as f64) as f32)
        })
        .collect();
    let mut dims = x.dims.clone();
    dims[axis] = to;
    let (outer, inner) = (count(&dims[..axis]), count(&dims[axis + 1..]));
    let values = x.values();
    let mut out = Vec::with_capacity(count(&dims));
    for o in 0..outer {
        for &(a, b, v) in &taps {
            let line = |i: usize| &values[(o * from + i) * inner..][..inner];
            out.extend(line(a).iter().zip(line(b)).map(|(x, y)| x * (1.0 - v) + y * v));
        }
    }
    let n = values.len();
    Inner::made(dims, out, &[x], move |g| {
        let mut to_x = vec![0.0; n];
        for o in 0..outer {
            for (i, &(a, b, v)) in taps.iter().enumerate() {
                for j in 0..inner {
                    let g = g[(o * to + i) * inner + j];
                    to_x[(o * from + a) * inner + j] += g * (1.0 - v);
                    to_x[(o * from + b) * inner + j] += g * v;
                }
            }
        }
        vec![to_x]
    })
}
