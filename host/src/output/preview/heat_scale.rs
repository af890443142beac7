//! What a colour of the heat stands for.

use super::{LINE, Picture, Preview, QUIET};
use crate::output::colour::{Rgb, inferno, opacity};
use crate::output::drawing::Anchor;

/// The scale ends here or higher: attention that is spread over a slice stays dark and gets no line. The class attention
/// of a vision transformer, spread over nothing in particular, has patches of several times the mean.
const LEAST_TOP: f32 = 10.0;
/// A line surrounds what is this share of the scale or more.
const LINED: f32 = 0.5;

/// Colour by attention, in multiples of the mean patch of the heaviest slice. All slices have one scale, so that the colours
/// follow the values of `heatmap.nii.gz`.
pub(super) struct HeatScale {
    /// Heat of that mean patch; 0 where there is none.
    mean: f32,
    /// The end of the scale, in multiples of it.
    top: f32,
}

impl HeatScale {
    /// Of the slices that are shown, heaviest first.
    pub fn of(p: &Preview, shown: &[usize]) -> Self {
        let Some(&heaviest) = shown.first() else { return Self { mean: 0.0, top: LEAST_TOP } };
        let heat = p.heat_of(heaviest);
        let mean = heat.iter().sum::<f32>() / heat.len() as f32;
        let strongest = shown.iter().flat_map(|&i| p.heat_of(i)).copied().fold(0.0, f32::max);
        match mean > 0.0 && mean.is_finite() {
            true => Self { mean, top: (strongest / mean).max(LEAST_TOP) },
            false => Self { mean: 0.0, top: LEAST_TOP },
        }
    }

    /// 0 to 1 along the scale.
    pub fn strength(&self, heat: f32) -> f32 {
        if self.mean > 0.0 { (heat / (self.mean * self.top)).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// For the reader.
    pub fn in_words(&self) -> String {
        format!(
            "colour: attention in multiples of the mean patch of the heaviest slice; line: half of the scale, never below {}×",
            LEAST_TOP * LINED
        )
    }

    pub fn bar(&self, picture: &mut Picture, [x, y]: [usize; 2], high: usize) {
        const WIDE: usize = 14;
        let row = |row: usize| {
            // As it looks over mid grey, so that bar and picture agree.
            let t = 1.0 - row as f32 / (high - 1) as f32;
            [coloured([70; 3], t); WIDE]
        };
        let image: Vec<Rgb> = (0..high).flat_map(row).collect();
        picture.0.image([x, y], WIDE, &image);
        picture.frame([x, y], [WIDE, high], LINE);
        picture.fill([x, y + high / 2], [WIDE, 1], OUTLINE);
        for (at, value) in [(y + 9, self.top), (y + high / 2 + 4, LINED * self.top), (y + high, 0.0)] {
            let number = match value {
                0.0 => "0".to_owned(),
                _ if value < 10.0 => format!("{value:.1}×"),
                _ => format!("{value:.0}×"),
            };
            picture.text([x + 22, at], 12.0, Anchor::Start, QUIET, &number);
        }
        picture.text([x, y - 8], 12.0, Anchor::Start, QUIET, "attention");
    }
}

/// The line around strong heat.
pub(super) const OUTLINE: Rgb = [255, 250, 220];

/// Whether a strength is inside the line.
pub(super) fn is_lined(strength: f32) -> bool {
    strength >= LINED
}

/// A grey with the colour of a strength over it.
pub(super) fn coloured(grey: Rgb, strength: f32) -> Rgb {
    mixed(grey, inferno(0.25 + 0.75 * strength), opacity(strength))
}

/// `colour` over `under`; `amount` 0 to 1.
pub(super) fn mixed(under: Rgb, colour: Rgb, amount: f32) -> Rgb {
    let mix = |c: usize| {
        let (from, to) = (f32::from(under[c]), f32::from(colour[c]));
        (from + (to - from) * amount.clamp(0.0, 1.0)).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}
