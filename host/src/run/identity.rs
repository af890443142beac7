//! What computes a plugin's answers, by digest: a result that the same made of the same scan need not be made again.

use crate::backbone::{Backbone, Precision};
use crate::engine::precision_name;
use crate::engine::result::CaseResult;
use crate::task::LoadedTask;
use serde::{Deserialize, Serialize};

/// The training cases that a plugin's answers are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceSummary {
    /// How many.
    pub cases: usize,
    /// The distance within which 99.5 % of them are; of a task with several views that of the first.
    pub limit: f64,
}

impl ReferenceSummary {
    /// Of an opened task; none where its weights have no reference.
    pub(in crate::run) fn of(task: &LoadedTask) -> Option<Self> {
        let view = task.weights_info.reference.as_ref()?.views.first()?;
        Some(Self { cases: view.cases, limit: view.limit() })
    }
}

/// Code, weights and backbone of a plugin's answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskIdentity {
    /// The plugin's name.
    pub plugin: String,
    /// Its version, for people: the digest decides.
    pub version: String,
    /// Digest of the library.
    pub library_sha256: String,
    /// Digests of the weights, of an ensemble in their order.
    pub weights_sha256: Vec<String>,
    /// The backbone's name, for people.
    pub backbone: String,
    /// Digest of its weights.
    pub backbone_sha256: String,
    /// `f32`, `bf16`, `int16` or `int8`.
    pub precision: String,
    /// Digest of the quantised layers that `int8` computes with, where they come from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised_sha256: Option<String>,
}

impl TaskIdentity {
    /// Of an opened task on its backbone.
    pub(in crate::run) fn of(task: &LoadedTask, backbone: &Backbone, precision: Precision) -> Self {
        Self {
            plugin: task.name().to_owned(),
            version: task.task.manifest().plugin.version.to_string(),
            library_sha256: task.library_sha256.clone(),
            weights_sha256: std::iter::once(task.weights_sha256.clone())
                .chain(task.further_files())
                .collect(),
            backbone: backbone.info().name.clone(),
            backbone_sha256: backbone.info().sha256.clone(),
            precision: precision_name(precision).to_owned(),
            quantised_sha256: backbone.quantised_sha256().map(str::to_owned),
        }
    }

    /// Of what made a result.
    pub fn of_result(result: &CaseResult) -> Self {
        let (plugin, backbone) = (&result.plugin, &result.backbone);
        Self {
            plugin: plugin.name.clone(),
            version: plugin.version.clone(),
            library_sha256: plugin.sha256.clone(),
            weights_sha256: plugin.all_weights().cloned().collect(),
            backbone: backbone.name.clone(),
            backbone_sha256: backbone.sha256.clone(),
            precision: backbone.precision.clone(),
            quantised_sha256: backbone.quantised_sha256.clone(),
        }
    }

    /// What differs from an earlier identity, in words: `other weights (1a2b… before, 3c4d… now)`; none where nothing does.
    pub fn difference(&self, before: &Self) -> Option<String> {
        let short = |digest: &str| digest.get(..8).unwrap_or(digest).to_owned();
        let all = |digests: &[String]| digests.iter().map(|d| short(d)).collect::<Vec<_>>().join("+");
        let of_file = |identity: &Self| identity.quantised_sha256.as_deref().map_or("none".to_owned(), short);
        let parts = [
            ("library", short(&before.library_sha256), short(&self.library_sha256)),
            ("weights", all(&before.weights_sha256), all(&self.weights_sha256)),
            ("backbone", short(&before.backbone_sha256), short(&self.backbone_sha256)),
            ("precision", before.precision.clone(), self.precision.clone()),
            ("file of quantised layers", of_file(before), of_file(self)),
        ];
        let other = parts.into_iter().find(|(_, before, now)| before != now);
        other.map(|(what, before, now)| format!("another {what} ({before} before, {now} now)"))
    }
}
