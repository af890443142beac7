//! Heart, great vessels, airways down to the hila, gullet, and the organs under the left dome.

use super::super::draw::Draw;
use super::super::grid::{Canvas, Ellipsoid, P3, oval};
use super::chest::Chest;

/// Paints everything between and below the lungs.
pub(super) fn paint(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    abdomen(chest, draw, canvas);
    heart(chest, draw, canvas);
    great_vessels(chest, draw, canvas);
    airways(chest, draw, canvas);
}

fn abdomen(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    let under = |p: P3| {
        p[2] < chest.diaphragm(p[0], p[1]) - 2.0
            && oval(p[0], p[1] - chest.cavity_y, chest.cavity, chest.squareness) < -1.0
    };
    let [w, h] = chest.cavity;
    let low = chest.base + 0.3 * (chest.dome[1] - chest.base);
    let spleen =
        Ellipsoid::turned([-0.66 * w, chest.cavity_y - 0.42 * h, low - 8.0], [24.0, 44.0, 42.0], 0.5, 0.2);
    let stomach =
        Ellipsoid::turned([-0.5 * w, chest.cavity_y + 0.22 * h, low - 6.0], [42.0, 38.0, 46.0], -0.3, 0.0);
    canvas.organ(&stomach, 35.0, under);
    let fill = draw.range(-0.2, 0.5);
    let level = stomach.centre[1] + fill * 30.0;
    let inner = Ellipsoid { radii: stomach.radii.map(|r| r - 4.0), ..stomach };
    canvas.organ(&inner, 15.0, under);
    canvas.organ(&inner, -960.0, |p| under(p) && p[1] > level);
    canvas.organ(&spleen, chest.liver - 4.0, under);
}

fn heart(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    let heart = chest.heart;
    let all = |_: P3| true;
    canvas.organ(&heart, chest.muscle, all);
    let [cx, cy, cz] = heart.centre;
    let chambers = [
        ([cx - 14.0, cy - 6.0, cz - 4.0], [30.0, 19.0, 22.0], 1.0),
        ([cx + 8.0, cy + 14.0, cz - 4.0], [34.0, 15.0, 24.0], 0.95),
        ([cx + 34.0, cy - 6.0, cz + 6.0], [15.0, 17.0, 24.0], 0.95),
        ([cx + 12.0, cy - 30.0, cz + 14.0], [27.0, 14.0, 18.0], 1.0),
    ];
    for (centre, radii, share) in chambers {
        let wobble = draw.range(0.88, 1.12);
        let chamber = Ellipsoid::turned(centre, radii.map(|r| r * wobble), 0.55, -0.2);
        canvas.organ(&chamber, chest.blood * share, all);
    }
}

fn great_vessels(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    let r = chest.aorta;
    let heart = chest.heart.centre;
    let [_, cy, cz] = chest.carina;
    let beside = |z: f32| chest.spine_y(chest.level(z)) + 20.0;
    let arch = cz + draw.range(24.0, 34.0);
    let aorta = [
        ([2.0, heart[1] - 4.0, heart[2] + 16.0], r),
        ([16.0, cy + 34.0, cz - 14.0], r * 1.08),
        ([15.0, cy + 30.0, cz + 10.0], r * 1.05),
        ([4.0, cy + 18.0, arch - 3.0], r),
        ([-12.0, cy + 2.0, arch], r * 0.95),
        ([-22.0, beside(arch - 8.0) + 3.0, arch - 10.0], r * 0.9),
        ([-22.0, beside(cz - 10.0), cz - 10.0], r * 0.85),
        ([-21.0, beside(0.4 * cz), 0.4 * cz], r * 0.8),
        ([-16.0, beside(0.0), -4.0], r * 0.75),
    ];
    canvas.tube(&aorta, chest.blood);
    let top = chest.base + chest.height + 14.0;
    let cava = [
        ([26.0, cy + 14.0, chest.base + 0.9 * chest.height], 7.0),
        ([25.0, cy + 22.0, cz + 12.0], 9.0),
        ([27.0, cy + 18.0, cz - 30.0], 9.5),
        ([heart[0] + 40.0, heart[1] - 8.0, heart[2] + 8.0], 11.0),
        ([22.0, cy + 4.0, 0.0], 11.5),
    ];
    canvas.tube(&cava, chest.blood * 0.97);
    // Arch branches and the left innominate vein.
    for (x, dx) in [(8.0, 20.0), (-4.0, -12.0), (-14.0, -24.0)] {
        canvas.tube(
            &[
                ([x, cy + 8.0, arch], 5.0),
                ([x + dx * 0.5, cy + 8.0, 0.5 * (arch + top)], 4.0),
                ([x + dx, cy + 10.0, top], 3.8),
            ],
            chest.blood,
        );
    }
    canvas.tube(
        &[
            ([25.0, cy + 24.0, cz + 30.0], 6.5),
            ([-8.0, cy + 36.0, arch + 8.0], 6.0),
            ([-32.0, cy + 22.0, arch + 26.0], 5.5),
        ],
        chest.blood * 0.97,
    );
    let trunk = draw.range(11.5, 15.0);
    let [right, left] = chest.hila;
    canvas.tube(
        &[
            ([-14.0, heart[1] + 2.0, heart[2] + 22.0], trunk),
            ([-20.0, cy + 28.0, cz - 12.0], trunk),
            ([-16.0, cy + 16.0, cz - 14.0], trunk * 0.9),
        ],
        chest.blood,
    );
    canvas.tube(
        &[
            ([-16.0, cy + 16.0, cz - 14.0], trunk * 0.9),
            ([12.0, cy + 13.0, cz - 18.0], trunk * 0.78),
            (right, trunk * 0.5),
        ],
        chest.blood,
    );
    canvas.tube(&[([-16.0, cy + 16.0, cz - 14.0], trunk * 0.9), (left, trunk * 0.52)], chest.blood);
    for hilum in chest.hila {
        let low = [hilum[0], hilum[1] + 8.0, hilum[2] - 22.0];
        let atrium = [heart[0] + 12.0, heart[1] - 30.0, heart[2] + 14.0];
        canvas.tube(&[(atrium, 8.0), (low, 4.8)], chest.blood);
    }
    canvas.tube(
        &[
            ([-4.0, cy - 16.0, top], 5.5),
            ([-2.0, cy - 14.0, cz], 6.0),
            ([-8.0, beside(0.3 * cz) + 14.0, 0.0], 6.5),
        ],
        34.0,
    );
}

fn airways(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    let carina = chest.carina;
    let r = draw.range(7.5, 9.5);
    let top = chest.base + chest.height + 30.0;
    let throat = [draw.range(-3.0, 3.0), carina[1] + draw.range(4.0, 16.0), top];
    let right = [chest.hila[0][0] - 2.0, chest.hila[0][1] - 5.0, chest.hila[0][2] - 2.0];
    let left = [chest.hila[1][0] + 2.0, chest.hila[1][1] - 5.0, chest.hila[1][2] - 8.0];
    for (wall, hu) in [(1.4, 40.0), (0.0, -980.0)] {
        canvas.tube(&[(throat, r + wall), (carina, r + wall)], hu);
        canvas.tube(&[(carina, 6.6 + wall), (right, 5.2 + wall)], hu);
        canvas.tube(&[(carina, 6.4 + wall), (left, 5.0 + wall)], hu);
    }
    canvas.tube(&[(throat, r), (carina, r)], -980.0);
}
