//! What a plugin changes inside the backbone: declared low-rank terms, or code of its own.

use super::error::TaskError;
use super::variant::{AdapterChoice, Variant};
use crate::backbone::{Site, SiteSpec};
use crate::plugin::context::Context;
use crate::plugin::object::AdapterOwner;
use anymc3d_plugin_api::abi::types::{ContextId, Entry, InitSpec, NamedHandle};
use anymc3d_plugin_api::{BackboneInfo, Lora};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// One low-rank term of a declared adapter.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// `[r, d_in]`
    pub a: Tensor,
    /// `[d_out, r]`
    pub b: Tensor,
}

/// The adapter of one view.
pub enum TaskAdapter {
    /// The backbone as it is.
    None,
    /// The backbone as it is, up to this many blocks, and the final norm.
    Cut(usize),
    /// Declared low-rank terms by site: `patch_embed`, `block.N.attention.qkv`, `block.N.attention.o_proj`.
    Lora {
        /// The declaration.
        lora: Lora,
        /// Terms by site.
        pairs: BTreeMap<String, LoraPair>,
    },
    /// The plugin's own code.
    Custom(CustomAdapter),
}

/// A plugin's code at the sites of the backbone.
pub struct CustomAdapter {
    owner: AdapterOwner,
    context: &'static Context,
    settings: Vec<Entry>,
    /// First block it changes.
    pub first_block: usize,
}

impl CustomAdapter {
    /// Drops the plugin's code; its method and what it said where it failed.
    pub(super) fn close(self) -> Result<(), (&'static str, anymc3d_plugin_api::Error)> {
        self.owner.close()
    }

    /// The tensor that the plugin returns for a site's output. Sites: 0 patch embedding, 1 qkv, 2 attention output.
    ///
    /// # Errors
    /// The plugin's error or panic, or an output of another shape.
    pub fn apply(
        &self,
        site: u32,
        block: usize,
        input: &Tensor,
        output: &Tensor,
    ) -> Result<Tensor, TaskError> {
        let error = |reason: String| TaskError {
            task: self.context.task().to_owned(),
            method: "adapter apply",
            reason,
        };
        let named =
            |name: &str, t: &Tensor| NamedHandle { name: name.into(), handle: self.context.put(t.clone()) };
        let tensors = [named("input", input), named("output", output)].into_iter().collect();
        let id: ContextId = self.context.id();
        let answer = self.owner.apply(id, site, block as u64, &self.settings, tensors);
        let answer = answer.map_err(|e| error(e.to_string()))?;
        let tensor = self.context.take(answer).map_err(|e| error(e.to_string()))?;
        if tensor.dims() != output.dims() {
            return Err(error(format!(
                "an output of shape {:?}, expected {:?}",
                tensor.dims(),
                output.dims()
            )));
        }
        Ok(tensor)
    }
}

/// The adapter of a view, as the plugin declares it and the variant changes it.
pub(super) fn adapter(
    context: &'static Context,
    backbone: &BackboneInfo,
    prefix: &str,
    settings: &[Entry],
    declared: &BTreeMap<String, String>,
    custom: Option<AdapterOwner>,
    variant: &Variant,
) -> anymc3d_plugin_api::Result<TaskAdapter> {
    use anymc3d_plugin_api::Error;
    let text = |key: &str| {
        declared.get(key).map(String::as_str).ok_or_else(|| Error::msg(format!("declared without `{key}`")))
    };
    let number = |key: &str| -> anymc3d_plugin_api::Result<usize> {
        text(key)?.parse().map_err(|_| Error::msg(format!("`{key}` is not a number")))
    };
    let kind = text("kind")?;
    let lora = match kind {
        "lora" => {
            let alpha = text("alpha")?.parse().map_err(|_| Error::msg("`alpha` is not a number"))?;
            let on = |key: &str| Ok::<_, Error>(text(key)? == "true");
            let mut lora =
                Lora::new(number("rank")?, alpha).at(on("patch_embed")?, on("qkv")?, on("output")?);
            lora.first_block = number("first_block")?;
            Some(lora)
        }
        _ => None,
    };
    let lora = variant.lora(lora, backbone).map_err(Error::msg)?;
    if let Some(depth) = variant.depth {
        let frozen = lora.is_none() && (variant.adapter == Some(AdapterChoice::None) || kind == "none");
        return match frozen {
            true if (1..=backbone.blocks).contains(&depth) => Ok(TaskAdapter::Cut(depth)),
            true => Err(Error::msg(format!("--depth {depth}: expected 1 to {} blocks", backbone.blocks))),
            false => Err(Error::msg("--depth is of a frozen backbone; add --adapter none")),
        };
    }
    if let Some(lora) = lora {
        // The plugin's side checked it with the plugin's build of the check; this side allocates.
        lora.check(backbone)?;
        let pairs = lora_pairs(context, backbone, prefix, &lora)?;
        return Ok(TaskAdapter::Lora { lora, pairs });
    }
    match kind {
        _ if variant.adapter == Some(AdapterChoice::None) => Ok(TaskAdapter::None),
        "none" => Ok(TaskAdapter::None),
        "custom" => {
            let owner = custom.ok_or_else(|| Error::msg("declared as custom without code"))?;
            Ok(TaskAdapter::Custom(CustomAdapter {
                owner,
                context,
                settings: settings.to_vec(),
                first_block: number("first_block")?,
            }))
        }
        other => {
            Err(Error::msg(format!("an adapter of kind `{other}` is unknown to this host; upgrade the host")))
        }
    }
}

/// A like PEFT's (uniform within `± 1 / sqrt(d_in)`), B zero: the adapted backbone starts as the frozen one.
fn lora_pairs(
    context: &Context,
    backbone: &BackboneInfo,
    prefix: &str,
    lora: &Lora,
) -> anymc3d_plugin_api::Result<BTreeMap<String, LoraPair>> {
    let adapted = |s: &SiteSpec| match s.site {
        Site::PatchEmbed => lora.patch_embed,
        Site::Qkv(block) => lora.qkv && block >= lora.first_block,
        Site::AttentionOutput(block) => lora.output && block >= lora.first_block,
    };
    let sites = SiteSpec::of_vit(backbone.embed_dim, backbone.blocks, backbone.patch_size);
    let mut pairs = BTreeMap::new();
    for SiteSpec { site, d_in, d_out } in sites.into_iter().filter(adapted) {
        let site = site.name();
        let bound = 1.0 / (d_in as f64).sqrt();
        let uniform = InitSpec { kind: 3, a: -bound, b: bound };
        let zeros = InitSpec { kind: 0, a: 0.0, b: 0.0 };
        let a = context.parameter(&format!("{prefix}.{site}.lora_A"), &[lora.rank, d_in], uniform)?;
        let b = context.parameter(&format!("{prefix}.{site}.lora_B"), &[d_out, lora.rank], zeros)?;
        pairs.insert(site, LoraPair { a, b });
    }
    Ok(pairs)
}
