//! What a chest may show besides nodules, in cases of either label: scars and bands, hazy (ground-glass)
//! patches and air cysts.

use super::super::draw::Draw;
use super::super::grid::{Canvas, Ellipsoid, P3, dot, sub};

/// Paints up to a few of each.
pub(super) fn paint(draw: &mut Draw, canvas: &mut Canvas) {
    for _ in 0..draw.below(4) {
        band(draw, canvas);
    }
    for _ in 0..draw.below(3) {
        haze(draw, canvas);
    }
    for _ in 0..draw.below(5) {
        cyst(draw, canvas);
    }
}

/// A random point of the lungs; none after many misses.
pub(super) fn lung_point(draw: &mut Draw, canvas: &Canvas) -> Option<P3> {
    for _ in 0..4000 {
        let voxel = draw.below(canvas.grid.len());
        if canvas.lung[voxel] > 0.95 {
            return Some(canvas.grid.centre_of(voxel));
        }
    }
    None
}

/// A thin plate of collapsed or scarred lung.
fn band(draw: &mut Draw, canvas: &mut Canvas) {
    let normal = draw.direction();
    let (half, thick, hu) = (draw.range(8.0, 24.0), draw.range(0.8, 2.2), draw.range(-300.0, 30.0));
    let bend = draw.range(-0.012, 0.012);
    let Some(centre) = lung_point(draw, canvas) else { return };
    let low = centre.map(|c| c - half - 3.0);
    let high = centre.map(|c| c + half + 3.0);
    let grid = canvas.grid.clone();
    grid.in_box(low, high, |voxel, p| {
        let v = sub(p, centre);
        let across = dot(v, normal);
        let r2 = dot(v, v) - across * across;
        let fade = 1.0 - r2 / (half * half);
        if fade > 0.0 {
            let d = (across - bend * r2).abs() - thick * fade.sqrt();
            let share = canvas.cover(d) * canvas.lung[voxel] * (fade * 3.0).min(1.0);
            let there = canvas.hu[voxel];
            canvas.hu[voxel] = there.max(there + (hu - there) * share);
        }
    });
}

/// A hazy patch: denser lung through which the vessels still show.
fn haze(draw: &mut Draw, canvas: &mut Canvas) {
    let radii = [draw.range(10.0, 28.0), draw.range(10.0, 28.0), draw.range(10.0, 24.0)];
    let (lift, yaw, pitch) = (draw.range(50.0, 220.0), draw.range(0.0, 3.1), draw.range(-0.7, 0.7));
    let Some(centre) = lung_point(draw, canvas) else { return };
    let shape = Ellipsoid::turned(centre, radii, yaw, pitch);
    let reach = shape.reach();
    let grid = canvas.grid.clone();
    grid.in_box(centre.map(|c| c - reach), centre.map(|c| c + reach), |voxel, p| {
        let v = sub(p, centre);
        let q: P3 = std::array::from_fn(|i| dot(v, shape.axes[i]) / shape.radii[i]);
        let fade = (1.0 - dot(q, q)).max(0.0);
        let there = canvas.hu[voxel];
        let room = ((-there - 150.0) / 600.0).clamp(0.0, 1.0);
        canvas.hu[voxel] = there + lift * (1.6 * fade).min(1.0) * room * canvas.lung[voxel];
    });
}

/// An air cyst with a hair-thin wall.
fn cyst(draw: &mut Draw, canvas: &mut Canvas) {
    let r = draw.range(4.0, 14.0);
    let radii = [r * draw.range(0.8, 1.2), r * draw.range(0.8, 1.2), r];
    let Some(centre) = lung_point(draw, canvas) else { return };
    let shape = Ellipsoid::turned(centre, radii, draw.range(0.0, 3.1), 0.2);
    let reach = shape.reach() + 3.0;
    let grid = canvas.grid.clone();
    grid.in_box(centre.map(|c| c - reach), centre.map(|c| c + reach), |voxel, p| {
        let d = shape.distance(p);
        let lung = canvas.lung[voxel];
        let there = canvas.hu[voxel];
        if there < -500.0 {
            let wall = canvas.cover(d.abs() - 0.3) * 0.35 * lung;
            let air = canvas.cover(d + 0.5) * lung;
            let hu = there + (-985.0 - there) * air;
            canvas.hu[voxel] = hu + (-500.0 - hu) * wall * (1.0 - air * 0.6);
        }
    });
}
