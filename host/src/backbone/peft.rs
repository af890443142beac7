//! Adapters trained with Hugging Face's peft: `adapter_config.json` and `adapter_model.safetensors`.

use super::config::read_json;
use super::error::BackboneError;
use super::info::BackboneInfo;
use super::lora::LoraWeights;
use super::weights::Weights;
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

/// Reads a peft adapter folder for this backbone; both of transformers' namings of the attention are known.
///
/// Anything beyond plain LoRA (DoRA, biases, further modules, patterns of rank or alpha) is refused by name.
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
        let Some(ours) = our_name(name) else {
            unknown.push(name.to_string());
            continue;
        };
        let Some(tensor) = weights.read(name, None)? else { continue };
        let found = tensor.dims()[usize::from(ours.ends_with("lora_B"))];
        if found as u64 != rank {
            let message = format!("{name} has rank {found}, expected r = {rank} of adapter_config.json");
            return Err(BackboneError::adapter(&file, message));
        }
        tensors.insert(ours, tensor);
    }
    if !unknown.is_empty() {
        unknown.sort();
        let message = format!(
            "adapts what this host does not: {}; it adapts the patch embedding and the attention's q, k, v and output",
            unknown.join(", ")
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

/// `base_model.model.encoder.layer.3.attention.q_proj.lora_A.weight` → `block.3.attention.q_proj.lora_A`.
fn our_name(name: &str) -> Option<String> {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let name = name.strip_suffix(".default").unwrap_or(name);
    let (site, factor) = name.rsplit_once('.')?;
    if !matches!(factor, "lora_A" | "lora_B") {
        return None;
    }
    if site.ends_with("embeddings.patch_embeddings.projection")
        || site.ends_with("embeddings.patch_embeddings")
    {
        return Some(format!("patch_embed.{factor}"));
    }
    // DINOv2 has them under `encoder.layer.`, DINOv3 under `layer.` or `model.layer.`.
    let layer = &site[site.find(".layer.")? + ".layer.".len()..];
    let (block, module) = layer.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let module = match module {
        "attention.q_proj" | "attention.attention.query" => "q_proj",
        "attention.k_proj" | "attention.attention.key" => "k_proj",
        "attention.v_proj" | "attention.attention.value" => "v_proj",
        "attention.o_proj" | "attention.output.dense" => "o_proj",
        _ => return None,
    };
    Some(format!("block.{block}.attention.{module}.{factor}"))
}

#[cfg(test)]
mod tests {
    use super::our_name;

    #[test]
    fn both_namings_of_the_attention_lead_to_the_same_sites() {
        let old = "base_model.model.encoder.layer.11.attention.attention.value.lora_B.weight";
        let new = "base_model.model.encoder.layer.11.attention.v_proj.lora_B.default.weight";
        assert_eq!(our_name(old).as_deref(), Some("block.11.attention.v_proj.lora_B"));
        assert_eq!(our_name(old), our_name(new));
        let dinov3 = "base_model.model.model.layer.2.attention.o_proj.lora_A.weight";
        assert_eq!(our_name(dinov3).as_deref(), Some("block.2.attention.o_proj.lora_A"));
        assert_eq!(our_name("base_model.model.encoder.layer.0.mlp.fc1.lora_A.weight"), None);
    }
}
