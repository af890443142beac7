//! The library's errors as the exceptions of `anymc3d.errors`, with the same words.

use anymc3d_host::engine::CaseError;
use anymc3d_host::run::{Blame, CaseFailure};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// An exception of `anymc3d.errors`, by the name of its class.
pub fn raised(class: &str, message: impl ToString) -> PyErr {
    let message = message.to_string();
    Python::attach(|py| {
        let made = py
            .import("anymc3d.errors")
            .and_then(|errors| errors.getattr(class))
            .and_then(|class| class.call1((message.as_str(),)));
        match made {
            Ok(error) => PyErr::from_value(error),
            // Only where the package is broken.
            Err(_) => PyRuntimeError::new_err(message),
        }
    })
}

/// For `map_err`.
pub fn of<E: ToString>(class: &'static str) -> impl Fn(E) -> PyErr {
    move |e| raised(class, e)
}

/// Why a task has no answer for a case.
pub fn of_case(error: CaseError) -> PyErr {
    let failure = CaseFailure::from(error);
    let class = match failure.blame {
        Blame::Scan => "ScanError",
        Blame::Task => "TaskError",
        Blame::Output => "OutputError",
    };
    raised(class, failure.message)
}
