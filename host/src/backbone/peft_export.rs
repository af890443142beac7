//! Low-rank terms as a folder that Hugging Face's peft reads: `adapter_config.json` and `adapter_model.safetensors`.

use super::adapter::{LowRank, Site};
use super::error::BackboneError;
use super::info::BackboneInfo;
use crate::fs::write_atomically;
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// What the modules of a model are called in PyTorch. Only DINOv2, DINOv3 and the plain ViT have two namings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PeftNames {
    /// transformers 5: `attention.q_proj`.
    #[default]
    Transformers5,
    /// transformers 4: `attention.attention.query`.
    Transformers4,
}

/// Where a family's modules are, as PyTorch names them: the patch embedding, a block's list, and q, k, v and output in it.
struct ModuleNames {
    patches: &'static str,
    blocks: &'static str,
    /// One name where the layer is fused.
    qkv: &'static [&'static str],
    output: &'static str,
}

impl ModuleNames {
    fn of(family: &str, names: PeftNames) -> Option<Self> {
        const APART: &[&str] = &["attention.q_proj", "attention.k_proj", "attention.v_proj"];
        const OLD: &[&str] =
            &["attention.attention.query", "attention.attention.key", "attention.attention.value"];
        const SELF: &[&str] = &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        let projection = "embeddings.patch_embeddings.projection";
        let hugging_face = |blocks| match names {
            PeftNames::Transformers5 => {
                Self { patches: projection, blocks, qkv: APART, output: "attention.o_proj" }
            }
            PeftNames::Transformers4 => {
                Self { patches: projection, blocks, qkv: OLD, output: "attention.output.dense" }
            }
        };
        match family {
            "dinov2" | "dinov2_with_registers" => Some(hugging_face("encoder.layer")),
            "vit" if names == PeftNames::Transformers5 => Some(hugging_face("layers")),
            "vit" => Some(hugging_face("encoder.layer")),
            "dinov3" | "dinov3_vit" => Some(Self {
                patches: "embeddings.patch_embeddings",
                blocks: if names == PeftNames::Transformers5 { "model.layer" } else { "layer" },
                qkv: APART,
                output: "attention.o_proj",
            }),
            "siglip" | "clip" => Some(Self {
                patches: "embeddings.patch_embedding",
                blocks: "encoder.layers",
                qkv: SELF,
                output: "self_attn.out_proj",
            }),
            "timm_vit" => Some(Self {
                patches: "patch_embed.proj",
                blocks: "blocks",
                qkv: &["attn.qkv"],
                output: "attn.proj",
            }),
            _ => None,
        }
    }
}

/// Writes low-rank terms of one rank as a folder of peft. A fused qkv is written apart: q, k and v share its A, and each has its
/// rows of B, so that rank and arithmetic stay what they are. Reading the folder again gives the same terms.
///
/// # Errors
/// When there are no terms, their ranks or scales differ, the family has no names in PyTorch here, or the folder cannot be
/// written to.
pub fn write_peft<'a>(
    dir: &Path,
    info: &BackboneInfo,
    terms: impl IntoIterator<Item = (Site, &'a LowRank)>,
    names: PeftNames,
) -> Result<(), BackboneError> {
    let refuse = |message: String| Err(BackboneError::adapter(dir, message));
    let Some(modules) = ModuleNames::of(&info.family, names) else {
        return refuse(format!("the modules of the family {} have no names in PyTorch here", info.family));
    };
    let (mut tensors, mut targets, mut seen) = (BTreeMap::new(), Vec::new(), None);
    for (site, term) in terms {
        let this = (term.a.dim(0)?, term.scale);
        if seen.is_some_and(|seen| seen != this) {
            return refuse(format!(
                "{} has rank and scale {this:?}, others {seen:?}; peft has one of each",
                site.name()
            ));
        }
        seen = Some(this);
        for (module, a, b) in of_site(site, term, &modules, info)? {
            tensors.insert(format!("base_model.model.{module}.lora_A.weight"), a);
            tensors.insert(format!("base_model.model.{module}.lora_B.weight"), b);
            targets.push(module);
        }
    }
    let Some((rank, scale)) = seen else { return refuse("there are no low-rank terms to write".to_owned()) };
    targets.sort();
    let config = json!({
        "peft_type": "LORA",
        "base_model_name_or_path": info.name,
        "bias": "none",
        "inference_mode": true,
        "lora_alpha": scale * rank as f64,
        "lora_dropout": 0.0,
        "r": rank,
        "target_modules": targets,
        "task_type": null,
        "use_dora": false,
        "use_rslora": false,
    });
    let file = dir.join("adapter_model.safetensors");
    std::fs::create_dir_all(dir).map_err(BackboneError::io(dir))?;
    let format = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(tensors.iter().map(|(name, t)| (name.as_str(), t)), Some(format))
        .map_err(|e| BackboneError::adapter(&file, e.to_string()))?;
    write_atomically(&file, &bytes).map_err(BackboneError::io(&file))?;
    let path = dir.join("adapter_config.json");
    let text =
        serde_json::to_string_pretty(&config).map_err(|e| BackboneError::adapter(&path, e.to_string()))?;
    write_atomically(&path, (text + "\n").as_bytes()).map_err(BackboneError::io(&path))
}

/// The modules of a site, each with its A and B in PyTorch's shapes.
fn of_site(
    site: Site,
    term: &LowRank,
    modules: &ModuleNames,
    info: &BackboneInfo,
) -> Result<Vec<(String, Tensor, Tensor)>, BackboneError> {
    let plain = |t: &Tensor| t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous();
    let (a, b) = (plain(&term.a)?, plain(&term.b)?);
    let rank = a.dim(0)?;
    let in_block = |block: usize, module: &str| format!("{}.{block}.{module}", modules.blocks);
    match site {
        Site::PatchEmbed => {
            let p = info.patch_size;
            // A convolution's.
            let (a, b) = (a.reshape((rank, 3, p, p))?, b.reshape((info.embed_dim, rank, 1, 1))?);
            Ok(vec![(modules.patches.to_owned(), a, b)])
        }
        Site::AttentionOutput(block) => Ok(vec![(in_block(block, modules.output), a, b)]),
        Site::Qkv(block) => {
            let rows = b.dim(0)? / modules.qkv.len();
            let part = |(n, module): (usize, &&str)| {
                let b = b.narrow(0, n * rows, rows)?.contiguous()?;
                Ok((in_block(block, module), a.clone(), b))
            };
            modules.qkv.iter().enumerate().map(part).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lora::LoraWeights;
    use super::super::peft::load_peft;
    use super::*;

    fn terms(info: &BackboneInfo) -> BTreeMap<String, (Site, LowRank)> {
        let numbers = |n: usize, from: usize| {
            (0..n).map(|i| ((i * 7 + from) % 23) as f32 / 23.0 - 0.5).collect::<Vec<_>>()
        };
        let tensor = |rows, columns, from| {
            Tensor::from_vec(numbers(rows * columns, from), (rows, columns), &Device::Cpu).unwrap()
        };
        info.sites()
            .into_iter()
            .enumerate()
            .map(|(n, s)| {
                let (a, b) = (tensor(2, s.d_in, n), tensor(s.d_out, 2, n + 3));
                (s.site.name(), (s.site, LowRank { a, b, scale: 1.5 }))
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read_again_number_for_number_in_every_family_and_naming() {
        for family in ["dinov2", "vit", "siglip", "clip", "timm_vit"] {
            for names in [PeftNames::Transformers5, PeftNames::Transformers4] {
                let info = BackboneInfo { family: family.to_owned(), ..BackboneInfo::for_tests() };
                let written = terms(&info);
                let dir = tempfile::tempdir().unwrap();
                write_peft(dir.path(), &info, written.values().map(|(site, term)| (*site, term)), names)
                    .unwrap();
                let read: LoraWeights = load_peft(dir.path(), &info).unwrap();
                assert_eq!(read.terms().count(), written.len(), "{family}");
                for (site, found) in read.terms() {
                    let (_, expected) = &written[&site.name()];
                    let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    assert_eq!(found.a.dims(), expected.a.dims(), "{family} {}", site.name());
                    assert_eq!(numbers(&found.a), numbers(&expected.a), "{family} {}", site.name());
                    assert_eq!(numbers(&found.b), numbers(&expected.b), "{family} {}", site.name());
                    assert_eq!(found.scale, expected.scale);
                }
            }
        }
    }

    #[test]
    fn terms_of_different_ranks_are_refused() {
        let info = BackboneInfo { family: "dinov2".to_owned(), ..BackboneInfo::for_tests() };
        let mut all = terms(&info);
        let (_, first) = all.values_mut().next().unwrap();
        first.a = Tensor::zeros((3, first.a.dim(1).unwrap()), DType::F32, &Device::Cpu).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let terms = all.values().map(|(site, term)| (*site, term));
        let error = write_peft(dir.path(), &info, terms, PeftNames::default()).unwrap_err().to_string();
        assert!(error.contains("peft has one of each"), "{error}");
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}
