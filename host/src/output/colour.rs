//! How strength becomes colour: perceptually uniform, dark to bright, safe for the colour-blind.

/// An RGB colour, 0..255.
pub(crate) type Rgb = [u8; 3];

/// Matplotlib's "inferno" at `t` in 0..1, by a polynomial of degree 6 (largest error about 1 %).
pub(crate) fn inferno(t: f32) -> Rgb {
    const C: [[f32; 3]; 7] = [
        [0.000_218_94, 0.001_651, -0.019_480_9],
        [0.106_513_42, 0.563_956_44, 3.932_712_4],
        [11.602_493, -3.972_854, -15.942_394],
        [-41.703_995, 17.436_4, 44.354_145],
        [77.162_94, -33.402_36, -81.807_31],
        [-71.319_43, 32.626_064, 73.209_52],
        [25.131_126, -12.242_669, -23.070_325],
    ];
    let t = t.clamp(0.0, 1.0);
    [0, 1, 2].map(|c| {
        let v = C.iter().rev().fold(0.0, |sum, row| sum * t + row[c]);
        (v.clamp(0.0, 1.0) * 255.0).round() as u8
    })
}

/// How much of the picture the colour covers at strength `t`: nothing where there is nothing to say.
pub(crate) fn opacity(t: f32) -> f32 {
    let t = ((t - 0.12) / 0.88).clamp(0.0, 1.0);
    0.72 * t.powf(0.7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_rises_all_the_way() {
        let luminance =
            |[r, g, b]: Rgb| 0.2126 * f32::from(r) + 0.7152 * f32::from(g) + 0.0722 * f32::from(b);
        for i in 0..50 {
            let (a, b) = (inferno(i as f32 / 50.0), inferno((i + 1) as f32 / 50.0));
            assert!(luminance(b) >= luminance(a) - 0.5, "{i}: {a:?} {b:?}");
        }
        assert_eq!((opacity(0.0), opacity(1.0)), (0.0, 0.72));
    }
}
