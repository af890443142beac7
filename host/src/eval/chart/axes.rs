//! A square whose sides run from 0 to 1, and pictures of several parts.

use super::{GRID, INK, QUIET};
use crate::output::drawing::{Anchor, Drawing, Stroke};

/// Where the unit square lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Square {
    /// Its upper left corner.
    pub at: [f32; 2],
    pub side: f32,
}

/// Room for numbers and name left of a square, and below it.
pub(super) const LEFT: f32 = 58.0;
pub(super) const BELOW: f32 = 46.0;

impl Square {
    /// Place of (x, y), both 0 to 1, y upwards.
    pub fn place(&self, [x, y]: [f64; 2]) -> [f32; 2] {
        [self.at[0] + x as f32 * self.side, self.at[1] + (1.0 - y as f32) * self.side]
    }

    pub fn places(&self, points: &[[f64; 2]]) -> Vec<[f32; 2]> {
        points.iter().map(|p| self.place(*p)).collect()
    }

    /// Grid, numbers and names.
    pub fn draw(&self, drawing: &mut Drawing, x: &str, y: &str) {
        self.grid(drawing, y);
        self.below(drawing, self.at[1] + self.side, x);
    }

    /// Grid, and the numbers and name of the upright axis.
    pub fn grid(&self, drawing: &mut Drawing, y: &str) {
        let [left, top] = self.at;
        for step in 0..=5 {
            let v = f64::from(step) / 5.0;
            let [at_x, at_y] = self.place([v, v]);
            drawing.line(&[[at_x, top], [at_x, top + self.side]], Stroke::thin(GRID));
            drawing.line(&[[left, at_y], [left + self.side, at_y]], Stroke::thin(GRID));
            drawing.anchored([left - 8.0, at_y + 4.0], 11.0, QUIET, Anchor::End, &format!("{v:.1}"));
        }
        drawing.upwards([left - 40.0, top + 0.5 * self.side], 12.5, INK, y);
        drawing.line(&[[left, top], [left, top + self.side]], Stroke::thin(QUIET));
        drawing.line(&[[left, top + self.side], [left + self.side, top + self.side]], Stroke::thin(QUIET));
    }

    /// Numbers and name of the lying axis, below the line `bottom`.
    pub fn below(&self, drawing: &mut Drawing, bottom: f32, x: &str) {
        for step in 0..=5 {
            let v = f64::from(step) / 5.0;
            let at = [self.place([v, 0.0])[0], bottom + 17.0];
            drawing.anchored(at, 11.0, QUIET, Anchor::Middle, &format!("{v:.1}"));
        }
        drawing.anchored([self.at[0] + 0.5 * self.side, bottom + 38.0], 12.5, INK, Anchor::Middle, x);
    }
}

/// How many parts stand beside each other.
pub(super) fn columns(parts: usize) -> usize {
    match parts {
        0..=1 => 1,
        2..=4 => 2,
        5..=9 => 3,
        _ => 4,
    }
}
