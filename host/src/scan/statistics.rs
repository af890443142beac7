//! What one pass over a scan's voxels finds: what is asked of every scan, whatever its size.

use rayon::prelude::*;

/// Air in a CT, HU: scanners differ, and noise and partial volume widen the peak.
const AIR: std::ops::RangeInclusive<f32> = -1100.0..=-850.0;
/// Water, fat and muscle, HU.
const SOFT: std::ops::RangeInclusive<f32> = -200.0..=250.0;

/// Where a CT has many values, and an MR none, HU.
pub(super) const CT_AIR: f32 = -500.0;

/// Voxels that are counted side by side, so that the processor takes several at a time.
const LANES: usize = 16;
/// Voxels of a part: few enough to stay in a processor's cache when they are counted again.
const PART: usize = 1 << 14;

/// Extremes of the finite values, and how many voxels are what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Statistics {
    pub low: f32,
    pub high: f32,
    /// NaN or infinite; in none of the other counts.
    pub not_finite: usize,
    /// In [`AIR`].
    pub air: usize,
    /// In [`SOFT`].
    pub soft: usize,
    /// [`CT_AIR`] or less.
    pub far_below_zero: usize,
}

impl Statistics {
    const NONE: Self = Self {
        low: f32::INFINITY,
        high: f32::NEG_INFINITY,
        not_finite: 0,
        air: 0,
        soft: 0,
        far_below_zero: 0,
    };

    pub fn of(voxels: &[f32]) -> Self {
        voxels.par_chunks(PART).with_min_len(16).map(Self::of_part).reduce(|| Self::NONE, Self::and)
    }

    fn and(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            not_finite: self.not_finite + other.not_finite,
            air: self.air + other.air,
            soft: self.soft + other.soft,
            far_below_zero: self.far_below_zero + other.far_below_zero,
        }
    }

    fn of_part(voxels: &[f32]) -> Self {
        let (lanes, rest) = voxels.as_chunks::<LANES>();
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let [mut not_finite, mut air, mut soft, mut far] = [[0u32; LANES]; 4];
        for values in lanes {
            for i in 0..LANES {
                let v = values[i];
                low[i] = if v < low[i] { v } else { low[i] };
                high[i] = if v > high[i] { v } else { high[i] };
                not_finite[i] += u32::from(!v.is_finite());
                air[i] += u32::from((v >= *AIR.start()) & (v <= *AIR.end()));
                soft[i] += u32::from((v >= *SOFT.start()) & (v <= *SOFT.end()));
                far[i] += u32::from(v <= CT_AIR);
            }
        }
        if not_finite.iter().any(|n| *n > 0) {
            // An infinity is among the extremes then.
            return voxels.iter().map(|v| Self::of_voxel(*v)).fold(Self::NONE, Self::and);
        }
        let sum = |counts: [u32; LANES]| counts.iter().map(|n| *n as usize).sum();
        let counted = Self {
            low: low.into_iter().fold(f32::INFINITY, f32::min),
            high: high.into_iter().fold(f32::NEG_INFINITY, f32::max),
            not_finite: 0,
            air: sum(air),
            soft: sum(soft),
            far_below_zero: sum(far),
        };
        rest.iter().map(|v| Self::of_voxel(*v)).fold(counted, Self::and)
    }

    fn of_voxel(v: f32) -> Self {
        if !v.is_finite() {
            return Self { not_finite: 1, ..Self::NONE };
        }
        Self {
            low: v,
            high: v,
            not_finite: 0,
            air: usize::from(AIR.contains(&v)),
            soft: usize::from(SOFT.contains(&v)),
            far_below_zero: usize::from(v <= CT_AIR),
        }
    }

    /// As if every voxel that is not finite were `value`.
    pub fn with_replaced(self, value: f32) -> Self {
        let of = Self::of_voxel(value);
        let n = self.not_finite;
        Self {
            low: self.low.min(value),
            high: self.high.max(value),
            not_finite: 0,
            air: self.air + n * of.air,
            soft: self.soft + n * of.soft,
            far_below_zero: self.far_below_zero + n * of.far_below_zero,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around every limit, of which `odd` turns some into what is not finite.
    fn values(count: usize, odd: impl Fn(usize) -> Option<f32>) -> Vec<f32> {
        let at =
            |i: usize| [-1101.0, -1100.0, -850.0, -849.5, -500.0, -499.0, -200.0, 0.0, 250.0, 251.0][i % 10];
        (0..count).map(|i| odd(i).unwrap_or_else(|| at(i * 7 / 3))).collect()
    }

    fn by_definition(voxels: &[f32]) -> Statistics {
        let finite = || voxels.iter().copied().filter(|v| v.is_finite());
        let count = |inside: fn(f32) -> bool| finite().filter(|v| inside(*v)).count();
        Statistics {
            low: finite().fold(f32::INFINITY, f32::min),
            high: finite().fold(f32::NEG_INFINITY, f32::max),
            not_finite: voxels.len() - finite().count(),
            air: count(|v| (-1100.0..=-850.0).contains(&v)),
            soft: count(|v| (-200.0..=250.0).contains(&v)),
            far_below_zero: count(|v| v <= -500.0),
        }
    }

    #[test]
    fn one_pass_counts_what_each_definition_counts_also_where_values_are_not_finite() {
        for count in [1, 15, 16, 17, PART - 1, PART, 40 * PART + 21] {
            let all = values(count, |_| None);
            assert_eq!(Statistics::of(&all), by_definition(&all), "{count}");
            let odd = |i: usize| match i % 1013 {
                5 => Some(f32::NAN),
                17 => Some(f32::INFINITY),
                18 => Some(f32::NEG_INFINITY),
                _ => None,
            };
            let some = values(count, odd);
            assert_eq!(Statistics::of(&some), by_definition(&some), "{count}");
        }
        assert_eq!(Statistics::of(&[f32::NAN; 40]).not_finite, 40);
    }

    #[test]
    fn replacing_what_is_not_finite_counts_as_the_replaced_voxels_do() {
        for instead in [-1024.0, 0.0, -600.0, 300.0] {
            let voxels = values(5000, |i| (i % 11 == 3).then_some(f32::NAN));
            let replaced: Vec<f32> =
                voxels.iter().map(|v| if v.is_finite() { *v } else { instead }).collect();
            assert_eq!(Statistics::of(&voxels).with_replaced(instead), by_definition(&replaced));
        }
    }
}
