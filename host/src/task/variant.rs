//! Ablations: changes of a task without a change of its plugin.
//!
//! The weights store the variant that they were trained with, so that `host run` builds the same task again.

use crate::plugin::context::Parameter;
use anymc3d_manifest::{
    Background, Channels, Extent, LOSSES_BY_KIND, Loss, LossKind, Manifest, MaskFeature, ThroughPlane,
    Tokens, View,
};
use anymc3d_plugin_api::{BackboneInfo, LABEL_QUERIES, Lora, NO_POOLING, Pooling};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Instead of the plugin's adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterChoice {
    /// The frozen backbone as it is.
    None,
    /// Low-rank terms: the plugin's own, or the paper's where it declares none.
    Lora,
}

/// Differences from what a plugin says of itself; the default is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Variant {
    /// Another adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterChoice>,
    /// Another rank; the scale `alpha / rank` stays unless `alpha` is given too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Another alpha.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// The frozen backbone up to this many blocks, and its final norm; later blocks are not computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Another first adapted block; with 0 the patch embedding is adapted too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_block: Option<usize>,
    /// Another way of pooling slices, in heads that are built on the standard one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<String>,
    /// Heads that read patch tokens leave them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub class_tokens_only: bool,
    /// Any backbone will do, whatever families and width the manifest names: it is the weights that are bound to one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_backbone: bool,
    /// Another of the standard segmentation branches: `token` or `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    /// Another loss.
    #[serde(skip_serializing_if = "LossChange::is_none")]
    pub loss: LossChange,
    /// Other preprocessing of every view.
    #[serde(skip_serializing_if = "ViewChange::is_none")]
    pub view: ViewChange,
}

/// What differs from the manifest's views, all of them alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewChange {
    /// Adjacent slices this many mm apart as channels; 0: the windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjacent_mm: Option<f64>,
    /// What the head is told of the mask; empty: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_features: Option<Vec<MaskFeature>>,
    /// What a slice shows of the tissue between it and its neighbours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through_plane: Option<ThroughPlane>,
    /// What becomes of patches that show only background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    /// How many tokens each block merges away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<usize>,
    /// Length in mm of the region around the mask or point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_mm: Option<Extent>,
    /// Number of slices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slices: Option<usize>,
    /// Rows and columns of a slice, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
}

impl ViewChange {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it asks for the patch tokens inside the mask.
    pub fn asks_for_cover(&self) -> bool {
        self.mask_features.as_ref().is_some_and(|features| features.contains(&MaskFeature::Cover))
    }

    fn apply(&self, view: &mut View) {
        if let Some(mm) = self.adjacent_mm {
            let adjacent = mm > 0.0;
            view.channels = if adjacent { Channels::Adjacent } else { Channels::Windows };
            view.adjacent_mm = adjacent.then_some(mm);
        }
        view.through_plane = self.through_plane.unwrap_or(view.through_plane);
        view.background = self.background.unwrap_or(view.background);
        view.merge = self.merge.unwrap_or(view.merge);
        if let Some(features) = &self.mask_features {
            view.mask_features.clone_from(features);
        }
        if let (Some(size_mm), true) = (self.size_mm, view.follows_region()) {
            (view.size_mm, view.margin_mm) = (Some(size_mm), None);
        }
        if let Some(slices) = self.slices {
            (view.slices, view.slice_spacing_mm) = (Some(slices), None);
        }
        view.size = self.size.unwrap_or(view.size);
    }
}

/// What differs from the manifest's loss.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossChange {
    /// `focal`, `bce` or `cross_entropy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<LossKind>,
    /// Focal: exponent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Focal: weight of the positive class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// A weight per label or class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f64>>,
}

impl LossChange {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The manifest's loss with the differences.
    pub fn of(&self, loss: &Loss) -> Loss {
        let mut loss = loss.clone();
        loss.kind = self.kind.unwrap_or(loss.kind);
        loss.gamma = self.gamma.unwrap_or(loss.gamma);
        loss.alpha = self.alpha.unwrap_or(loss.alpha);
        loss.class_weights = self.class_weights.clone().unwrap_or(loss.class_weights);
        loss
    }
}

impl Variant {
    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The manifest with this variant's loss and views.
    ///
    /// # Errors
    /// When a view would make no sense, for example adjacent slices in three windows.
    pub fn manifest(&self, manifest: &Manifest) -> Result<Manifest, String> {
        let mut changed = manifest.clone();
        changed.task.loss = self.loss.of(&changed.task.loss);
        changed.views.iter_mut().for_each(|view| self.view.apply(view));
        if self.class_tokens_only {
            changed.views.iter_mut().for_each(|view| view.tokens = Tokens::Class);
        }
        match self.view.is_none() {
            true => Ok(changed),
            false => changed.check_views().map(|()| changed).map_err(|e| e.to_string()),
        }
    }

    /// The low-rank terms to build, from what the plugin declared (`None`: an adapter of another kind).
    ///
    /// # Errors
    /// When rank, alpha or first block are given and there are no low-rank terms to change.
    pub fn lora(&self, declared: Option<Lora>, backbone: &BackboneInfo) -> Result<Option<Lora>, String> {
        let asked = self.rank.is_some() || self.alpha.is_some() || self.first_block.is_some();
        let lora = match (self.adapter, declared) {
            (Some(AdapterChoice::None), _) if asked => {
                return Err("--adapter none has no rank, alpha or first block".to_owned());
            }
            (Some(AdapterChoice::None), _) => None,
            (Some(AdapterChoice::Lora), None) => Some(Lora::paper(backbone)),
            (_, declared) => declared,
        };
        let Some(mut lora) = lora else {
            return match asked && self.adapter.is_none() {
                true => {
                    Err("the plugin's adapter has no rank, alpha or first block; add --adapter lora"
                        .to_owned())
                }
                false => Ok(None),
            };
        };
        if let Some(rank) = self.rank {
            lora = lora.rank(rank);
        }
        lora.alpha = self.alpha.unwrap_or(lora.alpha);
        if let Some(block) = self.first_block {
            lora.patch_embed = true;
            lora = lora.from_block(block);
        }
        Ok(Some(lora))
    }

    /// Checks that the chosen loss fits a task of this kind. The manifest's loss always does.
    ///
    /// # Errors
    /// When the loss does not fit.
    pub fn loss_fits(&self, task: &anymc3d_manifest::Task) -> Result<(), String> {
        let (loss, kind) = (task.loss.kind, task.kind);
        match kind.takes(loss) {
            true => Ok(()),
            false => Err(format!("--loss: {loss:?} for a {kind:?} task; expected {LOSSES_BY_KIND}")),
        }
    }

    /// What the task's parts are told of it, by name.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let only = self.class_tokens_only.then_some("true");
        let all = [
            ("pooling", self.pooling.as_deref()),
            ("class_tokens_only", only),
            ("decoder", self.decoder.as_deref()),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }

    /// Checks by the parameters that a head created whether it followed the variant: a custom head may not know the
    /// standard options.
    ///
    /// # Errors
    /// When the head did not follow the variant.
    pub fn check_head_variant(&self, parameters: &BTreeMap<String, Parameter>) -> Result<(), String> {
        let has = |part: &str| has(parameters, part);
        let reads_patches = has("head.patches") || has("head.evidence") || has("segmentation");
        if self.class_tokens_only && reads_patches {
            return Err("the plugin's head reads patch tokens in a way of its own and does not take \
                        --class-tokens-only"
                .to_owned());
        }
        if self.decoder.as_deref() == Some("volume") && has("segmentation") {
            return Err(
                "the plugin's head reads the layer that the token decoder trains: with --decoder volume it \
                        would stay as it was drawn; add --class-tokens-only"
                    .to_owned(),
            );
        }
        let Some(name) = &self.pooling else { return Ok(()) };
        let own = || format!("the plugin's head pools in a way of its own and does not take --fusion {name}");
        if name == LABEL_QUERIES {
            return if has("queries") { Ok(()) } else { Err(own()) };
        }
        if name == NO_POOLING {
            let pools = ["query", "queries", "lstm", "transformer"].iter().any(|part| has(part));
            return if has("head") && !pools { Ok(()) } else { Err(own()) };
        }
        let pooling: Pooling = name.parse().map_err(|e: anymc3d_plugin_api::Error| e.to_string())?;
        let expected = match pooling {
            Pooling::Attention => has("query"),
            Pooling::Lstm => has("lstm"),
            Pooling::Transformer => has("transformer"),
            Pooling::Mean | Pooling::Median | Pooling::Max => {
                has("head") && !(has("query") || has("lstm") || has("transformer"))
            }
            _ => return Err(format!("--fusion {name}: its parameters are unknown to this host")),
        };
        match expected {
            true => Ok(()),
            false => Err(own()),
        }
    }

    /// Checks that the segmentation decoder is the decoder that the variant asks for.
    ///
    /// # Errors
    /// When the plugin has a custom decoder, or none.
    pub fn check_segmentation_variant(&self, parameters: &BTreeMap<String, Parameter>) -> Result<(), String> {
        let expected = match self.decoder.as_deref() {
            Some("volume") => has(parameters, "segmentation.project"),
            Some(_) => has(parameters, "segmentation.weight"),
            None => true,
        };
        match (expected, self.decoder.as_deref().unwrap_or_default()) {
            (true, _) => Ok(()),
            (false, name) => Err(format!(
                "the plugin has no standard segmentation branch and does not take --decoder {name}"
            )),
        }
    }
}

/// Whether there is a parameter of that name, or below it.
fn has(parameters: &BTreeMap<String, Parameter>, part: &str) -> bool {
    parameters
        .keys()
        .any(|k| k.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backbone() -> BackboneInfo {
        BackboneInfo::new("dinov2", 384, 12, 6, 14)
    }

    #[test]
    fn a_rank_alone_keeps_the_scale_and_block_0_adapts_the_patch_embedding() {
        let declared = Lora::paper(&backbone()).from_block(6);
        let ranked = Variant { rank: Some(4), ..Variant::default() };
        let lora = ranked.lora(Some(declared.clone()), &backbone()).unwrap().unwrap();
        assert_eq!((lora.rank, lora.alpha, lora.first_block, lora.patch_embed), (4, 8.0, 6, false));
        let whole = Variant { first_block: Some(0), ..Variant::default() };
        assert_eq!(whole.lora(Some(declared), &backbone()).unwrap(), Some(Lora::paper(&backbone())));
    }

    #[test]
    fn what_has_no_low_rank_terms_is_given_the_papers_only_when_asked() {
        let rank = Variant { rank: Some(4), ..Variant::default() };
        assert!(rank.lora(None, &backbone()).unwrap_err().contains("--adapter lora"));
        let lora = Variant { adapter: Some(AdapterChoice::Lora), ..rank.clone() };
        assert_eq!(lora.lora(None, &backbone()).unwrap().unwrap().rank, 4);
        let none = Variant { adapter: Some(AdapterChoice::None), ..Variant::default() };
        assert_eq!(none.lora(Some(Lora::paper(&backbone())), &backbone()).unwrap(), None);
        assert!(Variant { adapter: Some(AdapterChoice::None), ..rank }.lora(None, &backbone()).is_err());
        assert_eq!(Variant::default().lora(None, &backbone()).unwrap(), None);
    }

    #[test]
    fn views_are_changed_as_asked_and_what_makes_no_sense_is_refused() {
        let text = "schema = 1\n[plugin]\nname = \"toy\"\nversion = \"0.1.0\"\nsummary = \"A toy.\"\nlicense = \"-\"\n\
            intended_use = \"Tests.\"\n[task]\nkind = \"binary\"\nlabels = [\"a\"]\nloss = { kind = \"bce\" }\n[backbone]\n\
            families = [\"dinov2\"]\n[[view]]\nname = \"axial\"\nmodality = \"CT\"\naxis = \"axial\"\nslices = 2\n\
            size = [28, 28]\nregion = \"mask\"\nmargin_mm = 5\nmask_features = [\"scalars\"]\n\
            intensity = { kind = \"window\", windows = [[0, 1]] }\n";
        let manifest = Manifest::parse_strict(text).unwrap();
        let with = |view: ViewChange| Variant { view, ..Variant::default() };
        assert_eq!(Variant::default().manifest(&manifest).unwrap(), manifest);
        let all = with(ViewChange {
            adjacent_mm: Some(2.0),
            mask_features: Some(Vec::new()),
            through_plane: Some(ThroughPlane::Linear),
            background: Some(Background::Drop),
            merge: Some(3),
            size_mm: Some(Extent::Cube(30.0)),
            slices: Some(5),
            size: Some([42, 56]),
        });
        let view = &all.manifest(&manifest).unwrap().views[0];
        assert_eq!((view.channels, view.adjacent_mm), (Channels::Adjacent, Some(2.0)));
        assert_eq!((view.background, view.merge), (Background::Drop, 3));
        assert_eq!(view.through_plane, ThroughPlane::Linear);
        assert_eq!(
            (view.size_mm, view.margin_mm, view.mask_features.len()),
            (Some(Extent::Cube(30.0)), None, 0)
        );
        assert_eq!((view.slices, view.size), (Some(5), [42, 56]));
        assert_eq!(serde_json::from_str::<Variant>(&serde_json::to_string(&all).unwrap()).unwrap(), all);
        let mut three = manifest;
        three.views[0].intensity = anymc3d_manifest::Intensity::Window { windows: vec![[0.0, 1.0]; 3] };
        assert!(all.manifest(&three).unwrap_err().contains("the channels are adjacent slices"));
    }

    #[test]
    fn an_empty_variant_writes_nothing_and_reads_as_itself() {
        assert_eq!(serde_json::to_string(&Variant::default()).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<Variant>("{}").unwrap(), Variant::default());
        let changed = Variant { pooling: Some("lstm".into()), rank: Some(2), ..Variant::default() };
        let text = serde_json::to_string(&changed).unwrap();
        assert_eq!(serde_json::from_str::<Variant>(&text).unwrap(), changed);
    }
}
