//! The same elements in another order or number, and products of matrices.

use super::elementwise::{Places, broadcast_shape};
use super::node::{Inner, Node, affordable, count, invalid};
use crate::error::Result;

/// Every element of the result is one of `x`; its gradient goes back there.
fn gathered(x: &Node, dims: Vec<usize>, places: Vec<usize>) -> Node {
    let values = x.values();
    let taken: Vec<f32> = places.iter().map(|&at| values[at]).collect();
    let size = values.len();
    Inner::made(dims, taken, &[x], move |g| {
        let mut to_x = vec![0.0; size];
        places.iter().zip(g).for_each(|(&at, g)| to_x[at] += g);
        vec![to_x]
    })
}

/// The same elements in another shape.
pub(crate) fn reshape(x: &Node, dims: &[usize]) -> Result<Node> {
    let wanted = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let n = count(&x.dims);
    if wanted != Some(n) {
        return Err(invalid(format!("reshape: {:?} has {n} elements, {dims:?} has not", x.dims)));
    }
    Ok(Inner::made(dims.to_vec(), x.values(), &[x], |g| vec![g.to_vec()]))
}

/// Axes in another order.
pub(crate) fn permute(x: &Node, axes: &[usize]) -> Result<Node> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if sorted != (0..x.dims.len()).collect::<Vec<_>>() {
        return Err(invalid(format!("permute: {axes:?} is not an order of the axes of {:?}", x.dims)));
    }
    let mut strides = vec![1; x.dims.len()];
    for i in (0..x.dims.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * x.dims[i + 1];
    }
    let mut places = vec![0];
    for &axis in axes {
        let (n, stride) = (x.dims[axis], strides[axis]);
        places = places.iter().flat_map(|&at| (0..n).map(move |i| at + i * stride)).collect();
    }
    Ok(gathered(x, axes.iter().map(|&a| x.dims[a]).collect(), places))
}

/// Repeated along axes of length 1 and new leading axes.
pub(crate) fn broadcast_to(x: &Node, dims: &[usize]) -> Result<Node> {
    affordable(dims)?;
    if broadcast_shape("broadcast_to", &x.dims, dims).ok().as_deref() != Some(dims) {
        return Err(invalid(format!("broadcast_to: {:?} does not broadcast to {dims:?}", x.dims)));
    }
    let places = Places::new(&x.dims, dims);
    Ok(gathered(x, dims.to_vec(), (0..count(dims)).map(|i| places.at(i)).collect()))
}

/// Elements of an axis by index.
pub(crate) fn index_select(x: &Node, axis: usize, indices: &[u64]) -> Result<Node> {
    let Some(&n) = x.dims.get(axis) else {
        return Err(invalid(format!("index_select: no axis {axis} in {:?}", x.dims)));
    };
    if let Some(bad) = indices.iter().find(|&&i| i >= n as u64) {
        return Err(invalid(format!("index_select: index {bad} beyond axis {axis} of {:?}", x.dims)));
    }
    let mut dims = x.dims.clone();
    dims[axis] = indices.len();
    affordable(&dims)?;
    let (outer, inner) = (count(&dims[..axis]), count(&dims[axis + 1..]));
    let mut places = Vec::with_capacity(count(&dims));
    for o in 0..outer {
        for &i in indices {
            places.extend((0..inner).map(|j| (o * n + i as usize) * inner + j));
        }
    }
    Ok(gathered(x, dims, places))
}

/// A range of one axis.
pub(crate) fn narrow(x: &Node, axis: usize, start: usize, length: usize) -> Result<Node> {
    if axis >= x.dims.len() || start.checked_add(length).is_none_or(|end| end > x.dims[axis]) {
        return Err(invalid(format!("narrow: {start}..+{length} leaves axis {axis} of {:?}", x.dims)));
    }
    let indices: Vec<u64> = (start..start + length).map(|i| i as u64).collect();
    index_select(x, axis, &indices)
}

/// Tensors one after the other.
pub(crate) fn concat(tensors: &[Node], axis: usize) -> Result<Node> {
    let first = tensors.first().ok_or_else(|| invalid("concat: no tensors"))?;
    if axis >= first.dims.len() {
        return Err(invalid(format!("concat: no axis {axis} in {:?}", first.dims)));
    }
    let elsewhere = |dims: &[usize]| {
        let mut dims = dims.to_vec();
        dims[axis] = 0;
        dims
    };
    for t in tensors {
        if t.dims.len() != first.dims.len() || elsewhere(&t.dims) != elsewhere(&first.dims) {
            return Err(invalid(format!("concat: {:?} and {:?} along axis {axis}", first.dims, t.dims)));
        }
    }
    let mut dims = first.dims.clone();
    dims[axis] = tensors.iter().map(|t| t.dims[axis]).sum();
    affordable(&dims)?;
    let (outer, inner) = (count(&dims[..axis]), count(&dims[axis + 1..]));
    let lengths: Vec<usize> = tensors.iter().map(|t| t.dims[axis] * inner).collect();
    let all: Vec<_> = tensors.iter().map(|t| t.values()).collect();
    let mut values = Vec::with_capacity(count(&dims));
    for o in 0..outer {
        for (t, n) in all.iter().zip(&lengths) {
            values.extend_from_slice(&t[o * n..(o + 1) * n]);
        }
    }
    Ok(Inner::made(dims, values, &tensors.iter().collect::<Vec<_>>(), move |g| {
        let mut to: Vec<Vec<f32>> = lengths.iter().map(|n| Vec::with_capacity(outer * n)).collect();
        let mut rest = g;
        for _ in 0..outer {
            for (to, &n) in to.iter_mut().zip(&lengths) {
                let (mine, others) = rest.split_at(n);
                to.extend_from_slice(mine);
                rest = others;
            }
        }
        to
    }))
}

/// Which product a batch of matrices goes through.
#[derive(Clone, Copy)]
struct Product {
    m: usize,
    k: usize,
    n: usize,
}

/// Matrix product over the last two axes, leading axes broadcast.
pub(crate) fn matmul(a: &Node, b: &Node) -> Result<Node> {
    let (ra, rb) = (a.dims.len(), b.dims.len());
    if ra < 2 || rb < 2 || a.dims[ra - 1] != b.dims[rb - 2] {
        return Err(invalid(format!("matmul: {:?} times {:?}", a.dims, b.dims)));
    }
    let p = Product { m: a.dims[ra - 2], k: a.dims[ra - 1], n: b.dims[rb - 1] };
    let (lead_a, lead_b) = (&a.dims[..ra - 2], &b.dims[..rb - 2]);
    let lead = broadcast_shape("matmul", lead_a, lead_b)?;
    let (of_a, of_b) = (Places::new(lead_a, &lead), Places::new(lead_b, &lead));
    let batches = count(&lead);
    let mut dims = lead;
    dims.extend([p.m, p.n]);
    affordable(&dims)?;
    let (x, y) = (a.values(), b.values());
    let mut out = vec![0.0; count(&dims)];
    for i in 0..batches {
        let (x, y) = (&x[of_a.at(i) * p.m * p.k..], &y[of_b.at(i) * p.k * p.n..]);
        for r in 0..p.m {
            let row = &mut out[(i * p.m + r) * p.n..][..p.n];
            for c in 0..p.k {
                add_scaled(row, &y[c * p.n..][..p.n], x[r * p.k + c]);
            }
        }
    }
    let tracked = (a.tracked(), b.tracked());
    Ok(Inner::made(dims, out, &[a, b], move |g| {
        let mut to_a = vec![0.0; if tracked.0 { x.len() } else { 0 }];
        let mut to_b = vec![0.0; if tracked.1 { y.len() } else { 0 }];
        for i in 0..batches {
            let (at_a, at_b) = (of_a.at(i) * p.m * p.k, of_b.at(i) * p.k * p.n);
            for r in 0..p.m {
                let g = &g[(i * p.m + r) * p.n..][..p.n];
                for c in 0..p.k {
                    if tracked.0 {
                        let row = &y[at_b + c * p.n..][..p.n];
                        to_a[at_a + r * p.k + c] += g.iter().zip(row).map(|(g, y)| g * y).sum::<f32>();
                    }
                    if tracked.1 {
                        add_scaled(&mut to_b[at_b + c * p.n..][..p.n], g, x[at_a + r * p.k + c]);
                    }
                }
            }
        }
        vec![to_a, to_b]
    }))
}

fn add_scaled(to: &mut [f32], from: &[f32], by: f32) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += by * f);
}
