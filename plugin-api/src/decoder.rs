//! The standard segmentation branches by name, so that one can be tried in the place of another.

use crate::build::Build;
use crate::error::{Error, Result};
use crate::segmentation::{Segmentation, TokenDecoder};
use crate::volume_decoder::VolumeDecoder;
use std::str::FromStr;

/// A standard segmentation branch: `Decoder::Token.build(build)` in [`crate::TaskPlugin::segmentation`] gives that one,
/// or the one that was asked for when the task was built (`--decoder`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decoder {
    /// [`TokenDecoder`]: every patch token alone.
    Token,
    /// [`VolumeDecoder`]: the patch tokens of all slices as one volume.
    Volume,
}

impl Decoder {
    /// Builds the decoder, for [`crate::TaskPlugin::segmentation`].
    ///
    /// # Errors
    /// When a parameter contradicts the weights, or the user asked for a decoder that this plugin-api does not know.
    pub fn build(self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        let asked = build.setting("decoder").map(str::parse).transpose()?;
        Ok(Some(match asked.unwrap_or(self) {
            Self::Token => Box::new(TokenDecoder::new(build)?),
            Self::Volume => Box::new(VolumeDecoder::new(build)?),
        }))
    }
}

impl FromStr for Decoder {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "token" => Ok(Self::Token),
            "volume" => Ok(Self::Volume),
            other => {
                Err(Error::msg(format!("a decoder named `{other}` is unknown to this plugin: token, volume")))
            }
        }
    }
}
