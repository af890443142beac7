//! Adapters trained with Hugging Face's peft: `adapter_config.json` and `adapter_model.safetensors`.

use super::config::read_json;
use super::error::BackboneError;
use super::info::BackboneInfo;
use super::lora::LoraWeights;
use super::weights::Weights;
use candle_core::Tensor;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Settings that change the arithmetic, and that this host does not implement.
const REFUSED: [&str; 16] = [
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "use_qalora",
    "use_bdlora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
];

/// Reads a peft adapter folder for this backbone; both namings of the attention that its family has are known.
///
/// Anything beyond plain LoRA (DoRA, biases, further modules, patterns of rank or alpha) is refused by name, and so is a file
/// none of whose names fits: peft itself warns of it and computes the bare model.
pub fn load_peft(dir: &Path, info: &BackboneInfo) -> Result<LoraWeights, BackboneError> {
    let path = dir.join("adapter_config.json");
    let json = read_json(&path)?;
    let get = |key: &str| json.get(key).unwrap_or(&Value::Null);
    let refuse = |key: &str| {
        let message =
            format!("{key} is {}, which this host does not do; export plain LoRA without it", get(key));
        Err(BackboneError::adapter(&path, message))
    };
    if get("peft_type").as_str() != Some("LORA") {
        return refuse("peft_type");
    }
    if !matches!(get("bias").as_str(), None | Some("none")) {
        return refuse("bias");
    }
    if let Some(key) = REFUSED.into_iter().find(|key| is_set(get(key))) {
        return refuse(key);
    }
    let rank = get("r").as_u64().filter(|r| *r > 0);
    let (Some(rank), Some(alpha)) = (rank, get("lora_alpha").as_f64()) else {
        return Err(BackboneError::adapter(&path, "needs a positive \"r\" and a \"lora_alpha\""));
    };
    let rslora = get("use_rslora").as_bool().unwrap_or(false);
    let scale = alpha / if rslora { (rank as f64).sqrt() } else { rank as f64 };

    let file = dir.join("adapter_model.safetensors");
    let weights = Weights::from_files(vec![file.clone()])?;
    let (mut tensors, mut unknown) = (HashMap::new(), Vec::new());
    for name in weights.names() {
        let Some(ours) = our_name(&info.family, name) else {
            unknown.push(name.to_string());
            continue;
        };
        let Some(tensor) = weights.read(name, None)? else { continue };
        let found = tensor.dims()[usize::from(ours.ends_with("lora_B"))];
        if found as u64 != rank {
            let message = format!("{name} has rank {found}, expected r = {rank} of adapter_config.json");
            return Err(BackboneError::adapter(&file, message));
        }
        let of_rows = ours == "patch_embed.lora_A" && tensor.rank() == 2;
        tensors.insert(ours, if of_rows { by_channel(&tensor, info.patch_size)? } else { tensor });
    }
    if !unknown.is_empty() {
        unknown.sort();
        let message = format!(
            "adapts what this host does not: {}; it adapts the patch embedding and the attention's q, k, v and output of {}",
            unknown.join(", "),
            info.family
        );
        return Err(BackboneError::adapter(&file, message));
    }
    if tensors.is_empty() {
        let targets = get("target_modules");
        let message = format!(
            "holds no low-rank factors: target_modules {targets} named no layer of the model that was trained; transformers 5 calls them q_proj, k_proj, v_proj, o_proj"
        );
        return Err(BackboneError::adapter(&file, message));
    }
    LoraWeights::from_tensors(&tensors, scale, info).map_err(|e| BackboneError::adapter(&file, e.to_string()))
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    }
}

/// A of a layer over patches of (row, column, channel), as SigLIP 2 has it, by (channel, row, column) as the host's.
fn by_channel(a: &Tensor, p: usize) -> Result<Tensor, BackboneError> {
    let rank = a.dim(0)?;
    if a.elem_count() != rank * 3 * p * p {
        return Ok(a.clone()); // refused with both shapes where it is built in
    }
    Ok(a.reshape((rank, p, p, 3))?.permute((0, 3, 1, 2))?.reshape((rank, 3 * p * p))?)
}

/// `base_model.model.encoder.layer.3.attention.q_proj.lora_A.weight` → `block.3.attention.q_proj.lora_A`, by the names of a
/// family in files and in memory.
fn our_name(family: &str, name: &str) -> Option<String> {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let name = name.strip_suffix(".default").unwrap_or(name);
    let (site, factor) = name.rsplit_once('.')?;
    if !matches!(factor, "lora_A" | "lora_B") || site.contains("text_model.") || site.contains("decoder") {
        return None;
    }
    // The patch embedding, and what stands before a block's number.
    let (patches, lists): (&[&str], &[&str]) = match family {
        "siglip" | "clip" => (&["embeddings.patch_embedding"], &[".layers."]),
        "timm_vit" => (&["patch_embed.proj"], &[".blocks."]),
        _ => (
            &["embeddings.patch_embeddings.projection", "embeddings.patch_embeddings"],
            &[".layer.", ".layers."],
        ),
    };
    if patches.iter().any(|end| site.ends_with(end)) {
        return Some(format!("patch_embed.{factor}"));
    }
    let list = lists.iter().find(|list| site.contains(**list))?;
    let (block, module) = site.split_once(list)?.1.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let module = match (family, module) {
        ("siglip" | "clip", module) => match module.strip_prefix("self_attn.")? {
            "out_proj" => "o_proj",
            part @ ("q_proj" | "k_proj" | "v_proj") => part,
            _ => return None,
        },
        ("timm_vit", "attn.qkv") => "qkv",
        ("timm_vit", "attn.proj") => "o_proj",
        ("timm_vit", _) => return None,
        (_, "attention.q_proj" | "attention.attention.query") => "q_proj",
        (_, "attention.k_proj" | "attention.attention.key") => "k_proj",
        (_, "attention.v_proj" | "attention.attention.value") => "v_proj",
        (_, "attention.o_proj" | "attention.output.dense") => "o_proj",
        _ => return None,
    };
    Some(format!("block.{block}.attention.{module}.{factor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn every_naming_of_the_attention_leads_to_the_same_sites() {
        let leads = |family: &str, name: &str, to: Option<&str>| {
            assert_eq!(our_name(family, &format!("base_model.model.{name}")).as_deref(), to, "{name}");
        };
        let value = Some("block.11.attention.v_proj.lora_B");
        leads("dinov2", "encoder.layer.11.attention.attention.value.lora_B.weight", value);
        leads("dinov2", "encoder.layer.11.attention.v_proj.lora_B.default.weight", value);
        leads("vit", "layers.11.attention.v_proj.lora_B.weight", value);
        leads("siglip", "vision_model.encoder.layers.11.self_attn.v_proj.lora_B.weight", value);
        let output = Some("block.2.attention.o_proj.lora_A");
        leads("dinov3", "model.layer.2.attention.o_proj.lora_A.weight", output);
        leads("clip", "encoder.layers.2.self_attn.out_proj.lora_A.weight", output);
        leads("timm_vit", "blocks.2.attn.proj.lora_A.weight", output);
        leads("timm_vit", "blocks.2.attn.qkv.lora_A.weight", Some("block.2.attention.qkv.lora_A"));
        leads("clip", "vision_model.embeddings.patch_embedding.lora_A.weight", Some("patch_embed.lora_A"));
        for (family, name) in [
            ("dinov2", "encoder.layer.0.mlp.fc1.lora_A.weight"),
            ("dinov2", "encoder.layers.0.self_attn.q_proj.lora_A.weight"),
            ("siglip", "encoder.layer.0.attention.q_proj.lora_A.weight"),
            ("siglip", "text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"),
            ("siglip", "head.attention.out_proj.lora_A.weight"),
        ] {
            leads(family, name, None);
        }
    }

    #[test]
    fn an_adapter_whose_names_fit_nothing_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"]}"#;
        std::fs::write(dir.path().join("adapter_config.json"), config)?;
        let file = dir.path().join("adapter_model.safetensors");
        let refused = |names: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
            let zeros = |n: &&str| Ok(((*n).to_owned(), Tensor::zeros((2, 8), DType::F32, &Device::Cpu)?));
            let tensors = names.iter().map(zeros).collect::<Result<HashMap<_, _>, BackboneError>>()?;
            candle_core::safetensors::save(&tensors, &file)?;
            let loaded = load_peft(dir.path(), &BackboneInfo::for_tests());
            Ok(loaded.err().ok_or("was accepted")?.to_string())
        };
        let text = refused(&[])?;
        assert!(text.contains("no low-rank factors") && text.contains("query"), "{text}");
        let foreign = "base_model.model.encoder.layers.0.self_attn.q_proj.lora_A.weight";
        let text = refused(&[foreign])?;
        assert!(text.contains(foreign), "{text}");
        // The right names of a block that the backbone does not have.
        let beyond = "base_model.model.encoder.layer.7.attention.q_proj.lora_A.weight";
        let text = refused(&[beyond])?;
        assert!(text.contains("block.7.attention.q_proj.lora_A"), "{text}");
        Ok(())
    }
}
