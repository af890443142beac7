//! Tasks that are right pass the check, and each of some planted mistakes is found and named.

use crate::prelude::*;
use crate::testkit::{Check, Outcome, Report, TestHost, check};
use std::sync::Mutex;

fn manifest(views: &[(&str, bool)], kind: &str, labels: &[&str], loss: &str) -> String {
    let labels: Vec<String> = labels.iter().map(|l| format!("\"{l}\"")).collect();
    let mut text = format!(
        "schema = 1\n[plugin]\nname = \"probe\"\nversion = \"0.1.0\"\nsummary = \"A probe.\"\nlicense = \"Apache-2.0\"\n\
         intended_use = \"Tests.\"\n[task]\nkind = \"{kind}\"\nlabels = [{}]\nloss = {{ kind = \"{loss}\" }}\n\
         [backbone]\nfamilies = [\"dinov2\"]\nmin_embed_dim = 384\n",
        labels.join(", ")
    );
    for (name, required) in views {
        text += &format!(
            "[[view]]\nname = \"{name}\"\nmodality = \"CT\"\naxis = \"axial\"\nslices = 4\nsize = [56, 56]\n\
             intensity = {{ kind = \"window\", windows = [[-1000, 400]] }}\nrequired = {required}\n"
        );
    }
    text
}

fn one_view() -> String {
    manifest(&[("axial", true)], "binary", &["finding"], "bce")
}

/// A task made of functions.
struct Parts<A, H, S> {
    adapter: A,
    head: H,
    segmentation: S,
}

impl<A, H, S> TaskPlugin for Parts<A, H, S>
where
    A: Fn(&Build) -> Result<Adapter> + Send + Sync + 'static,
    H: Fn(&Build) -> Result<Box<dyn Head>> + Send + Sync + 'static,
    S: Fn(&Build) -> Result<Option<Box<dyn Segmentation>>> + Send + Sync + 'static,
{
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        (self.adapter)(build)
    }
    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        (self.head)(build)
    }
    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        (self.segmentation)(build)
    }
}

fn no_adapter(_: &Build) -> Result<Adapter> {
    Ok(Adapter::None)
}

fn last_block(build: &Build) -> Result<Adapter> {
    Ok(Lora::paper(build.backbone()).from_block(11).into())
}

fn pooling(build: &Build) -> Result<Box<dyn Head>> {
    AttentionPooling::new(build).boxed()
}

fn no_branch(_: &Build) -> Result<Option<Box<dyn Segmentation>>> {
    Ok(None)
}

fn seen<'a>(report: &'a Report, what: &str) -> (Outcome, &'a str) {
    let found = report.findings.iter().find(|f| f.what == what);
    found.map_or_else(|| panic!("no `{what}` in {report}"), |f| (f.outcome, f.seen.as_str()))
}

#[test]
fn the_papers_adapter_and_head_pass_and_have_the_papers_number_of_parameters() {
    let paper = Parts {
        adapter: |b: &Build| Ok(Lora::paper(b.backbone()).into()),
        head: pooling,
        segmentation: no_branch,
    };
    let report = Check::new(paper, &one_view()).slices_in_any_order().run();
    report.assert();
    // 229,729 in all on a ViT-S/14 (arXiv 2512.12887).
    assert_eq!(seen(&report, "parameters").1, "adapter 228960, head 769, segmentation 0");
}

#[test]
fn the_standard_heads_and_decoders_pass_with_several_views_labels_and_classes() {
    let views =
        manifest(&[("t1", false), ("t2", false)], "multiclass", &["none", "stroke", "cyst"], "cross_entropy");
    let patches = Parts {
        adapter: last_block,
        head: |b: &Build| PatchPooling::new(b).boxed(),
        segmentation: |b: &Build| TokenDecoder::new(b).some(),
    };
    Check::new(patches, &views).slices_in_any_order().run().assert();
    let labels = manifest(&[("axial", true)], "multilabel", &["one", "two", "three"], "focal");
    let volume = Parts {
        adapter: last_block,
        head: pooling,
        segmentation: |b: &Build| VolumeDecoder::with(b, 8, 1).some(),
    };
    check(volume, &labels).assert();
    let evidence = Parts {
        adapter: no_adapter,
        head: |b: &Build| PatchEvidence::new(b).boxed(),
        segmentation: |b: &Build| TokenDecoder::new(b).some(),
    };
    check(evidence, &one_view()).assert();
}

#[test]
fn every_way_of_pooling_passes_and_the_check_tells_which_mind_the_order() {
    for way in Pooling::ALL {
        let task = Parts { adapter: no_adapter, head: pooling, segmentation: no_branch };
        let host = TestHost::dinov2_small().setting("pooling", way.name());
        let report = Check::new(task, &one_view()).on(host).run();
        report.assert();
        let ordered = matches!(way, Pooling::Lstm | Pooling::Transformer);
        let told = seen(&report, "order of the slices").0 == Outcome::Told;
        assert_eq!(told, ordered, "{way:?}\n{report}");
    }
}

/// A head made of a function of the first view.
struct Of<F>(F);

impl<F> Head for Of<F>
where
    F: Fn(&ViewFeatures) -> Result<HeadOutput> + Send + Sync,
{
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        (self.0)(&views[0])
    }
}

fn weight(build: &Build) -> Result<Tensor> {
    build.params().get("head.weight", &[1, build.backbone().embed_dim], Init::trunc_normal(0.02))
}

/// The check of a task with this head; the finding of that name must be the failure.
fn fails<F, G>(what: &str, words: &str, head: F)
where
    F: Fn(&Build) -> Result<G> + Send + Sync + 'static,
    G: Fn(&ViewFeatures) -> Result<HeadOutput> + Send + Sync + 'static,
{
    let head = move |b: &Build| -> Result<Box<dyn Head>> { Ok(Box::new(Of(head(b)?))) };
    let report = Check::new(Parts { adapter: no_adapter, head, segmentation: no_branch }, &one_view())
        .slices_in_any_order()
        .run();
    let (outcome, told) = seen(&report, what);
    assert!(outcome == Outcome::Failed && told.contains(words), "{what}: {words}\n{report}");
}

#[test]
fn planted_mistakes_of_a_head_are_found_and_named() {
    let mean = |w: &Tensor, v: &ViewFeatures| w.matmul(&v.class_tokens.mean(0)?);
    fails("shapes for 1, 2 and 31 slices", "logits of shape [2]", move |b| {
        let w = weight(b)?;
        Ok(move |v: &ViewFeatures| {
            let one = mean(&w, v)?;
            Ok(HeadOutput::new(Tensor::concat(&[&one, &one], 0)?))
        })
    });
    fails("shapes for 1, 2 and 31 slices", "patch weights of shape", move |b| {
        let w = weight(b)?;
        Ok(move |v: &ViewFeatures| {
            // Rows and columns exchanged: only a grid that is not square shows it.
            let s = v.class_tokens.dims()?[0];
            let all = v.class_tokens.host().full(0.0, &[s, v.grid[1], v.grid[0]])?;
            Ok(HeadOutput::new(mean(&w, v)?).patch_weights(all))
        })
    });
    fails("shapes for 1, 2 and 31 slices", "panicked", move |b| {
        let w = weight(b)?;
        Ok(move |v: &ViewFeatures| {
            assert!(v.class_tokens.dims()?[0] > 1, "one slice is too few");
            Ok(HeadOutput::new(mean(&w, v)?))
        })
    });
    fails("a gradient for every parameter", "`forgotten`: none", move |b| {
        let (w, _) = (weight(b)?, b.params().get("forgotten", &[3], Init::ones())?);
        Ok(move |v: &ViewFeatures| Ok(HeadOutput::new(mean(&w, v)?)))
    });
    fails("a gradient for every parameter", "`head.weight`: none", move |b| {
        let w = weight(b)?;
        Ok(move |v: &ViewFeatures| Ok(HeadOutput::new(mean(&w, v)?.detach()?)))
    });
    fails("the same input, the same output", "different answers", move |b| {
        let (w, calls) = (weight(b)?, Mutex::new(0.0));
        Ok(move |v: &ViewFeatures| {
            let mut calls = calls.lock().unwrap();
            *calls += 1.0;
            Ok(HeadOutput::new(mean(&w, v)?.affine(1.0, *calls)?))
        })
    });
    fails("handles given back", "keeps 1 more", move |b| {
        let (w, kept) = (weight(b)?, Mutex::new(Vec::new()));
        Ok(move |v: &ViewFeatures| {
            kept.lock().unwrap().push(v.class_tokens.try_clone()?);
            Ok(HeadOutput::new(mean(&w, v)?))
        })
    });
    fails("finite on constant and on huge input", "logits with", move |b| {
        let w = weight(b)?;
        Ok(move |v: &ViewFeatures| {
            // The norm of an all-zero row is zero.
            let mean = v.class_tokens.mean(0)?;
            let norm = mean.square()?.sum_all()?.sqrt()?;
            Ok(HeadOutput::new(w.matmul(&mean.div(&norm)?)?))
        })
    });
    fails("order of the slices", "depend on the order", move |b| {
        let w = weight(b)?;
        Ok(move |v: &ViewFeatures| {
            Ok(HeadOutput::new(w.matmul(&v.class_tokens.narrow(0, 0, 1)?.flatten()?)?))
        })
    });
}

#[test]
fn an_adapter_whose_parameters_are_named_as_the_heads_is_told() {
    struct Scale(Tensor);
    impl SiteAdapter for Scale {
        fn first_block(&self) -> usize {
            11
        }
        fn apply(&self, site: Site, _: &Tensor, output: Tensor) -> Result<Tensor> {
            match site {
                Site::AttentionOutput(_) => output.mul(&self.0),
                _ => Ok(output),
            }
        }
    }
    let named = |name: &'static str| {
        move |b: &Build| {
            let scale = b.params().get(name, &[b.backbone().embed_dim], Init::ones())?;
            Ok(Adapter::Custom(Box::new(Scale(scale))))
        }
    };
    check(Parts { adapter: named("adapter.scale"), head: pooling, segmentation: no_branch }, &one_view())
        .assert();
    let report =
        check(Parts { adapter: named("scale"), head: pooling, segmentation: no_branch }, &one_view());
    assert_eq!(seen(&report, "names of parameters").0, Outcome::Failed, "{report}");
}

#[test]
fn a_loss_that_judges_unknown_labels_is_found() {
    struct Careless;
    impl TaskPlugin for Careless {
        fn adapter(&self, build: &Build) -> Result<Adapter> {
            no_adapter(build)
        }
        fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
            pooling(build)
        }
        fn loss(&self, _: &Build, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
            crate::loss::binary_cross_entropy(logits, &targets.values)?.mean_all()
        }
    }
    let report = check(Careless, &one_view());
    let (outcome, told) = seen(&report, "loss");
    assert!(outcome == Outcome::Failed && told.contains("targets.known"), "{report}");
}

#[test]
fn a_manifest_that_would_not_compile_and_a_backbone_that_does_not_fit_are_the_first_finding() {
    let task = || Parts { adapter: no_adapter, head: pooling, segmentation: no_branch };
    let unknown = one_view().replace("summary", "sumary");
    assert!(!check(task(), &unknown).passed());
    let wide = one_view().replace("min_embed_dim = 384", "min_embed_dim = 1024");
    let report = check(task(), &wide);
    assert!(report.to_string().contains("1024"), "{report}");
}

#[test]
fn a_head_that_asks_where_slices_lie_is_told_and_one_without_a_geometry_gets_an_error() {
    let asking = Parts {
        adapter: no_adapter,
        head: |b: &Build| -> Result<Box<dyn Head>> {
            b.needs_slice_positions()?;
            let weight =
                b.params().within("head").get("weight", &[1, b.backbone().embed_dim], Init::normal(0.02))?;
            Ok(Box::new(Of(move |v: &ViewFeatures| {
                let mm = v.slice_positions_mm()?;
                assert_eq!(
                    (v.slice_centres_mm()?.len(), v.token_spacing_mm()?),
                    (mm.len(), [5.0, 14.0, 14.0])
                );
                let placed = v.class_tokens.host().tensor(&mm, &[1, mm.len()])?.scale(1e-2)?; // [1, S]
                let pooled = placed.affine(1.0, 1.0)?.matmul(&v.class_tokens)?.flatten()?; // [d]
                Ok(HeadOutput::new(weight.matmul(&pooled)?))
            })))
        },
        segmentation: no_branch,
    };
    let task = TestHost::dinov2_small().task(asking, &one_view()).unwrap();
    let views = task.views(3, [2, 2], "a case").unwrap();
    let logits = |views: &[ViewFeatures]| task.head(views).map(|o| o.logits.to_vec().unwrap()[0]);
    let before = logits(&views).unwrap();
    let far = SliceGeometry::evenly_spaced(3, [5.0, 14.0, 14.0]).reordered(&[2, 1, 0]);
    let [view] = <[ViewFeatures; 1]>::try_from(views).ok().unwrap();
    let elsewhere = [view.with_geometry(far)];
    assert_ne!(logits(&elsewhere).unwrap(), before);
    let [view] = elsewhere;
    let ViewFeatures { name, class_tokens, patch_tokens, grid, .. } = view;
    let without = [ViewFeatures::new(name, class_tokens, patch_tokens, grid)];
    let error = logits(&without).unwrap_err();
    assert_eq!(error.message(), "forward: slice_positions: view `axial` has no geometry");
}

#[test]
fn a_task_for_any_family_is_built_on_every_backbone() {
    let any = one_view().replace("[\"dinov2\"]", "[\"any\"]");
    let other = TestHost::new(BackboneInfo::new("vit_of_tomorrow", 384, 12, 6, 16));
    let parts = || Parts { adapter: no_adapter, head: pooling, segmentation: no_branch };
    assert!(other.task(parts(), &any).is_ok());
    assert!(other.task(parts(), &one_view()).is_err());
    let both = one_view().replace("[\"dinov2\"]", "[\"dinov2\", \"any\"]");
    assert!(other.task(parts(), &both).err().unwrap().message().contains("[\"any\"] alone"));
}
