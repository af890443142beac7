//! Values that parse and still make no sense are refused here, each with its key.

use crate::{ANY_FAMILY, Fit, Intensity, LOSSES_BY_KIND, Manifest, ManifestError, Place, TaskKind, View};

fn refuse<T>(
    key: impl Into<String>,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Result<T, ManifestError> {
    let (key, found, expected) = (key.into(), found.into(), expected.into());
    Err(ManifestError::Value { place: Place::default(), key, found, expected })
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && (2..=64).contains(&name.len())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Manifest {
    /// Refuses views whose region or channels make no sense: for a host that changed them.
    ///
    /// # Errors
    /// The key, what stands there, what could.
    pub fn check_views(&self) -> Result<(), ManifestError> {
        for (i, view) in self.views.iter().enumerate() {
            let key = |k: &str| format!("view[{i}].{k}");
            view.check_region(&key)?;
            view.check_channels(&key)?;
        }
        Ok(())
    }
}

pub(crate) fn check(m: &Manifest) -> Result<(), ManifestError> {
    if !is_name(&m.plugin.name) {
        return refuse(
            "plugin.name",
            format!("`{}`", m.plugin.name),
            "2 to 64 of a-z, 0-9 and _, a letter first",
        );
    }
    if m.plugin.intended_use.trim().is_empty() {
        return refuse(
            "plugin.intended_use",
            "empty",
            "a sentence that says what the results may be used for",
        );
    }
    check_task(m)?;
    if m.backbone.families.is_empty() {
        return refuse("backbone.families", "empty", "at least one family, for example [\"dinov2\"]");
    }
    if m.backbone.families.len() > 1 && m.backbone.families.iter().any(|f| f == ANY_FAMILY) {
        return refuse(
            "backbone.families",
            format!("{:?}", m.backbone.families),
            "names of families, or [\"any\"] alone",
        );
    }
    if m.views.is_empty() {
        return refuse("view", "no view", "at least one [[view]]");
    }
    (0..m.views.len()).try_for_each(|i| check_view(&m.views[i], &m.views[..i]))?;
    crate::settings::check(m)?;
    m.check_views()
}

/// `before`: the views that stand before it.
fn check_view(view: &View, before: &[View]) -> Result<(), ManifestError> {
    let key = |k: &str| format!("view[{}].{k}", before.len());
    if !is_name(&view.name) {
        return refuse(key("name"), format!("`{}`", view.name), "2 to 64 of a-z, 0-9 and _, a letter first");
    }
    if before.iter().any(|v| v.name == view.name) {
        return refuse(key("name"), format!("`{}` twice", view.name), "a name of its own for each view");
    }
    match (view.slices, view.slice_spacing_mm) {
        (Some(n), None) if (1..=4096).contains(&n) => {}
        (None, Some(mm)) if mm.is_finite() && mm > 0.0 => {}
        (Some(n), None) => return refuse(key("slices"), n.to_string(), "1 to 4096"),
        (None, Some(mm)) => {
            return refuse(key("slice_spacing_mm"), mm.to_string(), "a length in mm above 0");
        }
        (Some(_), Some(_)) => {
            return refuse(key("slices"), "both `slices` and `slice_spacing_mm`", "one of the two");
        }
        (None, None) => {
            return refuse(key("slices"), "neither `slices` nor `slice_spacing_mm`", "one of the two");
        }
    }
    if view.size.iter().any(|&n| !(1..=4096).contains(&n)) {
        return refuse(key("size"), format!("{:?}", view.size), "[rows, columns], each 1 to 4096");
    }
    match (view.fit, view.spacing_mm) {
        (Fit::Spacing, None) => {
            return refuse(key("spacing_mm"), "missing", "the pixel size in mm, as fit = \"spacing\" needs");
        }
        (Fit::Spacing, Some(mm)) if !(mm.is_finite() && mm > 0.0) => {
            return refuse(key("spacing_mm"), mm.to_string(), "a length in mm above 0");
        }
        (Fit::Square | Fit::Stretch, Some(_)) => {
            return refuse(key("spacing_mm"), "set", "no value: only fit = \"spacing\" reads it");
        }
        _ => {}
    }
    if let Some([from, to]) =
        view.crop.iter().flatten().find(|[from, to]| !(0.0 <= *from && from < to && *to <= 1.0))
    {
        return refuse(
            key("crop"),
            format!("[{from}, {to}]"),
            "[from, to] for each of left to right, posterior to anterior, inferior to superior: 0 <= from < to <= 1",
        );
    }
    if let Some(series) = &view.series {
        series.check(&key("series"))?;
    }
    check_intensity(&view.intensity, key)
}

fn check_intensity(intensity: &Intensity, key: impl Fn(&str) -> String) -> Result<(), ManifestError> {
    match intensity {
        Intensity::Window { windows } => {
            if windows.len() != 1 && windows.len() != 3 {
                return refuse(
                    key("intensity.windows"),
                    format!("{} windows", windows.len()),
                    "1 (grey) or 3 (channels)",
                );
            }
            if let Some(w) = windows.iter().find(|w| !(w[0].is_finite() && w[1].is_finite() && w[0] < w[1])) {
                return refuse(key("intensity.windows"), format!("{w:?}"), "[low, high] with low < high");
            }
        }
        Intensity::Percentile { low, high, .. } => {
            if !(0.0 <= *low && low < high && *high <= 100.0) {
                return refuse(
                    key("intensity"),
                    format!("percentiles {low} and {high}"),
                    "0 <= low < high <= 100",
                );
            }
        }
    }
    Ok(())
}

fn check_task(m: &Manifest) -> Result<(), ManifestError> {
    let task = &m.task;
    let n = task.labels.len();
    match task.kind {
        TaskKind::Ordinal if n != 1 => {
            return refuse("task.labels", format!("{n} labels"), "one label for an ordinal task");
        }
        TaskKind::Regression if n < 1 => return refuse("task.labels", "no label", "one label or more"),
        TaskKind::Binary if n != 1 => {
            return refuse("task.labels", format!("{n} labels"), "one label for a binary task");
        }
        TaskKind::Multiclass if n < 2 => {
            return refuse("task.labels", format!("{n} classes"), "two classes or more");
        }
        TaskKind::Multilabel if n < 1 => return refuse("task.labels", "no label", "one label or more"),
        _ => {}
    }
    task.check_range()?;
    for (i, label) in task.labels.iter().enumerate() {
        if label.trim().is_empty() || label.contains([',', '\n', '"']) {
            return refuse(
                format!("task.labels[{i}]"),
                format!("`{label}`"),
                "text without comma, quote or line break: it heads a table's column",
            );
        }
        if task.labels[..i].contains(label) {
            return refuse(
                format!("task.labels[{i}]"),
                format!("`{label}` twice"),
                "a name of its own for each label",
            );
        }
    }
    if !(0.0..=1.0).contains(&task.threshold) {
        return refuse("task.threshold", task.threshold.to_string(), "a probability, 0 to 1");
    }
    if let Some(mm) = task.smallest_mm.filter(|mm| !(mm.is_finite() && *mm > 0.0)) {
        return refuse("task.smallest_mm", mm.to_string(), "a diameter in mm above 0");
    }
    if !task.kind.takes(task.loss.kind) {
        return refuse(
            "task.loss.kind",
            format!("{:?} for a {:?} task", task.loss.kind, task.kind),
            LOSSES_BY_KIND,
        );
    }
    if !(task.loss.gamma.is_finite() && task.loss.gamma >= 0.0) {
        return refuse("task.loss.gamma", task.loss.gamma.to_string(), "0 or more");
    }
    if !(0.0..=1.0).contains(&task.loss.alpha) {
        return refuse(
            "task.loss.alpha",
            task.loss.alpha.to_string(),
            "0 to 1: the weight of the positive class",
        );
    }
    let weights = &task.loss.class_weights;
    let n = task.outputs();
    if !weights.is_empty() && (weights.len() != n || weights.iter().any(|w| !(w.is_finite() && *w >= 0.0))) {
        return refuse(
            "task.loss.class_weights",
            format!("{weights:?}"),
            format!("{n} weights of 0 or more, one per output"),
        );
    }
    Ok(())
}
