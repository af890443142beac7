//! Skin, fat, muscle, the mediastinum's fat, the liver under its dome, and the two lungs with their
//! parenchyma: everything that is a layer and not a shape, painted row by row.

use super::super::draw::Draw;
use super::super::grid::{Canvas, cover, oval};
use super::super::noise::Lattice;
use super::chest::{Chest, Section};

/// What varies inside the layers. All of it is drawn before anything knows the label.
struct Texture {
    /// Displaces surfaces, mm.
    shape: Lattice,
    /// Clouds in the parenchyma, coarse and fine.
    cloud: Lattice,
    lobule: Lattice,
    grain: Lattice,
    /// Streaks of fat in muscle and mediastinum.
    streak: Lattice,
    parenchyma: f32,
    dependent: f32,
    basal: f32,
    clouds: f32,
    grains: f32,
    /// Share of the lung that is emphysematous, and how deep the holes are.
    emphysema: f32,
    depth: f32,
}

impl Texture {
    fn draw(d: &mut Draw, canvas: &Canvas) -> Self {
        let grid = &canvas.grid;
        Self {
            shape: Lattice::new(d, grid, 38.0),
            cloud: Lattice::new(d, grid, 26.0),
            lobule: Lattice::new(d, grid, 9.0),
            grain: Lattice::new(d, grid, 3.5),
            streak: Lattice::new(d, grid, 7.0),
            parenchyma: d.range(-885.0, -815.0),
            dependent: d.range(10.0, 75.0),
            basal: d.range(-10.0, 30.0),
            clouds: d.range(12.0, 40.0),
            grains: d.range(10.0, 45.0),
            emphysema: d.range(0.15, 0.9),
            depth: if d.chance(0.4) { d.range(40.0, 130.0) } else { d.range(0.0, 30.0) },
        }
    }
}

/// How far outside a lung's surface a point is, mm; negative inside.
fn lung_distance(chest: &Chest, section: &Section, level: f32, p: [f32; 3], to_cavity: f32) -> f32 {
    let [x, y, z] = p;
    if to_cavity > 4.0 {
        return to_cavity;
    }
    let forward = (y - section.cavity_y) / section.cavity[1].max(1.0);
    let q = (forward - 0.02) / 0.62;
    let q2 = q * q;
    // Narrow before the heart and behind it, wide where the great vessels pass.
    let narrow = 6.0 + (chest.mediastinum - 6.0) / (1.0 + q2 * q2);
    let medial = narrow * (1.0 - 0.25 * (level - 0.6).max(0.0)) - (x - 1.0).abs();
    let spine = {
        let (u, v) = (x / (chest.vertebra[0] + 6.0), (y - section.spine_y) / (chest.vertebra[1] + 6.0));
        (1.0 - (u * u + v * v).sqrt()) * chest.vertebra[1]
    };
    // The descending aorta indents the left lung up to the arch.
    let aorta = if z < chest.carina[2] + 28.0 {
        let (u, v) = (x + 22.0, y - section.spine_y - 20.0);
        chest.aorta + 3.0 - (u * u + v * v).sqrt()
    } else {
        -50.0
    };
    let heart = 5.0 - chest.heart.distance(p);
    let floor = chest.diaphragm(x, y).max(chest.base - 4.0) - z;
    to_cavity.max(medial).max(spine).max(aorta).max(heart).max(floor)
}

/// Paints torso and lungs.
pub(super) fn paint(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) {
    let texture = Texture::draw(draw, canvas);
    let n = canvas.grid.shape[0];
    let mut line = Vec::new();
    let mut rows: [Vec<f32>; 5] = std::array::from_fn(|_| vec![0.0; n]);
    for k in 0..canvas.grid.shape[2] {
        let z = canvas.grid.at(2, k);
        let (section, level) = (chest.section(z), chest.level(z));
        for j in 0..canvas.grid.shape[1] {
            let y = canvas.grid.at(1, j);
            if y.abs() > section.torso[1] + 6.0 {
                continue;
            }
            let fields = [&texture.shape, &texture.cloud, &texture.lobule, &texture.grain, &texture.streak];
            for (field, row) in fields.iter().zip(rows.iter_mut()) {
                field.row(&canvas.grid, y, z, &mut line, row);
            }
            let start = n * (j + canvas.grid.shape[1] * k);
            for (i, &bump) in rows[0].iter().enumerate() {
                let x = canvas.grid.at(0, i);
                let skin = oval(x, y, section.torso, chest.squareness) + 2.5 * bump;
                if skin > canvas.edge {
                    continue;
                }
                let to_cavity = if section.cavity[1] > 2.0 {
                    oval(x, y - section.cavity_y, section.cavity, chest.squareness) + 3.0 * bump
                } else {
                    60.0
                };
                let streak = rows[4][i];
                let solid = solid_hu(chest, skin, to_cavity, [x, y, z], streak, rows[2][i], rows[1][i]);
                let lung = cover(
                    lung_distance(chest, &section, level, [x, y, z], to_cavity) + 1.5 * bump.abs(),
                    canvas.edge,
                );
                let air = if lung > 0.0 {
                    let down = (section.cavity_y - y) / chest.cavity[1];
                    let hole = (rows[2][i] * 0.6 + rows[1][i] * 0.6 + texture.emphysema - 0.75).max(0.0);
                    let hu = texture.parenchyma
                        + texture.dependent * down
                        + texture.basal * (0.5 - level)
                        + texture.clouds * rows[1][i]
                        + texture.grains * (rows[3][i] + 0.5 * rows[2][i])
                        - texture.depth * (hole * 2.5).min(1.0);
                    hu.clamp(-985.0, -500.0)
                } else {
                    0.0
                };
                let body = cover(skin, canvas.edge);
                let hu = solid + (air - solid) * lung;
                canvas.hu[start + i] = -1000.0 + (hu + 1000.0) * body;
                canvas.lung[start + i] = lung;
            }
        }
    }
    if chest.table {
        table(chest, canvas);
    }
}

/// Density of a point of the body that is not lung.
fn solid_hu(
    chest: &Chest,
    skin: f32,
    to_cavity: f32,
    p: [f32; 3],
    streak: f32,
    lobule: f32,
    cloud: f32,
) -> f32 {
    let [x, y, z] = p;
    if skin > -2.2 {
        return 30.0;
    }
    let fat = chest.fat_hu + 12.0 * streak;
    if to_cavity > 0.0 {
        let layer = chest.fat * (0.8 + 0.3 * cloud);
        if skin > -layer {
            return fat;
        }
        // Fat planes between the muscles of the wall, and between the ribs' two layers of muscle.
        let plane = (to_cavity - 11.0 - 3.0 * streak).abs() < 1.2 && skin < -layer - 3.0;
        return if plane || streak + 0.5 * cloud > 0.95 { -60.0 } else { chest.muscle + 10.0 * streak };
    }
    if z < chest.diaphragm(x, y) && z < chest.dome[0] {
        // Liver on the right, with its left lobe across the midline; fat on the left, for spleen and stomach.
        let border = -18.0 + 0.35 * (y - chest.cavity_y) - 6.0 * streak;
        if x > border {
            return chest.liver + 8.0 * lobule;
        }
        return fat;
    }
    if to_cavity > -2.5 { chest.muscle } else { fat + 8.0 * lobule }
}

/// The scanner's couch: a thin curved shell under the back.
fn table(chest: &Chest, canvas: &mut Canvas) {
    let n = canvas.grid.shape[0];
    for k in 0..canvas.grid.shape[2] {
        let back = chest.section(canvas.grid.at(2, 0)).torso[1];
        for j in 0..canvas.grid.shape[1] {
            let y = canvas.grid.at(1, j);
            for i in 0..n {
                let x = canvas.grid.at(0, i);
                let d = (y - (-back - 3.0 + x * x * 0.0009)).abs() - 1.2;
                let voxel = n * (j + canvas.grid.shape[1] * k) + i;
                let c = canvas.cover(d);
                if c > 0.0 && canvas.hu[voxel] < -950.0 {
                    canvas.hu[voxel] = -1000.0 + 650.0 * c;
                }
            }
        }
    }
}
