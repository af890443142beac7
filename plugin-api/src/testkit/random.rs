//! Numbers for tests: the same on every machine, without a dependency.

/// SplitMix64 (Steele et al. 2014), and what is drawn from it.
pub(crate) struct Random(u64);

impl Random {
    /// A stream that depends on a seed and a name.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a over the name, so that neighbouring names are far apart after the first step.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut random = Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, 1.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal: Box-Muller, one of the pair.
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// The same, drawn again beyond two standard deviations.
    pub fn truncated(&mut self) -> f64 {
        loop {
            let z = self.normal();
            if z.abs() <= 2.0 {
                return z;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        let mut random = Random::named(3, "moments");
        let n = 100_000;
        let z: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        let mean = z.iter().sum::<f64>() / f64::from(n);
        let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / f64::from(n);
        // Four standard errors.
        assert!(mean.abs() < 0.013 && (variance - 1.0).abs() < 0.018, "{mean} {variance}");
        assert!((0..1000).all(|_| random.truncated().abs() <= 2.0));
        let u: Vec<f64> = (0..n).map(|_| random.uniform()).collect();
        assert!(u.iter().all(|u| (0.0..1.0).contains(u)));
        assert!((u.iter().sum::<f64>() / f64::from(n) - 0.5).abs() < 0.004);
    }
}
