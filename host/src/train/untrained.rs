//! Is there a part of the head that nothing in a run would teach?

use super::error::TrainError;
use super::options::TrainOptions;
use super::run::TrainContext;
use crate::plugin::ParameterSource;
use crate::task::as_plugins_see;
use crate::task::{Task, TaskOptions};
use candle_core::DType;
use std::collections::BTreeMap;

/// A parameter of the segmentation branch that the head reads too, where no mask will train it: heads that point at
/// findings would point where the draw of the seed says. `None` where masks supervise, or the head does without.
///
/// # Errors
/// When the task cannot be built.
pub fn untrained_parameter(
    setting: &TrainContext<'_>,
    options: &TrainOptions,
) -> Result<Option<String>, TrainError> {
    let TrainContext { library, backbone, table, split, .. } = setting;
    let supervised = options.lambda > 0.0 && split.train.iter().any(|&i| table.rows[i].mask.is_some());
    if supervised {
        return Ok(None);
    }
    let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
    let wanted = TaskOptions { segmentation: false, variant: options.variant.clone() };
    let seen = as_plugins_see(backbone.info());
    let task = Task::build(library, &seen, source, DType::F32, backbone.device(), &wanted)?;
    Ok(task.parameters().into_keys().find(|name| name.starts_with("segmentation.")))
}
