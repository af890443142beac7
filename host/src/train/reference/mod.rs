//! What the training cases look like to the backbone: made once for a task's weights, from frozen tokens that training keeps
//! anyway.

mod components;
mod fit;

pub use fit::{CaseVector, LEAST, fit_reference};

use super::cache::PrefixCache;
use super::error::TrainError;
use super::options::TrainOptions;
use super::progress::Progress;
use super::step::Trainer;
use crate::backbone::{Backbone, Precision};
use crate::data::table::Table;
use crate::plugin::{Library, ParameterSource};
use crate::task::{Reference, Task, TaskOptions, Weights, as_plugins_see};
use candle_core::DType;

/// What a reference is made with.
#[derive(Clone, Copy)]
pub struct ReferenceContext<'a> {
    /// The plugin.
    pub library: &'a Library,
    /// Frozen.
    pub backbone: &'a Backbone,
    /// Of the backbone's large products.
    pub precision: Precision,
    /// The cases.
    pub table: &'a Table,
    /// Frozen prefixes.
    pub cache: &'a PrefixCache,
    /// Of the run whose prefixes are in the cache; what decides a task is the weights' own.
    pub options: &'a TrainOptions,
}

/// The cases' vectors of a view.
#[derive(Debug, Clone)]
pub struct ViewVectors {
    /// The view's name.
    pub view: String,
    /// After how many blocks they were taken; `None`: after the final norm.
    pub after_blocks: Option<usize>,
    /// The cases that have the view, by name.
    pub cases: Vec<(String, CaseVector)>,
}

/// The vectors of the cases `rows`, as the weights' task sees them; not augmented.
///
/// # Errors
/// When a case cannot be read, the weights do not fit, or the plugin's code fails.
pub fn reference_vectors(
    context: ReferenceContext<'_>,
    weights: &Weights,
    rows: &[usize],
    progress: &mut dyn Progress,
) -> Result<Vec<ViewVectors>, TrainError> {
    let ReferenceContext { library, backbone, precision, table, cache, options } = context;
    let name = &library.embedded.manifest.plugin.name;
    weights.check(name, &backbone.info().name, &backbone.info().fingerprint)?;
    let wanted = TaskOptions { segmentation: true, variant: weights.info.variant.clone() };
    let source = ParameterSource::Weights(weights.tensors.clone());
    let seen = as_plugins_see(backbone.info());
    let task = Task::build(library, &seen, source, DType::F32, backbone.device(), &wanted)?;
    let trainer = Trainer { task, backbone, precision, cache, options, token_bytes: usize::MAX };
    let mut views: Vec<ViewVectors> = Vec::new();
    for (n, &i) in rows.iter().enumerate() {
        if progress.cancelled() {
            return Err(TrainError::Cancelled);
        }
        let row = &table.rows[i];
        for (view, after_blocks, vector) in trainer.vectors(row)? {
            let case = (row.case.clone(), CaseVector { patient: row.patient_or_case().to_owned(), vector });
            match views.iter_mut().find(|v| v.view == view) {
                Some(known) => known.cases.push(case),
                None => views.push(ViewVectors { view, after_blocks, cases: vec![case] }),
            }
        }
        progress.read(n as u64 + 1, rows.len() as u64);
    }
    Ok(views)
}

/// Where the cases lie, of each view that [`LEAST`] patients or more had; `None` where no view had so many.
///
/// # Errors
/// When there is no memory for a covariance.
pub fn reference_of(vectors: &[ViewVectors]) -> Result<Option<Reference>, TrainError> {
    let mut views = Vec::new();
    for ViewVectors { view, after_blocks, cases } in vectors {
        let cases: Vec<CaseVector> = cases.iter().map(|(_, case)| case.clone()).collect();
        views.extend(fit_reference(view, *after_blocks, &cases)?);
    }
    Ok((!views.is_empty()).then_some(Reference { views }))
}
