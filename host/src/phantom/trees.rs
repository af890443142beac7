//! Branching vessels: tapering trees from a root to points strewn through an organ.
//!
//! A tree grows by the balanced minimum-spanning rule of Cuntz et al. (PLoS Comput Biol 2010): each point,
//! nearest to the root first, joins where wire length plus a share of the path back to the root is least.
//! Radii follow Murray's law from the twigs up (r^3 = sum of the children's r^3).

use super::draw::Draw;
use super::grid::{Canvas, P3, Rod, along, length, sub};

/// A branching vessel; node 0 is at the hilum and a parent always stands before its children.
pub(super) struct Tree {
    pub(super) points: Vec<P3>,
    pub(super) radii: Vec<f32>,
    pub(super) parents: Vec<usize>,
}

/// How a tree grows.
pub(super) struct Growth {
    /// How many points it reaches for.
    pub(super) count: usize,
    /// Radius of its ends, mm.
    pub(super) twig: f32,
    /// Weight of the path back to the root against the length of wire.
    pub(super) balance: f32,
}

impl Tree {
    /// The stretch from `node`'s parent to it; not for node 0.
    pub(super) fn rod(&self, node: usize) -> Rod {
        let parent = self.parents[node];
        // A twig leaving a trunk is no wider at its start than three of its own radii allow.
        let ra = self.radii[parent].min(self.radii[node] * 1.35);
        Rod { a: self.points[parent], b: self.points[node], ra, rb: self.radii[node] }
    }
}

/// Grows a tree from `root` towards points in `voxels`; a bare root where there are none.
pub(super) fn grow(draw: &mut Draw, canvas: &Canvas, voxels: &[u32], root: P3, growth: &Growth) -> Tree {
    let mut tree = Tree { points: vec![root], radii: vec![0.0], parents: vec![0] };
    if voxels.is_empty() {
        return tree;
    }
    let mut targets: Vec<P3> = (0..growth.count)
        .map(|_| {
            let p = canvas.grid.centre_of(voxels[draw.below(voxels.len())] as usize);
            std::array::from_fn(|a| p[a] + 0.5 * canvas.grid.spacing[a] * draw.signed())
        })
        .collect();
    targets.sort_by(|a, b| length(sub(*a, root)).total_cmp(&length(sub(*b, root))));
    let mut paths = vec![0.0f32];
    for target in targets {
        let mut best = (f32::INFINITY, 0);
        for (node, p) in tree.points.iter().enumerate() {
            let cost = length(sub(target, *p)) + growth.balance * paths[node];
            if cost < best.0 {
                best = (cost, node);
            }
        }
        let from = tree.points[best.1];
        let way = sub(target, from);
        let steps = (length(way) / 6.0).ceil().max(1.0) as usize;
        let mut parent = best.1;
        for step in 1..=steps {
            let mut p = along(from, way, step as f32 / steps as f32);
            if step < steps {
                for x in &mut p {
                    *x += 0.8 * draw.signed();
                }
            }
            paths.push(paths[parent] + length(sub(p, tree.points[parent])));
            tree.points.push(p);
            tree.parents.push(parent);
            parent = tree.points.len() - 1;
        }
    }
    relax(&mut tree);
    murray(&mut tree, growth.twig);
    tree
}

/// Pulls every inner node towards the middle of its neighbours, so that branches bend and not break.
fn relax(tree: &mut Tree) {
    let n = tree.points.len();
    for _ in 0..3 {
        let mut sums = vec![([0.0f32; 3], 0.0f32); n];
        for node in 1..n {
            let parent = tree.parents[node];
            sums[parent].0 = along(sums[parent].0, tree.points[node], 1.0);
            sums[parent].1 += 1.0;
        }
        let old = tree.points.clone();
        for node in 1..n {
            let (sum, count) = sums[node];
            if count > 0.0 {
                let middle = along([0.0; 3], sum, 0.5 / count);
                let middle = along(middle, old[tree.parents[node]], 0.5);
                tree.points[node] = along(tree.points[node], sub(middle, tree.points[node]), 0.5);
            }
        }
    }
}

fn murray(tree: &mut Tree, twig: f32) {
    let n = tree.points.len();
    tree.radii = vec![0.0; n];
    let mut cubes = vec![0.0f32; n];
    for node in (0..n).rev() {
        if cubes[node] == 0.0 {
            cubes[node] = twig * twig * twig;
        }
        tree.radii[node] = libm::cbrtf(cubes[node]).min(5.5);
        if node > 0 {
            let cube = cubes[node];
            cubes[tree.parents[node]] += cube;
        }
    }
}
