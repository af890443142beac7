//! The numbers that the large products are computed in.

/// How the large products are computed. Tokens between the blocks and what tasks see are f32 in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 inputs, f32 accumulation.
    F32,
    /// bf16 inputs of the products, f32 accumulation.
    Bf16,
}
