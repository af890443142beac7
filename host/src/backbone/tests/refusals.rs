//! Checkpoints that do not fit are refused in one line that names what does not fit.

use super::checkpoint::Family;
use super::*;

/// A tiny checkpoint after a change of its files; what its opening says.
fn refused(tiny: Tiny, change: impl Fn(&Path) -> Outcome) -> Result<String, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    write(dir.path(), tiny)?;
    change(dir.path())?;
    let text = Backbone::open(dir.path(), Precision::F32).err().ok_or("was accepted")?.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    Ok(text)
}

/// Edits the tensors of `model.safetensors`.
fn tensors(dir: &Path, change: impl Fn(&mut HashMap<String, Tensor>)) -> Outcome {
    let path = dir.join("model.safetensors");
    let mut all = candle_core::safetensors::load(&path, &Device::Cpu)?;
    change(&mut all);
    candle_core::safetensors::save(&all, &path)?;
    Ok(())
}

fn config(dir: &Path, key: &str, value: serde_json::Value) -> Outcome {
    let path = dir.join("config.json");
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    json[key] = value;
    std::fs::write(path, json.to_string())?;
    Ok(())
}

#[test]
fn an_incomplete_checkpoint_is_an_error_that_lists_every_missing_tensor() -> Outcome {
    let gone = ["encoder.layer.1.mlp.fc2.weight", "layernorm.bias", "embeddings.cls_token"];
    let text = refused(Tiny::default(), |dir| {
        tensors(dir, |all| gone.iter().for_each(|name| drop(all.remove(*name))))
    })?;
    assert!(gone.iter().all(|name| text.contains(name)), "{text}");
    Ok(())
}

#[test]
fn a_tensor_that_belongs_to_nothing_is_refused_by_name_and_known_ones_are_left_alone() -> Outcome {
    let one = || Tensor::zeros(1, DType::F32, &Device::Cpu);
    for family in [Family::Dinov2, Family::Dinov3, Family::Siglip, Family::Clip, Family::Vit] {
        let tiny = Tiny { family, ..Tiny::default() };
        let text = refused(tiny, |dir| {
            let surplus = one()?;
            tensors(dir, |all| {
                all.insert("encoder.layer.9.surprise".into(), surplus.clone());
                all.insert("classifier.weight".into(), surplus.clone());
            })
        })?;
        assert!(text.contains("1 tensors") && text.contains("encoder.layer.9.surprise"), "{text}");
    }
    // A block more than the configuration says is a leftover too.
    let text = refused(Tiny::default(), |dir| config(dir, "num_hidden_layers", 2.into()))?;
    assert!(text.contains("encoder.layer.2.norm1.weight"), "{text}");
    Ok(())
}

#[test]
fn a_configuration_that_contradicts_the_tensors_is_refused_with_both_shapes() -> Outcome {
    let text = refused(Tiny::default(), |dir| config(dir, "patch_size", 8.into()))?;
    assert!(text.contains("[24, 3, 4, 4]") && text.contains("[24, 3, 8, 8]"), "{text}");
    let siglip = Tiny { family: Family::Siglip, ..Tiny::default() };
    let text = refused(siglip, |dir| config(dir, "intermediate_size", 40.into()))?;
    assert!(text.contains("mlp.fc1") && text.contains("40"), "{text}");
    let text = refused(siglip, |dir| config(dir, "vision_use_head", false.into()))?;
    assert!(text.contains("vision_use_head"), "{text}");
    let text = refused(siglip, |dir| config(dir, "hidden_act", "relu".into()))?;
    assert!(text.contains("relu") && text.contains("gelu_pytorch_tanh"), "{text}");
    Ok(())
}

#[test]
fn mean_and_deviation_are_never_guessed() -> Outcome {
    let statistics = "preprocessor_config.json";
    let text = refused(Tiny::default(), |dir| Ok(std::fs::remove_file(dir.join(statistics))?))?;
    assert!(text.contains("image_mean") && text.contains(statistics), "{text}");
    let text = refused(Tiny::default(), |dir| {
        Ok(std::fs::write(dir.join(statistics), r#"{"image_mean": [0.5, 0.5, 0.5]}"#)?)
    })?;
    assert!(text.contains("image_std"), "{text}");
    let text = refused(Tiny::default(), |dir| {
        let json = r#"{"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
        Ok(std::fs::write(dir.join(statistics), json)?)
    })?;
    assert!(text.contains("three numbers or one"), "{text}");
    Ok(())
}

#[test]
fn mean_and_deviation_are_read_where_each_library_writes_them() -> Outcome {
    let told = [
        (
            "processor_config.json",
            r#"{"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}}"#,
        ),
        ("open_clip_config.json", r#"{"preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}"#),
    ];
    for (name, json) in told {
        let dir = tempfile::tempdir()?;
        write(dir.path(), Tiny::default())?;
        std::fs::remove_file(dir.path().join("preprocessor_config.json"))?;
        std::fs::write(dir.path().join(name), json)?;
        let backbone = Backbone::open(dir.path(), Precision::F32)?;
        assert_eq!((backbone.info().mean, backbone.info().std), ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]), "{name}");
    }
    Ok(())
}

#[test]
fn a_pickle_is_refused_with_the_line_that_converts_it() -> Outcome {
    let text = refused(Tiny::default(), |dir| {
        std::fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin"))?;
        Ok(())
    })?;
    assert!(text.contains("pytorch_model.bin") && text.contains("save_file"), "{text}");
    Ok(())
}

#[test]
fn a_family_that_is_not_read_is_refused_by_name() -> Outcome {
    let text = refused(Tiny::default(), |dir| config(dir, "model_type", "resnet".into()))?;
    assert!(text.contains("\"resnet\"") && text.contains("dinov2_with_registers"), "{text}");
    let text = refused(Tiny::default(), |dir| {
        std::fs::write(dir.join("config.json"), r#"{"architecture": "resnet50.a1_in1k"}"#)?;
        Ok(())
    })?;
    assert!(text.contains("resnet50.a1_in1k"), "{text}");
    Ok(())
}

#[test]
fn every_family_has_the_same_sites_and_its_own_fingerprint_and_layout() -> Outcome {
    let mut fingerprints = std::collections::BTreeSet::new();
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let backbone = Backbone::open(dir.path(), Precision::F32)?;
        let info = backbone.info();
        // Patch embedding, then qkv and output of each block: rank·(d_in + d_out) numbers each.
        let of_block = 2 * ((D + 3 * D) + (D + D));
        assert_eq!(lora_parameter_count(info, 2), 2 * (3 * PATCH * PATCH + D) + BLOCKS * of_block);
        let names: Vec<String> = info.sites().iter().map(|s| s.site.name()).collect();
        assert_eq!(names[..3], ["patch_embed", "block.0.attention.qkv", "block.0.attention.o_proj"]);
        assert_eq!(names.len(), 1 + 2 * BLOCKS);
        let class = usize::from(tiny.family != Family::Siglip);
        assert_eq!(info.tokens((3, 5)), 15 + class + tiny.registers);
        fingerprints.insert(info.fingerprint.clone());
    }
    assert_eq!(fingerprints.len(), ALL.len());
    Ok(())
}
