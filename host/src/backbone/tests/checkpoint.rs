//! Tiny checkpoints of random weights, of every family and naming.

use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Family {
    #[default]
    Dinov2,
    Dinov3,
    Siglip,
    Clip,
    Vit,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tiny {
    pub family: Family,
    pub gated: bool,
    pub registers: usize,
    /// As transformers has them in memory.
    pub new_names: bool,
    pub sharded: bool,
    pub f16: bool,
    pub prefix: &'static str,
}

const BASE: Tiny = Tiny {
    family: Family::Dinov2,
    gated: false,
    registers: 0,
    new_names: false,
    sharded: false,
    f16: false,
    prefix: "",
};

pub(super) const ALL: [Tiny; 10] = [
    BASE,
    Tiny { gated: true, new_names: true, sharded: true, ..BASE },
    Tiny { registers: 2, new_names: true, f16: true, ..BASE },
    Tiny { gated: true, registers: 3, sharded: true, f16: true, ..BASE },
    Tiny { family: Family::Dinov3, registers: 2, ..BASE },
    Tiny { family: Family::Dinov3, gated: true, new_names: true, prefix: "backbone.", ..BASE },
    Tiny { family: Family::Siglip, ..BASE },
    Tiny { family: Family::Siglip, prefix: "vision_model.", sharded: true, ..BASE },
    Tiny { family: Family::Clip, ..BASE },
    Tiny { family: Family::Vit, new_names: true, ..BASE },
];

const HIDDEN: usize = 56;

/// A checkpoint of random weights in `dir`.
pub(super) fn write(dir: &Path, tiny: Tiny) -> Outcome {
    let model_type = match (tiny.family, tiny.registers) {
        (Family::Dinov2, 0) => "dinov2",
        (Family::Dinov2, _) => "dinov2_with_registers",
        (Family::Dinov3, _) => "dinov3_vit",
        (Family::Siglip, _) => "siglip_vision_model",
        (Family::Clip, _) => "clip_vision_model",
        (Family::Vit, _) => "vit",
    };
    let dinov3 = tiny.family == Family::Dinov3;
    let act = match tiny.family {
        Family::Dinov3 if tiny.gated => "silu",
        Family::Dinov2 | Family::Dinov3 | Family::Vit => "gelu",
        Family::Siglip => "gelu_pytorch_tanh",
        Family::Clip => "quick_gelu",
    };
    let config = serde_json::json!({
        "model_type": model_type, "hidden_size": D, "num_hidden_layers": BLOCKS, "num_attention_heads": 3,
        "patch_size": PATCH, "num_register_tokens": tiny.registers, "use_swiglu_ffn": tiny.gated,
        "use_gated_mlp": tiny.gated, "intermediate_size": HIDDEN, "hidden_act": act,
    });
    std::fs::write(dir.join("config.json"), config.to_string())?;
    let statistics = r#"{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2]}"#;
    std::fs::write(dir.join("preprocessor_config.json"), statistics)?;
    let mut tensors = HashMap::new();
    for (name, shape) in shapes(tiny) {
        let leaf = name.rsplit('.').nth(1).unwrap_or_default();
        let of_norm = leaf.contains("norm") || leaf.contains("layrnorm");
        let is_one = name.ends_with("lambda1") || (of_norm && name.ends_with("weight"));
        let spread = if shape.len() > 1 { 0.3 } else { 0.2 };
        let tensor = normal(&name, if is_one { 1.0 } else { 0.0 }, spread, shape)?;
        let name = format!("{}{name}", tiny.prefix);
        tensors.insert(name, if tiny.f16 { tensor.to_dtype(DType::F16)? } else { tensor });
    }
    // Where a whole model of images and text was saved, or DINOv3's mask token, they are left alone.
    if tiny.prefix == "vision_model." {
        tensors.insert("text_model.final_layer_norm.bias".into(), normal("text", 0.0, 1.0, 4)?);
        tensors.insert("logit_scale".into(), normal("scale", 0.0, 1.0, 1)?);
    } else if dinov3 {
        let name = format!("{}embeddings.mask_token", tiny.prefix);
        tensors.insert(name, normal("mask", 0.0, 1.0, (1, 1, D))?);
    }
    save(dir, tensors, tiny.sharded)
}

fn save(dir: &Path, tensors: HashMap<String, Tensor>, sharded: bool) -> Outcome {
    if !sharded {
        candle_core::safetensors::save(&tensors, dir.join("model.safetensors"))?;
        return Ok(());
    }
    let (mut first, mut second) = (HashMap::new(), HashMap::new());
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        let shard = if i % 2 == 0 { &mut first } else { &mut second };
        map.insert(name.clone(), format!("model-0000{}-of-00002.safetensors", i % 2 + 1).into());
        shard.insert(name, tensor);
    }
    candle_core::safetensors::save(&first, dir.join("model-00001-of-00002.safetensors"))?;
    candle_core::safetensors::save(&second, dir.join("model-00002-of-00002.safetensors"))?;
    let index = serde_json::json!({ "weight_map": map });
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string())?;
    Ok(())
}

type Shapes = Vec<(String, Vec<usize>)>;

fn linear(all: &mut Shapes, name: &str, d_out: usize, d_in: usize, bias: bool) {
    all.push((format!("{name}.weight"), vec![d_out, d_in]));
    if bias {
        all.push((format!("{name}.bias"), vec![d_out]));
    }
}

fn norm(all: &mut Shapes, name: &str) {
    all.push((format!("{name}.weight"), vec![D]));
    all.push((format!("{name}.bias"), vec![D]));
}

/// Every tensor of a family with its shape.
fn shapes(tiny: Tiny) -> Shapes {
    let mut all = embedding(tiny);
    for i in 0..BLOCKS {
        block(&mut all, tiny, i);
    }
    match tiny.family {
        Family::Dinov2 | Family::Vit => norm(&mut all, "layernorm"),
        Family::Dinov3 => norm(&mut all, "norm"),
        Family::Clip => norm(&mut all, "post_layernorm"),
        Family::Siglip => {
            norm(&mut all, "post_layernorm");
            all.push(("head.probe".into(), vec![1, 1, D]));
            all.push(("head.attention.in_proj_weight".into(), vec![3 * D, D]));
            all.push(("head.attention.in_proj_bias".into(), vec![3 * D]));
            linear(&mut all, "head.attention.out_proj", D, D, true);
            norm(&mut all, "head.layernorm");
            linear(&mut all, "head.mlp.fc1", HIDDEN, D, true);
            linear(&mut all, "head.mlp.fc2", D, HIDDEN, true);
        }
    }
    all
}

fn embedding(tiny: Tiny) -> Shapes {
    let mut all: Shapes = Vec::new();
    let mut put = |name: &str, shape: &[usize]| all.push((format!("embeddings.{name}"), shape.to_vec()));
    let patches = match tiny.family {
        Family::Dinov2 | Family::Vit => "patch_embeddings.projection",
        Family::Dinov3 => "patch_embeddings",
        Family::Siglip | Family::Clip => "patch_embedding",
    };
    put(&format!("{patches}.weight"), &[D, 3, PATCH, PATCH]);
    if tiny.family != Family::Clip {
        put(&format!("{patches}.bias"), &[D]);
    }
    match tiny.family {
        Family::Siglip => put("position_embedding.weight", &[16, D]),
        Family::Clip => {
            put("class_embedding", &[D]);
            put("position_embedding.weight", &[17, D]);
        }
        _ => put("cls_token", &[1, 1, D]),
    }
    if matches!(tiny.family, Family::Dinov2 | Family::Vit) {
        put("position_embeddings", &[1, 17, D]);
    }
    if tiny.registers > 0 {
        put("register_tokens", &[1, tiny.registers, D]);
    }
    if tiny.family == Family::Clip {
        norm(&mut all, "pre_layrnorm");
    }
    all
}

fn block(all: &mut Shapes, tiny: Tiny, i: usize) {
    let new = tiny.new_names;
    let layer = match tiny.family {
        Family::Dinov3 if new => format!("model.layer.{i}"),
        Family::Dinov3 => format!("layer.{i}"),
        Family::Siglip | Family::Clip => format!("encoder.layers.{i}"),
        Family::Vit if new => format!("layers.{i}"),
        Family::Dinov2 | Family::Vit => format!("encoder.layer.{i}"),
    };
    let attention = match tiny.family {
        Family::Siglip | Family::Clip => {
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"]
        }
        Family::Dinov2 | Family::Vit if !new => [
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
            "attention.output.dense",
        ],
        _ => ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"],
    };
    for (part, name) in attention.iter().enumerate() {
        // DINOv3's keys have no bias.
        linear(all, &format!("{layer}.{name}"), D, D, !(tiny.family == Family::Dinov3 && part == 1));
    }
    let norms = match tiny.family {
        Family::Siglip | Family::Clip => ["layer_norm1", "layer_norm2"],
        Family::Vit => ["layernorm_before", "layernorm_after"],
        _ => ["norm1", "norm2"],
    };
    norms.iter().for_each(|name| norm(all, &format!("{layer}.{name}")));
    if matches!(tiny.family, Family::Dinov2 | Family::Dinov3) {
        all.push((format!("{layer}.layer_scale1.lambda1"), vec![D]));
        all.push((format!("{layer}.layer_scale2.lambda1"), vec![D]));
    }
    // Width of the first layer's output, and of the second's input.
    let mlp: Vec<(&str, usize, usize)> = match (tiny.family, tiny.gated, new) {
        (Family::Dinov2, true, false) => vec![("mlp.weights_in", 80, D), ("mlp.weights_out", D, 40)],
        (Family::Dinov2, true, true) => {
            vec![("mlp.gate_proj", 40, D), ("mlp.up_proj", 40, D), ("mlp.down_proj", D, 40)]
        }
        (Family::Dinov3, true, _) => {
            vec![("mlp.gate_proj", HIDDEN, D), ("mlp.up_proj", HIDDEN, D), ("mlp.down_proj", D, HIDDEN)]
        }
        (Family::Dinov3, ..) => vec![("mlp.up_proj", HIDDEN, D), ("mlp.down_proj", D, HIDDEN)],
        (Family::Vit, _, false) => vec![("intermediate.dense", HIDDEN, D), ("output.dense", D, HIDDEN)],
        _ => vec![("mlp.fc1", HIDDEN, D), ("mlp.fc2", D, HIDDEN)],
    };
    for (name, d_out, d_in) in mlp {
        linear(all, &format!("{layer}.{name}"), d_out, d_in, true);
    }
}
