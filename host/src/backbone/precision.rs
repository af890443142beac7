//! The numbers that the large products are computed in.

/// Class tokens whose cosine to f32's is below it are another model's.
pub const NEAR_COSINE: f64 = 0.999;

/// The cosine of the angle between two vectors of one length.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// How the large products are computed. Tokens between the blocks and what tasks see are f32 in all cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// f32 inputs, f32 accumulation.
    F32,
    /// bf16 inputs of the products, f32 accumulation.
    Bf16,
    /// 16-bit integers in the frozen layers, with a unit per token and per output; attention in f32, or in bf16 where the processor
    /// multiplies it. Gradients are f32, through the layers' rounded weights. On a GPU it is f32.
    Int16,
    /// 8-bit integers where the processor has VNNI; elsewhere as [`Self::Int16`].
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Int16, Self::Int8];

    /// As options and results call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int16 => "int16",
            Self::Int8 => "int8",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }
}
