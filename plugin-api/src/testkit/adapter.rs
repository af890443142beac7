//! A task's adapter at the sites of a backbone: declared low-rank terms, or the plugin's code.

use super::backbone::site_name;
use super::call::{called, check_shape, named, within};
use super::context::Context;
use super::table::host_ops;
use crate::abi::objects::AdapterObject;
use crate::abi::owned::Owned;
use crate::abi::types::{Entry, InitSpec};
use crate::adapter::{Lora, Site};
use crate::build::BackboneInfo;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// What a task changes in the backbone, for one view.
pub(crate) enum TaskAdapter {
    None,
    Lora { lora: Lora, pairs: BTreeMap<String, (Tensor, Tensor)> },
    Custom(CustomAdapter),
}

/// Code at the sites.
pub(crate) struct CustomAdapter {
    owner: Owned<AdapterObject>,
    settings: Vec<Entry>,
    first_block: usize,
}

impl TaskAdapter {
    /// From what a task declared to an adapter with its parameters.
    pub fn new(
        context: &Context,
        backbone: &BackboneInfo,
        prefix: &str,
        settings: Vec<Entry>,
        declared: &[Entry],
        custom: Option<Owned<AdapterObject>>,
    ) -> Result<Self> {
        let text = |key: &str| {
            let found = declared.iter().find(|e| e.key.as_str() == key).map(|e| e.value.as_str());
            found.ok_or_else(|| Error::msg(format!("declared without `{key}`")))
        };
        let number = |key: &str| -> Result<usize> {
            text(key)?.parse().map_err(|_| Error::msg(format!("`{key}` is not a number")))
        };
        match text("kind")? {
            "none" => Ok(Self::None),
            "custom" => {
                let owner = custom.ok_or_else(|| Error::msg("declared as custom without code"))?;
                Ok(Self::Custom(CustomAdapter { owner, settings, first_block: number("first_block")? }))
            }
            "lora" => {
                let lora = Lora {
                    rank: number("rank")?,
                    alpha: text("alpha")?.parse().map_err(|_| Error::msg("`alpha` is not a number"))?,
                    first_block: number("first_block")?,
                    patch_embed: text("patch_embed")? == "true",
                    qkv: text("qkv")? == "true",
                    output: text("output")? == "true",
                };
                lora.check(backbone)?;
                let pairs = lora_pairs(context, backbone, prefix, &lora)?;
                Ok(Self::Lora { lora, pairs })
            }
            other => Err(Error::msg(format!("an adapter of kind `{other}` is unknown to this host"))),
        }
    }

    pub fn first_block(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Lora { lora, .. } => Some(lora.first_block),
            Self::Custom(code) => Some(code.first_block),
        }
    }

    /// What stands in the place of a site's output.
    pub fn apply(&self, context: &Context, site: Site, input: &Tensor, output: Tensor) -> Result<Tensor> {
        let (kind, block) = match site {
            Site::PatchEmbed => (0, 0),
            Site::Qkv(block) => (1, block),
            Site::AttentionOutput(block) => (2, block),
        };
        match self {
            Self::None => Ok(output),
            Self::Lora { lora, pairs } => {
                let Some((a, b)) = pairs.get(&site_name(site)) else { return Ok(output) };
                let low = input.matmul(&a.t()?)?.scale(lora.alpha / lora.rank as f64)?;
                output.add(&low.matmul(&b.t()?)?)
            }
            Self::Custom(code) if block < code.first_block => Ok(output),
            Self::Custom(code) => {
                let expected = output.dims()?;
                let tensors = [named("input", input)?, named("output", &output)?].into_iter().collect();
                let call = called(context.id(), &code.settings);
                let answer = code.owner.apply(call, kind, block as u64, tensors);
                let answer = context.host().adopt(answer.map_err(within("adapter apply"))?);
                check_shape("an output", &answer, &expected)?;
                Ok(answer)
            }
        }
    }

    pub fn close(self) -> Result<()> {
        match self {
            Self::Custom(code) => code.owner.close(),
            _ => Ok(()),
        }
    }
}

/// A uniform within `± 1 / sqrt(d_in)`, B zero, by the names that a host gives them.
fn lora_pairs(
    context: &Context,
    backbone: &BackboneInfo,
    prefix: &str,
    lora: &Lora,
) -> Result<BTreeMap<String, (Tensor, Tensor)>> {
    let adapted = |site: Site| match site {
        Site::PatchEmbed => lora.patch_embed,
        Site::Qkv(block) => lora.qkv && block >= lora.first_block,
        Site::AttentionOutput(block) => lora.output && block >= lora.first_block,
    };
    let host = context.host();
    let mut pairs = BTreeMap::new();
    for (site, d_in, d_out) in super::backbone::sites(backbone).into_iter().filter(|(s, ..)| adapted(*s)) {
        let site = site_name(site);
        let bound = 1.0 / (d_in as f64).sqrt();
        let get = |factor: &str, dims: [u64; 2], init: InitSpec| {
            let name = format!("{prefix}.{site}.{factor}");
            host.own((host_ops().parameter())(context.id(), name.as_str().into(), (&dims[..]).into(), init))
        };
        let a = get("lora_A", [lora.rank as u64, d_in as u64], InitSpec { kind: 3, a: -bound, b: bound })?;
        let b = get("lora_B", [d_out as u64, lora.rank as u64], InitSpec { kind: 0, a: 0.0, b: 0.0 })?;
        pairs.insert(site, (a, b));
    }
    Ok(pairs)
}
