//! Checks of the head and the branch in inference: shapes, views, extremes, order, repeats, threads, nonsense.

use super::Findings;
use super::plugin_under_test::{Numbers, PluginUnderTest, Tokens, call, grid, mask_of, random_init};
use crate::task::{Task, as_plugins_see};
use anymc3d_manifest::{ANY_FAMILY, Manifest};
use anymc3d_plugin_api::BackboneInfo;
use candle_core::Tensor;
use std::collections::BTreeMap;

type Done = Result<(), String>;

/// What a head tells must make sense in itself; shapes and finite numbers are checked at the boundary.
fn sensible(n: &Numbers) -> Result<String, String> {
    let sums = |what: &str, w: &[f32]| {
        let sum: f32 = w.iter().sum();
        let negative = w.iter().any(|v| *v < -1e-6);
        if negative || (sum - 1.0).abs() > 1e-3 {
            return Err(format!(
                "{what} that sum to {sum:.4}{}",
                if negative { ", some negative" } else { "" }
            ));
        }
        Ok(())
    };
    n.slice_weights.iter().try_for_each(|w| sums("slice weights", w))?;
    n.view_weights.iter().try_for_each(|w| sums("view weights", w))?;
    let told = if n.slice_weights.is_empty() { "no slice weights" } else { "slice weights" };
    Ok(format!("logits [{}], {told}", n.logits.len()))
}

fn branch(task: &Task, views: &[Tokens], patch: usize) -> Result<String, String> {
    for v in views {
        let logits = task.segmentation_logits(&v.view()).map_err(|e| e.to_string())?;
        let (slices, h, w) = (v.class.dims()[0], v.grid.0 * patch, v.grid.1 * patch);
        match *logits.dims() {
            [s, a, b] if s == slices && a > 0 && b > 0 && h % a == 0 && w % b == 0 => {}
            ref other => {
                return Err(format!(
                    "mask logits of shape {other:?}, expected [{slices}, a, b] where a divides {h} and b {w}"
                ));
            }
        }
        let values = crate::plugin::ops::read(&logits).map_err(|e| crate::device::one_line(&e))?;
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(format!("mask logits with {bad}"));
        }
    }
    Ok("mask logits".to_owned())
}

/// Head, and branch where there is one.
fn both(task: &Task, views: &[Tokens], patch: usize) -> Result<String, String> {
    let head = sensible(&call(task, views).map_err(|e| e.to_string())?)?;
    if !task.has_segmentation() {
        return Ok(head);
    }
    Ok(format!("{head}, {}", branch(task, views, patch)?))
}

pub(super) fn shapes(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let (task, _) = subject.ready()?;
    let manifest = subject.manifest_of()?;
    let (patch, d) = (subject.backbone.info().patch_size, subject.backbone.info().embed_dim);
    let outputs = manifest.task.outputs();
    for slices in [1, 2, 31] {
        for (extra, size) in [((0, 0), "the manifest's size"), ((2, 3), "a larger image, not square")] {
            let views: Vec<Tokens> = manifest
                .views
                .iter()
                .map(|v| {
                    let (h, w) = grid(v, patch);
                    let (h, w) = (h + extra.0, w + extra.1);
                    let mask = mask_of(v, slices, h * w);
                    Tokens { mask, ..Tokens::random_init(&v.name, slices, (h, w), d, 3) }
                })
                .collect();
            findings.compare_runs(
                format!("{slices} slices, {size}"),
                format!("logits [{outputs}], weights that sum to 1"),
                both(&task, &views, patch),
            );
        }
    }
    Ok(())
}

pub(super) fn views(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let (task, _) = subject.ready()?;
    let manifest = subject.manifest_of()?;
    let patch = subject.backbone.info().patch_size;
    let optional: Vec<String> =
        manifest.views.iter().filter(|v| !v.required).map(|v| v.name.clone()).collect();
    if manifest.views.len() == 1 || optional.is_empty() {
        findings.skip("views that may be missing", "the manifest has none");
        return Ok(());
    }
    for missing in &optional {
        let views = subject.tokens(&manifest, 4, 5, |v| v.name != *missing);
        findings.compare_runs(
            format!("without view {missing}"),
            "an answer from the others",
            both(&task, &views, patch),
        );
    }
    let views = subject.tokens(&manifest, 4, 5, |v| v.required);
    if optional.len() > 1 && !views.is_empty() {
        findings.compare_runs(
            "with the required views alone",
            "an answer from them",
            both(&task, &views, patch),
        );
    }
    for alone in optional.iter().filter(|_| manifest.views.iter().all(|v| !v.required)) {
        let views = subject.tokens(&manifest, 4, 5, |v| v.name == *alone);
        findings.compare_runs(
            format!("with view {alone} alone"),
            "an answer from it",
            both(&task, &views, patch),
        );
    }
    Ok(())
}

/// Widths at which the vision transformers of the supported families come: S, B, L.
const SIZES: [(usize, usize); 3] = [(384, 12), (768, 12), (1024, 24)];

pub(super) fn backbones(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let manifest = subject.manifest_of()?;
    let ours = as_plugins_see(subject.backbone.info());
    let least = manifest.backbone.min_embed_dim;
    let mut sizes: Vec<(usize, usize)> = SIZES.into_iter().filter(|(d, _)| *d >= least).collect();
    // The smallest one that it says it can live in, if that is none of these.
    if least > 0 && !sizes.iter().any(|(d, _)| *d == least) {
        sizes.insert(0, (least, ours.blocks));
    }
    let named = manifest.backbone.families.first().filter(|family| *family != ANY_FAMILY);
    let family = named.unwrap_or(&ours.family).clone();
    for (embed_dim, blocks) in sizes {
        let heads = (embed_dim / 64).max(1);
        let info = BackboneInfo::new(&*family, embed_dim, blocks, heads, ours.patch_size);
        let mut tried = || -> Result<String, String> {
            let task = subject.build_on(&info, random_init(BTreeMap::new()), true)?;
            let views: Vec<Tokens> = manifest
                .views
                .iter()
                .map(|v| {
                    let (h, w) = grid(v, info.patch_size);
                    let mask = mask_of(v, 2, h * w);
                    Tokens { mask, ..Tokens::random_init(&v.name, 2, (h, w), embed_dim, 7) }
                })
                .collect();
            both(&task, &views, info.patch_size)
        };
        findings.compare_runs(
            format!("{family} of width {embed_dim} with {blocks} blocks"),
            "it is built and answers: the manifest says that it fits",
            tried(),
        );
    }
    Ok(())
}

/// What is done to tokens.
type Change = fn(&Tensor) -> candle_core::Result<Tensor>;

pub(super) fn extremes(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let (task, views) = subject.ready()?;
    let patch = subject.backbone.info().patch_size;
    let cases: [(&str, Change); 4] = [
        ("every slice alike", |t| t.narrow(0, 0, 1)?.broadcast_as(t.shape())?.contiguous()),
        ("tokens of 0", Tensor::zeros_like),
        ("tokens a thousand times as large", |t| t * 1e3),
        ("tokens a millionth as large", |t| t * 1e-6),
    ];
    for (what, change) in cases {
        let views: Vec<Tokens> = views.iter().map(|v| v.map(change)).collect::<Result<_, _>>()?;
        findings.compare_runs(what, "finite numbers", both(&task, &views, patch));
    }
    Ok(())
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn same(a: &Numbers, b: &Numbers) -> Result<String, String> {
    if a == b {
        return Ok("the same, to the bit".to_owned());
    }
    Err(format!("{:?}, then {:?}: off by {}", a.logits, b.logits, worst(&a.logits, &b.logits)))
}

pub(super) fn repeatable(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let (task, views) = subject.ready()?;
    let manifest = subject.manifest_of()?;
    let ask = |task: &Task, views: &[Tokens]| call(task, views).map_err(|e| e.to_string());
    let expected = "the same answer";
    let first = ask(&task, &views)?;
    findings.compare_runs(
        "the same case twice",
        expected,
        ask(&task, &views).and_then(|again| same(&first, &again)),
    );
    let other = subject.tokens(&manifest, 9, 23, |_| true);
    let after = ask(&task, &other).and_then(|_| ask(&task, &views));
    findings.compare_runs(
        "with another case in between",
        expected,
        after.and_then(|again| same(&first, &again)),
    );
    let (fresh, _) = subject.ready()?;
    findings.compare_runs("built anew", expected, ask(&fresh, &views).and_then(|again| same(&first, &again)));
    let moved = worst(&first.logits, &ask(&task, &other)?.logits);
    let outcome =
        if moved > 0.0 { Ok("it does".to_owned()) } else { Err(format!("always {:?}", first.logits)) };
    findings.compare_runs("another case", "another answer", outcome);
    other_patches(&task, (&manifest, &views), &first, findings)
}

/// Whether the head reads patch tokens, beside what its views say.
fn other_patches(
    task: &Task,
    (manifest, views): (&Manifest, &[Tokens]),
    first: &Numbers,
    findings: &mut Findings,
) -> Done {
    let class_alone = manifest.views.iter().all(|v| v.tokens == anymc3d_manifest::Tokens::Class);
    let zeros = |v: &Tokens| Ok(Tokens { patch: v.patch.zeros_like()?, ..v.map(|t| Ok(t.clone()))? });
    let views: Vec<Tokens> = views
        .iter()
        .map(zeros)
        .collect::<Result<_, Box<dyn std::error::Error>>>()
        .map_err(|e| e.to_string())?;
    let blind = call(task, &views).map_err(|e| e.to_string())?;
    let tried = "patch tokens of 0";
    if class_alone {
        let expected = "the same answer: the manifest says `tokens = \"class\"`";
        findings.compare_runs(tried, expected, same(first, &blind));
    } else if blind == *first {
        findings.note(
            tried,
            "the same answer: with `tokens = \"class\"` in its views most of the last block need not be computed",
        );
    }
    Ok(())
}

pub(super) fn slice_order(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let (task, views) = subject.ready()?;
    let promised = subject.manifest_of()?.task.permutation_invariant;
    let backwards = |t: &Tensor| {
        let n = t.dims()[0] as u32;
        let order = Tensor::from_vec((0..n).rev().collect(), n as usize, t.device())?;
        t.index_select(&order, 0)
    };
    let turned: Vec<Tokens> = views.iter().map(|v| v.map(backwards)).collect::<Result<_, _>>()?;
    let ask = |views: &[Tokens]| call(&task, views).map_err(|e| e.to_string());
    let (a, b) = (ask(&views)?, ask(&turned)?);
    let scale = a.logits.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let moved = worst(&a.logits, &b.logits);
    let free = moved <= 1e-4 * scale;
    let found = if free {
        "it does not matter".to_owned()
    } else {
        format!("it matters: the logits move by {moved}")
    };
    let tried = "slices backwards";
    if promised {
        let outcome = if free { Ok(found) } else { Err(found) };
        findings.compare_runs(tried, "the same logits: the manifest says `permutation_invariant`", outcome);
        // Their weights must go with the slices.
        let along = |(a, b): (&Vec<f32>, &Vec<f32>)| {
            let b: Vec<f32> = b.iter().rev().copied().collect();
            worst(a, &b)
        };
        let off = a.slice_weights.iter().zip(&b.slice_weights).map(along).fold(0.0, f32::max);
        let outcome = if off <= 1e-4 { Ok("they do".to_owned()) } else { Err(format!("off by {off}")) };
        findings.compare_runs("their weights", "go with the slices", outcome);
    } else {
        findings.note(tried, format!("{found} (the manifest promises nothing)"));
    }
    Ok(())
}

pub(super) fn threads(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let (task, _) = subject.ready()?;
    let manifest = subject.manifest_of()?;
    // Each thread has a case of its own, so that what one leaves in the other's way shows.
    let cases: Vec<Vec<Tokens>> =
        (0..4).map(|i| subject.tokens(&manifest, 3 + i, 40 + i as u64, |_| true)).collect();
    let ask = |views: &[Tokens]| call(&task, views).map_err(|e| e.to_string());
    let alone: Vec<Numbers> = cases.iter().map(|views| ask(views)).collect::<Result<_, _>>()?;
    let together = std::thread::scope(|scope| {
        let threads: Vec<_> = cases
            .iter()
            .zip(&alone)
            .map(|(views, alone): (&Vec<Tokens>, &Numbers)| {
                let ask = &ask;
                scope.spawn(move || (0..8).try_for_each(|_| same(alone, &ask(views)?).map(drop)))
            })
            .collect();
        let joined = threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("panicked".to_owned())));
        joined.collect::<Result<Vec<()>, String>>()
    });
    let outcome = together.map(|_| "the same, to the bit".to_owned());
    findings.compare_runs("four cases in four threads at once", "each as it is alone", outcome);
    Ok(())
}

pub(super) fn nonsense(subject: &mut PluginUnderTest, findings: &mut Findings) -> Done {
    let (task, views) = subject.ready()?;
    let before = task.live_handles();
    let wider = |t: &Tensor| Tensor::cat(&[t, &t.narrow(t.rank() - 1, 0, 1)?], t.rank() - 1);
    let strangers: Vec<Tokens> = views
        .iter()
        .map(|v| Ok(Tokens { name: "no_such_view".to_owned(), ..v.map(|t| Ok(t.clone()))? }))
        .collect::<Result<_, String>>()?;
    let too_wide: Vec<Tokens> = views.iter().map(|v| v.map(wider)).collect::<Result<_, _>>()?;
    for (what, views) in [
        ("no view at all", Vec::new()),
        ("a view that the task does not have", strangers),
        ("tokens of another width", too_wide),
    ] {
        match call(&task, &views) {
            Ok(n) => findings.note(what, format!("was answered: {:?}", n.logits)),
            Err(e) if e.reason.contains(" panicked") => {
                findings.note(what, format!("{e} (caught; an error of its own would read better)"));
            }
            Err(e) => findings.compare_runs(what, "an error, and the process goes on", Ok(e.to_string())),
        }
    }
    let left = task.live_handles().saturating_sub(before);
    let outcome = if left == 0 { Ok("none".to_owned()) } else { Err(format!("{left}")) };
    findings.compare_runs("handles left behind by calls that failed", "none", outcome);
    let (fresh, whole) = subject.ready()?;
    let again = call(&task, &whole).and_then(|a| Ok((a, call(&fresh, &whole)?))).map_err(|e| e.to_string());
    findings.compare_runs(
        "a good case after these",
        "an answer as from a new one",
        again.and_then(|(a, b)| same(&a, &b)),
    );
    Ok(())
}
