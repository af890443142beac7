//! Which views one scan may serve together, and which need a file each.

use crate::{Manifest, Modality, View};
use std::collections::BTreeSet;

/// Words in a view's name that say which sequence, or which contrast phase, its scan is of.
const SEQUENCES: [&str; 27] = [
    "t1",
    "t1c",
    "t1ce",
    "t1gd",
    "t2",
    "t2star",
    "t2s",
    "flair",
    "dwi",
    "adc",
    "dti",
    "swi",
    "pd",
    "stir",
    "dce",
    "asl",
    "bold",
    "mra",
    "noncontrast",
    "unenhanced",
    "arterial",
    "venous",
    "portal",
    "delayed",
    "nephrographic",
    "inphase",
    "outphase",
];

impl View {
    /// Whether the two views are of different scans, so that a single file cannot be both.
    ///
    /// They are if their modalities differ, if their names contain different sequences (`t1`, `flair_sagittal`), or if they
    /// differ only in name: a single file would then give the same pixels twice. Views that differ in axis, or in how a
    /// scan is cut and scaled, come from the same scan.
    pub fn is_of_another_scan(&self, other: &View) -> bool {
        let modalities = [self.modality, other.modality];
        if modalities[0] != modalities[1] && !modalities.contains(&Modality::Any) {
            return true;
        }
        // Each names the series that it wants: one series is not both.
        if self.series.is_some() && other.series.is_some() && self.series != other.series {
            return true;
        }
        let (ours, theirs) = (sequences(&self.name), sequences(&other.name));
        if !ours.is_empty() && !theirs.is_empty() && ours != theirs {
            return true;
        }
        let (name, required) = (self.name.clone(), self.required);
        View { name, required, ..other.clone() } == *self
    }

    /// The words of its name that say a sequence or a contrast phase, in lower case: `t1_axial` has `t1`.
    pub fn sequence_words(&self) -> BTreeSet<String> {
        sequences(&self.name)
    }
}

impl Manifest {
    /// Of the views that one file would serve, those that it cannot serve together; none where it can.
    pub fn views_of_other_scans(&self, served: impl Fn(&View) -> bool) -> Vec<&View> {
        let served: Vec<&View> = self.views.iter().filter(|view| served(view)).collect();
        let apart = |view: &&View| served.iter().any(|o| o.name != view.name && view.is_of_another_scan(o));
        served.iter().copied().filter(apart).collect()
    }
}

/// The sequences that a name tells; `t1w` is `t1`.
fn sequences(name: &str) -> BTreeSet<String> {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_lowercase);
    let plain = words.map(|word| match word.strip_suffix('w') {
        Some(weighted) if SEQUENCES.contains(&weighted) => weighted.to_owned(),
        _ => word,
    });
    plain.filter(|word| SEQUENCES.contains(&word.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use crate::{Axis, Fit, Intensity, Modality, Region, View};

    fn view(name: &str, axis: Axis) -> View {
        View {
            name: name.to_owned(),
            modality: Modality::MR,
            axis,
            slices: Some(4),
            slice_spacing_mm: None,
            size: [56, 56],
            fit: Fit::Square,
            spacing_mm: None,
            region: Region::Body,
            intensity: Intensity::Percentile { low: 0.5, high: 99.5, nonzero: true },
            ..View::new("v", Axis::Axial, 1, [1, 1])
        }
    }

    #[test]
    fn views_that_differ_in_their_name_alone_are_of_different_scans() {
        let (a, b) = (view("first", Axis::Axial), view("second", Axis::Axial));
        assert!(a.is_of_another_scan(&b) && b.is_of_another_scan(&a));
        let optional = View { required: false, ..b };
        assert!(a.is_of_another_scan(&optional));
    }

    #[test]
    fn views_that_differ_in_axis_or_in_how_a_scan_is_cut_share_one() {
        let axial = view("axial", Axis::Axial);
        for other in [
            view("sagittal", Axis::Sagittal),
            view("t1_sagittal", Axis::Sagittal),
            View { region: Region::Full, ..view("whole", Axis::Axial) },
            View { crop: Some([[0.0, 0.5], [0.0, 1.0], [0.0, 1.0]]), ..view("left", Axis::Axial) },
            View {
                intensity: Intensity::Window { windows: vec![[-160.0, 240.0]] },
                ..view("soft", Axis::Axial)
            },
            View { modality: Modality::Any, ..view("any", Axis::Coronal) },
        ] {
            assert!(!axial.is_of_another_scan(&other) && !other.is_of_another_scan(&axial), "{other:?}");
        }
    }

    #[test]
    fn names_of_sequences_tell_scans_apart_whatever_else_differs() {
        let of = |a: &str, b: &str| view(a, Axis::Axial).is_of_another_scan(&view(b, Axis::Sagittal));
        assert!(of("t1", "flair") && of("t1_axial", "T2w_sagittal") && of("ct_arterial", "ct_venous"));
        assert!(!of("t1_axial", "t1w_sagittal") && !of("t1", "sagittal") && !of("left", "right"));
        let pet = View { modality: Modality::PT, ..view("pet", Axis::Coronal) };
        assert!(pet.is_of_another_scan(&view("mr", Axis::Axial)));
    }
}
