//! In the brain's depths: nuclei, ventricles, and the small bright spots of older white matter.

use super::super::draw::Draw;
use super::super::grid::{Ellipsoid, P3, Rod};
use super::head::Head;
use super::tissue::{Picture, Signal, mix};

/// Paints nuclei, then ventricles into them.
pub(super) fn paint(head: &Head, draw: &mut Draw, picture: &mut Picture) {
    nuclei(head, picture);
    ventricles(head, draw, picture);
}

fn nuclei(head: &Head, picture: &mut Picture) {
    let c = head.centre;
    let grid = picture.grid.clone();
    let mut pale = head.tissues.grey;
    mix(&mut pale, 0.35, head.tissues.white);
    for side in [-1.0, 1.0] {
        let shapes = [
            (Ellipsoid::turned([side * 12.0, -10.0, c + 2.0], [8.5, 14.0, 9.0], -side * 0.4, 0.0), pale),
            (
                Ellipsoid::turned([side * 26.0, 6.0, c + 1.0], [6.5, 17.0, 11.0], -side * 0.25, 0.0),
                head.tissues.grey,
            ),
            (Ellipsoid::turned([side * 19.0, 2.0, c], [4.0, 9.0, 7.0], -side * 0.35, 0.0), pale),
            (Ellipsoid::upright([side * 13.0, 20.0, c + 8.0], [5.5, 11.0, 10.0]), head.tissues.grey),
        ];
        for (shape, signal) in shapes {
            grid.near(&shape, 2.0, |voxel, d, _| {
                let share = picture.cover(d);
                mix(&mut picture.values[voxel], share, signal);
            });
        }
    }
}

fn tube(picture: &mut Picture, points: &[(P3, f32)], signal: Signal) {
    let grid = picture.grid.clone();
    for pair in points.windows(2) {
        let rod = Rod { a: pair[0].0, b: pair[1].0, ra: pair[0].1, rb: pair[1].1 };
        grid.near_rod(rod, 2.0, |voxel, d, _| picture.blend(voxel, picture.cover(d), signal));
    }
}

fn ventricles(head: &Head, draw: &mut Draw, picture: &mut Picture) {
    let (c, v) = (head.centre, head.ventricles);
    let fluid = head.tissues.fluid;
    for side in [-1.0f32, 1.0] {
        let w = v * draw.range(0.88, 1.12);
        let at = |x: f32, y: f32, z: f32, r: f32| ([side * x * (0.75 + 0.25 * w), y, c + z], r * w);
        let body = [
            at(9.0, 34.0, 2.0, 3.0),
            at(6.5, 26.0, 8.0, 4.6),
            at(7.0, 8.0, 14.0, 4.6),
            at(10.0, -12.0, 16.0, 5.4),
            at(17.0, -28.0, 10.0, 6.6),
            at(23.0, -36.0, 2.0, 6.6),
            at(28.0, -28.0, -8.0, 4.2),
            at(29.0, -12.0, -17.0, 2.8),
            at(29.0, 2.0, -20.0, 2.4),
        ];
        tube(picture, &body, fluid);
        tube(picture, &[at(22.0, -38.0, 2.0, 5.0), at(18.0, -58.0, 0.0, 2.2)], fluid);
    }
    let grid = picture.grid.clone();
    let third = Ellipsoid::upright([0.0, -3.0, c - 2.0], [2.0 * v, 13.0, 10.0]);
    let fourth = Ellipsoid::upright([0.0, -31.0, c - 42.0], [7.0 * v, 5.0, 11.0]);
    for shape in [third, fourth] {
        grid.near(&shape, 2.0, |voxel, d, _| picture.blend(voxel, picture.cover(d), fluid));
    }
}

/// Up to a dozen spots of 3 to 6 mm in the white matter, bright on T2 and FLAIR, in cases of every class.
pub(super) fn spots(head: &Head, draw: &mut Draw, picture: &mut Picture) {
    let grid = picture.grid.clone();
    let white = head.tissues.white;
    for _ in 0..draw.below(13) {
        let r = draw.range(1.4, 2.9);
        let lift = draw.range(1.25, 1.6);
        let Some(p) = tissue_point(draw, picture, -head.half[0]) else { continue };
        // Cortex is left alone: these are of the white matter.
        if grid.nearest(p).is_none_or(|v| picture.values[v][0] < 0.93 * white[0]) {
            continue;
        }
        grid.near(&Ellipsoid::upright(p, [r * 1.2, r, r]), 1.5, |voxel, d, _| {
            let share = picture.cover(d) * picture.tissue[voxel];
            let bright = [white[0] * 0.93, white[1] * lift * 1.15, white[2] * lift];
            mix(&mut picture.values[voxel], share, bright);
        });
    }
}

/// A random point of the cerebrum above `low` mm; none after many misses.
pub(super) fn tissue_point(draw: &mut Draw, picture: &Picture, low: f32) -> Option<P3> {
    for _ in 0..6000 {
        let voxel = draw.below(picture.grid.len());
        if picture.tissue[voxel] > 0.95 {
            let p = picture.grid.centre_of(voxel);
            if p[2] > low {
                return Some(p);
            }
        }
    }
    None
}
