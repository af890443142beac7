//! Which backbone a plugin runs on.

use crate::engine::backbone_store::BackboneCard;
use crate::engine::{DEFAULT_BACKBONE, all_backbones, find_backbone};
use crate::plugin::Inspected;
use crate::task::Weights;
use std::path::{Path, PathBuf};

/// The backbone that a plugin's weights were trained on, where it is here: by its name, or, where it was imported under another
/// one, by the fingerprint on its card. Weights that are not found or not read, and a backbone that is not here, are told where
/// the task is opened.
fn named_by_weights(library: &Inspected, given: &[PathBuf]) -> Option<String> {
    let name = &library.manifest().plugin.name;
    let info = Weights::find(name, given.first().map(PathBuf::as_path), &library.path).ok()?.info;
    let on_card = |folder: &Path| Some(BackboneCard::read(folder).ok()??.fingerprint);
    let named = find_backbone(&info.backbone).ok();
    let fits = |folder: &PathBuf| on_card(folder).is_none_or(|found| found == info.backbone_fingerprint);
    let imported = || {
        all_backbones()
            .into_iter()
            .find(|folder| on_card(folder).as_ref() == Some(&info.backbone_fingerprint))
    };
    let folder = named.clone().filter(fits).or_else(imported).or(named)?;
    Some(folder.display().to_string())
}

/// The backbone of a plugin, by name or folder: the `given` one, else that which its weights were trained on, else the default.
pub(super) fn backbone_of(library: &Inspected, given: Option<&str>, weights: &[PathBuf]) -> String {
    let named = || named_by_weights(library, weights);
    given.map(str::to_owned).or_else(named).unwrap_or_else(|| {
        let folder = find_backbone(DEFAULT_BACKBONE);
        folder.map_or(DEFAULT_BACKBONE.to_owned(), |folder| folder.display().to_string())
    })
}
