//! The head that is told of a mask: its formula, what a host checks of it, and what happens without a mask.

use crate::prelude::*;
use crate::testkit::{Outcome, TestHost, check};
use crate::{MASK_DETAILS, MASK_SCALARS};

struct Marked;

impl TaskPlugin for Marked {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }
    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        RegionPooling::new(build).boxed()
    }
}

fn manifest(features: &str) -> String {
    let view = |name: &str| {
        format!(
            "[[view]]\nname = \"{name}\"\nmodality = \"CT\"\naxis = \"axial\"\nslices = 4\nsize = [56, 56]\n\
             region = \"mask\"\nsize_mm = 40\nmask_features = [{features}]\n\
             intensity = {{ kind = \"window\", windows = [[-1000, 400]] }}\n"
        )
    };
    "schema = 1\n[plugin]\nname = \"probe\"\nversion = \"0.1.0\"\nsummary = \"A probe.\"\nlicense = \"Apache-2.0\"\n\
     intended_use = \"Tests.\"\n[task]\nkind = \"multilabel\"\nlabels = [\"a\", \"b\"]\nloss = { kind = \"bce\" }\n\
     permutation_invariant = true\n[backbone]\nfamilies = [\"dinov2\"]\n"
        .to_owned()
        + &view("axial")
}

const BOTH: &str = "\"scalars\", \"cover\"";

#[test]
fn a_head_that_is_told_of_a_mask_passes_all_that_a_host_checks() {
    for features in ["", "\"scalars\"", "\"details\"", "\"cover\"", BOTH] {
        let report = check(Marked, &manifest(features));
        let failed = report.findings.iter().find(|f| matches!(f.outcome, Outcome::Failed));
        assert!(failed.is_none(), "{features}: {failed:?}");
    }
}

#[test]
fn logits_are_those_of_the_formula() {
    let task = TestHost::dinov2_small().task(Marked, &manifest(BOTH)).unwrap();
    let context = task.context();
    let fill = |name: &str, scale: f32| {
        let n = context.parameters()[name].values.len();
        let values: Vec<f32> = (0..n).map(|i| scale * ((i * 37 % 11) as f32 - 5.0)).collect();
        context.set(name, &values).unwrap();
        values
    };
    let (a, p) = (fill("head.scalars", 0.1), fill("head.inside", 0.01));
    let mean = fill("scalars.mean", 0.2);
    let std: Vec<f32> = vec![0.5, 1.0, 2.0, 4.0, 0.1, 1e-9];
    context.set("scalars.std", &std).unwrap();
    let views = task.views(3, [2, 2], "a case").unwrap();
    let told = task.head(&views).unwrap().logits.to_vec().unwrap();
    let (s, c) = (
        views[0].mask_scalars().unwrap().to_vec().unwrap(),
        views[0].mask_cover().unwrap().to_vec().unwrap(),
    );
    let t = views[0].patch_tokens.to_vec().unwrap();
    let [view] = <[ViewFeatures; 1]>::try_from(views).ok().unwrap();
    let build = TestHost::dinov2_small().build(context, &manifest(BOTH)).unwrap();
    let plain = AttentionPooling::new(&build).unwrap().forward(&[view]).unwrap().logits.to_vec().unwrap();
    let z: Vec<f32> = (0..6).map(|i| ((s[i] - mean[i]) / std[i].max(1e-6)).clamp(-5.0, 5.0)).collect();
    let (d, total) = (384, c.iter().sum::<f32>());
    for label in 0..2 {
        let scalars: f32 = (0..6).map(|i| a[label * 6 + i] * z[i]).sum();
        let inside: f32 = (0..d)
            .map(|i| {
                let pooled: f32 = (0..12).map(|row| c[row] / total * t[row * d + i]).sum();
                p[label * d + i] * pooled / (d as f32).sqrt()
            })
            .sum();
        let expected = plain[label] + scalars + inside;
        assert!((told[label] - expected).abs() < 1e-4, "{} is not {expected}", told[label]);
    }
}

#[test]
fn a_head_that_was_sent_no_mask_says_what_to_ask_for() {
    let task = TestHost::dinov2_small().task(Marked, &manifest(BOTH)).unwrap();
    let views = task.views(3, [2, 2], "a case").unwrap();
    let [view] = <[ViewFeatures; 1]>::try_from(views).ok().unwrap();
    let error = task.head(&[view.with_mask(MaskFeatures::default())]).err().unwrap();
    assert!(error.message().contains("ask for it in plugin.toml: mask_features = [\"scalars\"]"), "{error}");
}

#[test]
fn a_mask_that_lies_between_the_slices_adds_nothing() {
    let task = TestHost::dinov2_small().task(Marked, &manifest("\"cover\"")).unwrap();
    let n = task.context().parameters()["head.inside"].values.len();
    task.context().set("head.inside", &vec![0.3; n]).unwrap();
    let views = task.views(3, [2, 2], "a case").unwrap();
    let [view] = <[ViewFeatures; 1]>::try_from(views).ok().unwrap();
    let nothing = task.context().tensor(&[0.0; 12], &[3, 4]).unwrap();
    let outside = [view.with_mask(MaskFeatures::new(None, Some(nothing)))];
    let found = task.head(&outside).unwrap().logits.to_vec().unwrap();
    task.context().set("head.inside", &vec![0.0; n]).unwrap();
    assert_eq!(task.head(&outside).unwrap().logits.to_vec().unwrap(), found);
}

#[test]
fn a_plugins_own_settings_and_its_views_sizes_reach_its_code() {
    let text = manifest("") + "[settings]\nk = 3\nshare = 0.25\nname = \"x\"\non = true\n";
    let context = crate::testkit::Context::new(0);
    let build = TestHost::dinov2_small().build(&context, &text).unwrap();
    let all =
        ["k", "share", "name", "on"].map(|k| build.setting(&format!("settings.{k}")).unwrap().to_owned());
    assert_eq!(all, ["3", "0.25", "x", "true"]);
    assert_eq!((build.setting("size.axial"), build.setting("settings.other")), (Some("56,56"), None));
    let wrong = text.replace("k = 3", "\"a b\" = 3");
    assert!(
        TestHost::dinov2_small().build(&context, &wrong).err().unwrap().message().contains("settings.a b")
    );
}

#[test]
fn asked_for_label_queries_the_mask_is_told_beside_a_query_per_label() {
    let host = TestHost::dinov2_small().setting("pooling", "label_queries");
    let task = host.task(Marked, &manifest("\"scalars\"")).unwrap();
    let names: Vec<String> = task.context().parameters().into_keys().collect();
    assert_eq!(names, ["head.bias", "head.scalars", "head.weight", "queries", "scalars.mean", "scalars.std"]);
}

#[test]
fn asked_for_no_pooling_the_logits_are_linear_in_what_the_mask_says() {
    let host = TestHost::dinov2_small().setting("pooling", "none");
    let all = "\"scalars\", \"details\", \"cover\"";
    let task = host.task(Marked, &manifest(all)).unwrap();
    let context = task.context();
    let names: Vec<String> = context.parameters().into_keys().collect();
    assert_eq!(names, ["head.bias", "head.weight", "scalars.mean", "scalars.std"]);
    let n = MASK_SCALARS.len() + MASK_DETAILS.len();
    assert_eq!(context.parameters()["head.weight"].values.len(), 2 * (n + 384));
    let weight: Vec<f32> = (0..2 * (n + 384)).map(|i| 0.01 * ((i * 37 % 11) as f32 - 5.0)).collect();
    context.set("head.weight", &weight).unwrap();
    context.set("head.bias", &[0.5, -0.25]).unwrap();
    context.set("scalars.mean", &vec![0.1; n]).unwrap();
    context.set("scalars.std", &vec![0.5; n]).unwrap();
    let views = task.views(3, [2, 2], "a case").unwrap();
    let (s, c) = (
        views[0].mask_scalars().unwrap().to_vec().unwrap(),
        views[0].mask_cover().unwrap().to_vec().unwrap(),
    );
    let t = views[0].patch_tokens.to_vec().unwrap();
    let output = task.head(&views).unwrap();
    let total = c.iter().sum::<f32>();
    let mut inputs: Vec<f32> = s.iter().map(|s| ((s - 0.1) / 0.5).clamp(-5.0, 5.0)).collect();
    inputs.extend((0..384).map(|i| (0..12).map(|r| c[r] / total * t[r * 384 + i]).sum::<f32>() * 0.1));
    let found = output.logits.to_vec().unwrap();
    for (label, bias) in [0.5, -0.25].into_iter().enumerate() {
        let row = &weight[label * (n + 384)..(label + 1) * (n + 384)];
        let expected = bias + row.iter().zip(&inputs).map(|(w, x)| w * x).sum::<f32>();
        assert!((found[label] - expected).abs() < 1e-4, "{} is not {expected}", found[label]);
    }
    let told = output.embedding.unwrap().to_vec().unwrap();
    assert!(told.iter().zip(&inputs).all(|(a, b)| (a - b).abs() < 1e-5));
    let slices = output.slice_weights[0].to_vec().unwrap();
    let expected: Vec<f32> = c.chunks_exact(4).map(|c| c.iter().sum::<f32>() / total).collect();
    assert!(
        slices.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
        "{slices:?}, expected {expected:?}"
    );
}

#[test]
fn without_pooling_and_without_a_mask_there_is_nothing_to_read() {
    let host = TestHost::dinov2_small().setting("pooling", "none");
    let error = host.task(Marked, &manifest("")).err().unwrap();
    assert!(error.message().contains("needs mask_features"), "{error}");
}
