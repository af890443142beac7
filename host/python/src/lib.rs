//! `anymc3d._native`: the library as Python calls it. The package's Python files give it its face: types, docstrings, and the
//! kinds of scans that other packages make.
//!
//! The allocator is the interpreter's: mimalloc, as the program has it, takes the memory for thread-local variables that libraries
//! of the same process need when they are loaded later, and PyTorch then does not load.
//!
//! Every call that computes gives the interpreter's lock back meanwhile; what is shared between calls is never changed.

mod backbone;
mod errors;
mod evaluation;
mod host;
mod scan;
mod training;
mod weights;

use anymc3d_host::plugin::find;
use pyo3::prelude::*;
use std::path::PathBuf;

/// Says where the package's own `host` lies: backbones, plugins and weights are found as that program finds them.
#[pyfunction]
fn set_installation(folder: PathBuf) -> bool {
    find::set_installation(&folder)
}

/// Names of the backbones that are found by name.
#[pyfunction]
fn backbones() -> Vec<String> {
    let all = anymc3d_host::engine::all_backbones();
    all.iter().filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned())).collect()
}

/// Names of the plugins that are found by name.
#[pyfunction]
fn plugins() -> Vec<String> {
    let mut names: Vec<String> = find::all_libraries().iter().map(|library| find::stem(library)).collect();
    names.dedup();
    names
}

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<backbone::Backbone>()?;
    module.add_class::<host::Host>()?;
    module.add_class::<host::Answer>()?;
    module.add_function(wrap_pyfunction!(set_installation, module)?)?;
    module.add_function(wrap_pyfunction!(backbones, module)?)?;
    module.add_function(wrap_pyfunction!(plugins, module)?)?;
    module.add_function(wrap_pyfunction!(training::train, module)?)?;
    module.add_function(wrap_pyfunction!(evaluation::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(evaluation::evaluate_predictions, module)?)?;
    module.add_function(wrap_pyfunction!(weights::import_peft, module)?)?;
    module.add_function(wrap_pyfunction!(weights::export_peft, module)?)?;
    module.add_function(wrap_pyfunction!(weights::parameters, module)?)?;
    Ok(())
}
