//! What a call of a plugin is made of, and how its answer is looked at.

use super::context::Context;
use super::table::host_ops;
use crate::abi::owned::Call;
use crate::abi::types::{ContextId, Entry, NamedHandle};
use crate::error::{Error, Result};
use crate::loss::Targets;
use crate::tensor::Tensor;
use anymc3d_manifest::TaskKind;

pub(crate) fn called(context: ContextId, settings: &[Entry]) -> Call<'_> {
    Call { ops: host_ops(), context, settings }
}

/// Which of the plugin's methods an error came from.
pub(crate) fn within(method: &'static str) -> impl Fn(Error) -> Error {
    move |e| Error::new(e.code(), format!("{method}: {e}"))
}

/// A handle of its own for whoever receives it.
pub(crate) fn named(name: impl Into<String>, tensor: &Tensor) -> Result<NamedHandle> {
    Ok(NamedHandle { name: name.into().into(), handle: tensor.try_clone()?.into_handle() })
}

pub(crate) fn check_shape(what: &str, tensor: &Tensor, dims: &[usize]) -> Result<()> {
    let found = tensor.dims()?;
    if found != dims {
        return Err(Error::msg(format!("{what} of shape {found:?}, expected {dims:?}")));
    }
    match tensor.to_vec()?.iter().find(|v| !v.is_finite()) {
        Some(bad) => Err(Error::msg(format!("{what} with {bad}"))),
        None => Ok(()),
    }
}

pub(crate) fn entry(key: impl Into<String>, value: impl ToString) -> Entry {
    Entry { key: key.into().into(), value: value.to_string().into() }
}

/// Targets `[1, C]` as a host sends them; `positive` picks which labels, or which class.
pub(crate) fn targets(context: &Context, task: &anymc3d_manifest::Task, positive: usize) -> Result<Targets> {
    let n = task.outputs();
    let values: Vec<f32> = match task.kind {
        TaskKind::Multiclass => (0..n).map(|c| f32::from(u8::from(c == positive % n))).collect(),
        // Every label is positive in some cases and negative in others, and no two alike in the first ones.
        _ => (0..n).map(|c| ((positive & (c % 3 + 1)).count_ones() % 2) as f32).collect(),
    };
    let host = context.host();
    Ok(Targets::new(host.tensor(&values, &[1, n])?, host.full(1.0, &[1, n])?))
}
