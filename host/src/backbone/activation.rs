//! The function between the two layers of an MLP.

use candle_core::{Result, Tensor};
use serde::Serialize;

/// Its name goes into fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Activation {
    /// x Φ(x), by the error function.
    Gelu,
    /// x σ(2u) with u = √(2/π) (x + 0.044715 x³): GELU by the hyperbolic tangent.
    GeluTanh,
    /// x σ(1.702 x)
    QuickGelu,
    /// x σ(x)
    Silu,
}

impl Activation {
    /// By the `hidden_act` of a configuration.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Self::Gelu,
            "gelu_pytorch_tanh" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "silu" => Self::Silu,
            _ => return None,
        })
    }

    /// With candle's operations, differentiable.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::QuickGelu => (x * 1.702)?.silu()? / 1.702,
            Self::Silu => x.silu(),
        }
    }
}
