//! Trainable parameters: asked for by name, created and kept by the host.

use crate::abi::types::InitSpec;
use crate::error::Result;
use crate::tensor::{Host, Tensor};
use abi_stable::std_types::RStr;

/// Values of a parameter that no weights give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Init(InitSpec);

impl Init {
    /// One value everywhere.
    pub fn constant(value: f64) -> Self {
        Self(InitSpec { kind: 0, a: value, b: 0.0 })
    }

    /// All zero.
    pub fn zeros() -> Self {
        Self::constant(0.0)
    }

    /// All one.
    pub fn ones() -> Self {
        Self::constant(1.0)
    }

    /// Normal with mean 0.
    pub fn normal(std: f64) -> Self {
        Self(InitSpec { kind: 1, a: 0.0, b: std })
    }

    /// Normal with mean 0, redrawn beyond two standard deviations.
    pub fn trunc_normal(std: f64) -> Self {
        Self(InitSpec { kind: 2, a: 0.0, b: std })
    }

    /// Uniform between two numbers.
    pub fn uniform(low: f64, high: f64) -> Self {
        Self(InitSpec { kind: 3, a: low, b: high })
    }

    /// He's for a layer before a rectifier or GELU (arXiv 1502.01852): normal with variance `2 / inputs`, where a
    /// convolution's inputs are its channels times its taps.
    pub fn he(inputs: usize) -> Self {
        Self::normal((2.0 / inputs.max(1) as f64).sqrt())
    }

    /// PyTorch's default for a linear layer: uniform within `± 1 / sqrt(inputs)`.
    pub fn linear(inputs: usize) -> Self {
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        Self::uniform(-bound, bound)
    }
}

/// The parameters of one task.
#[derive(Clone)]
pub struct Params {
    host: Host,
    prefix: String,
}

impl Params {
    /// The parameters of a host's task.
    pub fn new(host: Host) -> Self {
        Self { host, prefix: String::new() }
    }

    /// The same parameters under a name of their own: `within("head").get("bias", …)` is `head.bias`.
    pub fn within(&self, name: &str) -> Self {
        Self { host: self.host, prefix: format!("{}{name}.", self.prefix) }
    }

    /// A parameter: from the weights if they exist, else random by `init` with the run's seed.
    ///
    /// The same name gives the same parameter; a later request must have the same shape. Parameters whose names begin with
    /// `adapter.` train at the adapter's learning rate. Those that begin with `segmentation.` may be missing at inference. All
    /// others belong to the head.
    ///
    /// ```
    /// # fn main() -> anymc3d_plugin_api::Result<()> {
    /// # #[cfg(feature = "testkit")] {
    /// use anymc3d_plugin_api::{Init, Params, testkit::Context};
    ///
    /// let context = Context::new(0);
    /// let head = Params::new(context.host()).within("head");
    /// let bias = head.get("bias", &[3], Init::zeros())?;
    /// assert_eq!(bias.to_vec()?, [0.0; 3]);
    /// assert!(context.parameters().contains_key("head.bias"));
    /// assert!(head.get("bias", &[4], Init::zeros()).is_err());
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the name was asked for before with another shape, or the weights hold another shape.
    pub fn get(&self, name: &str, dims: &[usize], init: Init) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        let dims: Vec<u64> = dims.iter().map(|&n| n as u64).collect();
        let ops = self.host.ops;
        self.host.own((ops.parameter())(self.host.context, RStr::from_str(&full), (&*dims).into(), init.0))
    }
}
