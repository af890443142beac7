//! Smooth functions of one number, forward and backward in one pass each: candle's are a dozen passes over memory.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

/// A smooth function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smooth {
    /// `x Φ(x)` with the error function.
    Gelu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `ln(1 + e^x)`
    Softplus,
}

impl Smooth {
    /// The function of every element, with its gradient.
    pub fn of(self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Pass { function: self, slope: false })
    }

    fn value<T: Real>(self, x: T) -> T {
        match self {
            Self::Gelu => x * x.normal_share(),
            Self::Sigmoid => x.sigmoid(),
            Self::Softplus => x.softplus(),
        }
    }

    fn slope<T: Real>(self, x: T) -> T {
        match self {
            // Φ(x) + x φ(x)
            Self::Gelu => x.normal_share() + x * x.normal_density(),
            Self::Sigmoid => {
                let p = x.sigmoid();
                p * (T::one() - p)
            }
            Self::Softplus => x.sigmoid(),
        }
    }
}

/// The element types, and what is needed of them.
trait Real:
    WithDType + std::ops::Mul<Output = Self> + std::ops::Add<Output = Self> + std::ops::Sub<Output = Self>
{
    /// Φ(x), the share of a standard normal below x.
    fn normal_share(self) -> Self;
    /// φ(x), its density.
    fn normal_density(self) -> Self;
    fn sigmoid(self) -> Self;
    fn softplus(self) -> Self;
}

macro_rules! real {
    ($t:ident, $erfc:path) => {
        impl Real for $t {
            fn normal_share(self) -> Self {
                // Of the complement, so that no digits are lost far below zero.
                0.5 * $erfc(-self * std::$t::consts::FRAC_1_SQRT_2)
            }

            fn normal_density(self) -> Self {
                use std::$t::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
                const SCALE: $t = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
                SCALE * (-0.5 * self * self).exp()
            }

            fn sigmoid(self) -> Self {
                // The exponent is never above zero: nothing overflows, and no digits are lost at either end.
                let e = (-self.abs()).exp();
                if self >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
            }

            fn softplus(self) -> Self {
                self.max(0.0) + (-self.abs()).exp().ln_1p()
            }
        }
    };
}
real!(f32, libm::erfcf);
real!(f64, libm::erfc);

/// The function, or its slope, in one pass.
#[derive(Debug, Clone, Copy)]
struct Pass {
    function: Smooth,
    slope: bool,
}

impl Pass {
    fn compute<T: Real>(self, x: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); x.len()];
        out.par_chunks_mut(1 << 13).zip(x.par_chunks(1 << 13)).for_each(|(out, x)| {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = if self.slope { self.function.slope(x) } else { self.function.value(x) };
            }
        });
        out
    }
}

impl CustomOp1 for Pass {
    fn name(&self) -> &'static str {
        match self.function {
            Smooth::Gelu => "gelu",
            Smooth::Sigmoid => "sigmoid",
            Smooth::Softplus => "softplus",
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{}: expected a contiguous tensor", self.name())
        };
        let values = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(self.compute(&x[start..end])),
            CpuStorage::F64(x) => CpuStorage::F64(self.compute(&x[start..end])),
            _ => bail!("{}: the tensor must be f32 or f64", self.name()),
        };
        Ok((values, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        if self.slope {
            bail!("{}: no gradient of a gradient", self.name())
        }
        let slope = x.detach().apply_op1_no_bwd(&Self { slope: true, ..*self })?;
        Ok(Some((g * slope)?))
    }
}
