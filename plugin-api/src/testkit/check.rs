//! What a host asks of every task, tried on one: shapes, gradients, order, learning, leaks.

use super::call::targets;
use super::host::TestHost;
use super::random::Random;
use super::report::{Outcome, Report};
use super::task::Task;
use super::{reach, toy_problem};
use crate::TaskPlugin;
use crate::error::{Error, Result};
use crate::head::{HeadOutput, ViewFeatures};
use crate::loss::Targets;
use crate::mask_features::MaskFeatures;
use crate::tensor::Tensor;
use anymc3d_manifest::TaskKind;

/// Grids of patches: neither square, so that rows and columns cannot be exchanged without being seen.
const GRIDS: [[usize; 2]; 2] = [[3, 4], [4, 2]];

/// Runs all checks on a task: [`Check::new`] with default settings.
///
/// ```
/// # use anymc3d_plugin_api::prelude::*;
/// # struct Probe;
/// # impl TaskPlugin for Probe {
/// #     fn adapter(&self, _: &Build) -> Result<Adapter> { Ok(Adapter::None) }
/// #     fn head(&self, build: &Build) -> Result<Box<dyn Head>> { AttentionPooling::new(build).boxed() }
/// # }
/// # const MANIFEST: &str = "
/// # schema = 1
/// # [plugin]
/// # name = 'probe'
/// # version = '0.1.0'
/// # summary = 'A probe.'
/// # license = 'Apache-2.0'
/// # intended_use = 'Tests.'
/// # [task]
/// # kind = 'binary'
/// # labels = ['finding']
/// # [backbone]
/// # families = ['dinov2']
/// # [[view]]
/// # name = 'axial'
/// # modality = 'CT'
/// # axis = 'axial'
/// # slices = 8
/// # size = [56, 56]
/// # intensity = { kind = 'window', windows = [[-1000, 400]] }
/// # ";
/// // in a plugin's own test: check(MyTask, include_str!("../plugin.toml")).assert()
/// let report = anymc3d_plugin_api::testkit::check(Probe, MANIFEST);
/// report.assert();
/// println!("{report}");
/// ```
pub fn check<P: TaskPlugin>(plugin: P, manifest: &str) -> Report {
    Check::new(plugin, manifest).run()
}

/// A check of a task, and what is wished of it beyond what every host asks.
pub struct Check<P> {
    plugin: P,
    manifest: String,
    host: TestHost,
    any_order: bool,
}

impl<P: TaskPlugin> Check<P> {
    /// `manifest` is the text of `plugin.toml`.
    pub fn new(plugin: P, manifest: &str) -> Self {
        let host = TestHost::dinov2_small();
        Self { plugin, manifest: manifest.to_owned(), host, any_order: false }
    }

    /// Another backbone or seed.
    #[must_use]
    pub fn on(mut self, host: TestHost) -> Self {
        self.host = host;
        self
    }

    /// The head must give the same logits whatever the order of the slices, also where the manifest does not say so
    /// (`permutation_invariant = true`). Without either it is told and not judged.
    #[must_use]
    pub fn slices_in_any_order(mut self) -> Self {
        self.any_order = true;
        self
    }

    /// Tries everything. A part that panics is a finding like any other.
    pub fn run(self) -> Report {
        let Self { plugin, manifest, host, any_order } = self;
        let mut report = Report { plugin: "?".to_owned(), findings: Vec::new() };
        let task = match host.task(plugin, &manifest) {
            Ok(task) => task,
            Err(e) => {
                report.add("manifest and parts", Outcome::Failed, e.to_string());
                return report;
            }
        };
        let about = &task.manifest().plugin;
        report.plugin = format!("{} {}", about.name, about.version);
        report.add("manifest and parts", Outcome::Passed, parts(&task));
        report.add("parameters", Outcome::Told, counts(&task));
        let any_order = any_order || task.manifest().task.permutation_invariant;
        misplaced(&task, &mut report);
        let mut tried = |what, found: Result<String>| match found {
            Ok(seen) => report.add(what, Outcome::Passed, seen),
            Err(e) => report.add(what, Outcome::Failed, e.to_string()),
        };
        tried("shapes for 1, 2 and 31 slices", shapes(&task));
        tried("a missing view", missing_views(&task));
        tried("the same input, the same output", repeated(&task));
        tried("handles given back", leaks(&task));
        tried("finite on constant and on huge input", finite(&task));
        tried("loss", loss(&task));
        if task.has_segmentation() {
            tried("segmentation branch", segmentation(&task));
        }
        match permuted(&task) {
            Err(e) if any_order => report.add("order of the slices", Outcome::Failed, e.to_string()),
            Err(e) => report.add("order of the slices", Outcome::Told, e.to_string()),
            Ok(seen) => report.add("order of the slices", Outcome::Passed, seen),
        }
        let mut tried = |what, found: Result<String>| match found {
            Ok(seen) => report.add(what, Outcome::Passed, seen),
            Err(e) => report.add(what, Outcome::Failed, e.to_string()),
        };
        tried("a gradient for every parameter", reach::gradients(&task));
        tried("the loss falls in training", toy_problem::train(&task));
        tried("dropped without a panic", task.close().map(|()| "no handle left".to_owned()));
        report
    }
}

fn parts(task: &Task) -> String {
    let views = task.manifest().views.len();
    let branch = if task.has_segmentation() { ", a segmentation branch" } else { "" };
    let adapter = match task.first_block(0) {
        None => "no adapter".to_owned(),
        Some(block) => format!("an adapter from block {block} on"),
    };
    format!("{adapter}, a head for {views} view{}{branch}", if views == 1 { "" } else { "s" })
}

fn counts(task: &Task) -> String {
    let (adapter, head, segmentation) = task.parameter_counts();
    format!("adapter {adapter}, head {head}, segmentation {segmentation}")
}

/// Parameters whose names put them into the wrong group of learning rates.
fn misplaced(task: &Task, report: &mut Report) {
    let custom = task.first_block(0).is_some() && task.parameter_counts().0 == 0;
    if custom {
        report.add(
            "names of parameters",
            Outcome::Failed,
            "the adapter has no parameter under `adapter.`: ask for them with `build.params().within(\"adapter\")`, or they are trained and counted as the head's",
        );
    }
}

/// An error that says on what.
fn on<T>(found: Result<T>, what: impl FnOnce() -> String) -> Result<T> {
    found.map_err(|e| Error::new(e.code(), format!("{}: {e}", what())))
}

fn shapes(task: &Task) -> Result<String> {
    for slices in [1, 2, 31] {
        for grid in GRIDS {
            let views = task.views(slices, grid, "shapes")?;
            on(task.head(&views), || format!("{slices} slices of {} x {} patches", grid[0], grid[1]))?;
        }
    }
    let outputs = task.manifest().task.outputs();
    Ok(format!("logits [{outputs}] on {GRIDS:?} patches"))
}

fn missing_views(task: &Task) -> Result<String> {
    let optional: Vec<&str> =
        task.manifest().views.iter().filter(|v| !v.required).map(|v| v.name.as_str()).collect();
    if optional.is_empty() {
        return Ok("all views are required".to_owned());
    }
    for gone in &optional {
        let mut views = task.views(3, GRIDS[0], "missing")?;
        if views.len() < 2 {
            continue;
        }
        views.retain(|v| v.name != *gone);
        on(task.head(&views), || format!("without view `{gone}`"))?;
    }
    Ok(format!("answers without {}", optional.join(", ")))
}

fn numbers(answer: &HeadOutput) -> Result<Vec<f32>> {
    let mut all = answer.logits.to_vec()?;
    for weights in answer.slice_weights.iter().chain(&answer.patch_weights).chain(&answer.view_weights) {
        all.extend(weights.to_vec()?);
    }
    Ok(all)
}

fn repeated(task: &Task) -> Result<String> {
    let views = task.views(4, GRIDS[0], "repeated")?;
    let first = numbers(&task.head(&views)?)?;
    // Something else in between: a head that remembers shows it.
    task.head(&task.views(2, GRIDS[1], "between")?)?;
    let second = numbers(&task.head(&views)?)?;
    match first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits()) && first.len() == second.len() {
        true => Ok("bit for bit".to_owned()),
        false => Err(Error::msg("two calls with the same features gave different answers")),
    }
}

fn leaks(task: &Task) -> Result<String> {
    let context = task.context();
    let views = task.views(2, GRIDS[0], "leaks")?;
    let before = context.live_handles();
    drop(task.head(&views)?);
    let head = context.live_handles() - before;
    if head > 0 {
        return Err(Error::msg(format!("the head keeps {head} more with every call")));
    }
    Ok("none kept by a call".to_owned())
}

fn finite(task: &Task) -> Result<String> {
    for (what, by) in [("all-zero features", 0.0), ("features a thousand times too large", 1000.0)] {
        let views = task.views(3, GRIDS[0], "finite")?;
        let scaled = views.into_iter().map(|v| {
            let ViewFeatures { name, class_tokens, patch_tokens, grid, mask, .. } = v;
            let (class_tokens, patch_tokens) = (class_tokens.scale(by)?, patch_tokens.scale(by)?);
            let geometry = task.geometry(class_tokens.dims()?[0]);
            let features = ViewFeatures::new(name, class_tokens, patch_tokens, grid);
            Ok(features.with_geometry(geometry).with_mask(mask))
        });
        let scaled = scaled.collect::<Result<Vec<_>>>()?;
        on(task.head(&scaled), || what.to_owned())?;
    }
    Ok("logits and weights are numbers".to_owned())
}

fn scalar(what: &str, loss: &Tensor) -> Result<f32> {
    let (dims, values) = (loss.dims()?, loss.to_vec()?);
    match values[..] {
        [v] if v.is_finite() => Ok(v),
        [v] => Err(Error::msg(format!("{what}: {v}"))),
        _ => Err(Error::msg(format!("{what} of shape {dims:?}, expected one number"))),
    }
}

fn loss(task: &Task) -> Result<String> {
    let context = task.context();
    let host = context.host();
    let n = task.manifest().task.outputs();
    for size in [0.0, 30.0, -30.0, 1000.0] {
        let logits: Vec<f32> = (0..n).map(|i| if i % 2 == 0 { size } else { -size }).collect();
        let logits = host.tensor(&logits, &[1, n])?;
        for positive in 0..4 {
            let found = task.loss(&logits, &targets(context, &task.manifest().task, positive)?)?;
            scalar(&format!("loss of logits ±{size}"), &found)?;
        }
    }
    // What is not known is not judged: neither by its value nor by its logit.
    let unknown = |logit: f32, value: f32| -> Result<f32> {
        let mut known = targets(context, &task.manifest().task, 0)?;
        let mut values = known.values.to_vec()?;
        let all = task.manifest().task.kind == TaskKind::Multiclass;
        let (mut is_known, mut logits) = (vec![1.0; n], vec![0.3; n]);
        for i in (0..n).filter(|i| all || *i == 0) {
            (values[i], is_known[i], logits[i]) = (value, 0.0, logit);
        }
        known = Targets::new(host.tensor(&values, &[1, n])?, host.tensor(&is_known, &[1, n])?);
        scalar("loss with an unknown label", &task.loss(&host.tensor(&logits, &[1, n])?, &known)?)
    };
    let (a, b) = (unknown(0.5, 0.0)?, unknown(3.0, 1.0)?);
    if (a - b).abs() > 1e-6 * a.abs().max(1.0) {
        return Err(Error::msg(format!(
            "a label that is not known changes the loss, {a} to {b}: multiply by `targets.known`"
        )));
    }
    Ok("one finite number, unknown labels are left out".to_owned())
}

fn segmentation(task: &Task) -> Result<String> {
    let p = task.backbone().patch_size;
    let context = task.context();
    let mut seen = String::new();
    for slices in [1, 3] {
        for grid in GRIDS {
            let views = task.views(slices, grid, "segmentation")?;
            let (rows, columns) = (grid[0] * p, grid[1] * p);
            for view in &views {
                let before = context.live_handles();
                let logits = task.segmentation_logits(view)?;
                let dims = logits.dims()?;
                match dims[..] {
                    [s, a, b] if s == slices && divides(a, rows) && divides(b, columns) => {}
                    _ => {
                        return Err(Error::msg(format!(
                            "logits {dims:?}, expected [{slices}, a, b] where a divides {rows} and b {columns}"
                        )));
                    }
                }
                if let Some(bad) = logits.to_vec()?.iter().find(|v| !v.is_finite()) {
                    return Err(Error::msg(format!("logits with {bad}")));
                }
                let mut random = Random::named(7, "mask");
                let half: Vec<f32> = (0..slices * rows * columns)
                    .map(|_| f32::from(u8::from(random.uniform() < 0.5)))
                    .collect();
                for (what, mask) in [("an empty mask", vec![0.0; half.len()]), ("a mask", half)] {
                    let mask = context.tensor(&mask, &[slices, rows, columns])?;
                    scalar(&format!("loss of {what}"), &task.segmentation_loss(view, &mask)?)?;
                }
                drop(logits);
                if context.live_handles() > before {
                    return Err(Error::msg("the branch keeps handles with every call"));
                }
                seen = format!("logits {dims:?} for {slices} slices of {rows} x {columns} pixels");
            }
        }
    }
    Ok(seen)
}

fn divides(part: usize, whole: usize) -> bool {
    part > 0 && whole.is_multiple_of(part)
}

fn permuted(task: &Task) -> Result<String> {
    let order = [3, 0, 4, 1, 2];
    let views = task.views(order.len(), GRIDS[0], "order")?;
    let shuffled = views.iter().map(|v| {
        let class_tokens = v.class_tokens.index_select(0, &order)?;
        let patch_tokens = v.patch_tokens.index_select(0, &order)?;
        // A slice takes its place in the patient along.
        let geometry = task.geometry(order.len()).reordered(&order);
        let scalars = v.mask.scalars.as_ref().map(Tensor::try_clone).transpose()?;
        let cover = v.mask.cover.as_ref().map(|c| c.index_select(0, &order)).transpose()?;
        let features = ViewFeatures::new(v.name.as_str(), class_tokens, patch_tokens, v.grid);
        Ok(features.with_geometry(geometry).with_mask(MaskFeatures::new(scalars, cover)))
    });
    let (before, after) = (task.head(&views)?, task.head(&shuffled.collect::<Result<Vec<_>>>()?)?);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs().max(1.0));
    let (a, b) = (before.logits.to_vec()?, after.logits.to_vec()?);
    if !close(&a, &b) {
        return Err(Error::msg(format!("logits depend on the order of the slices, {a:?} to {b:?}")));
    }
    for (a, b) in before.slice_weights.iter().zip(&after.slice_weights) {
        if !close(&a.index_select(0, &order)?.to_vec()?, &b.to_vec()?) {
            return Err(Error::msg("slice weights do not follow the slices"));
        }
    }
    Ok("does not matter".to_owned())
}
