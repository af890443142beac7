//! Operations that plugins call by name: reads and checks the attributes, then computes.
//!
//! The host refuses an attribute that it does not know: the plugin is newer and expects another result.

use super::conv3d::conv3d;
use super::resize::resize_linear;
use crate::device::one_line;
use anymc3d_plugin_api::abi::named;
use anymc3d_plugin_api::abi::types::{Entry, ErrorCode};
use anymc3d_plugin_api::{Error, Result};
use candle_core::Tensor;

/// Runs an operation of [`named::ALL`].
///
/// # Errors
/// An unknown name or attribute is an `UNKNOWN_OP`, anything else that does not fit `INVALID`.
pub fn run(name: &str, inputs: &[Tensor], attributes: &[Entry]) -> Result<Vec<Tensor>> {
    let invalid = |e: candle_core::Error| Error::new(ErrorCode::INVALID, one_line(&e));
    match name {
        named::CONV3D => {
            let [x, weight] = count(name, inputs)?;
            let [stride, padding] = triples(name, ["stride", "padding"], attributes)?;
            let stride = stride.unwrap_or([1; 3]);
            Ok(vec![conv3d(x, weight, stride, padding.unwrap_or_default()).map_err(invalid)?])
        }
        named::RESIZE_LINEAR => {
            let [x] = count(name, inputs)?;
            let [size] = triples(name, ["size"], attributes)?;
            let size =
                size.ok_or_else(|| Error::new(ErrorCode::INVALID, "resize_linear: `size` is missing"))?;
            Ok(vec![resize_linear(x, size).map_err(invalid)?])
        }
        other => Err(Error::new(
            ErrorCode::UNKNOWN_OP,
            format!("op `{other}` is unknown to this host (ABI 1.0); upgrade the host"),
        )),
    }
}

fn count<'a, const N: usize>(name: &str, inputs: &'a [Tensor]) -> Result<[&'a Tensor; N]> {
    let all: Vec<&Tensor> = inputs.iter().collect();
    all.try_into().map_err(|all: Vec<_>| {
        Error::new(ErrorCode::INVALID, format!("{name}: {} tensors, expected {N}", all.len()))
    })
}

/// Three numbers each, `1,1,1`, of those that are there.
fn triples<const N: usize>(
    name: &str,
    known: [&str; N],
    attributes: &[Entry],
) -> Result<[Option<[usize; 3]>; N]> {
    let mut found = [None; N];
    for Entry { key, value } in attributes {
        let Some(at) = known.iter().position(|k| k == &key.as_str()) else {
            let message = format!("op `{name}` has no `{key}` in this host (ABI 1.0); upgrade the host");
            return Err(Error::new(ErrorCode::UNKNOWN_OP, message));
        };
        let numbers: Option<Vec<usize>> = value.split(',').map(|n| n.parse().ok()).collect();
        let three = numbers.and_then(|n| <[usize; 3]>::try_from(n).ok());
        found[at] = Some(three.ok_or_else(|| {
            Error::new(ErrorCode::INVALID, format!("{name}: `{key}` is `{value}`, expected three numbers"))
        })?);
    }
    Ok(found)
}
