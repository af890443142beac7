//! Studies, series and their stacks, with the facts by which a series is chosen.

use std::collections::{BTreeMap, HashSet};

use crate::exclusion::{Exclusion, exclusion_of};
use crate::geometry::Orientation;
use crate::headers::{InstanceHeader, MrAcquisition};
use crate::hints::{SequenceHint, contrast_hint, sequence_hint};
use crate::limits::Limits;
use crate::split::{Stack, stacks_of};

/// A PatientID. Its `Debug` does not show it: what is printed ends in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct PatientId(pub(crate) String);

impl PatientId {
    /// The identity itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PatientId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PatientId(hidden)")
    }
}

/// One examination: the unit that becomes a case.
#[derive(Debug, Clone)]
pub struct Study {
    /// StudyInstanceUID; where the files have none their FrameOfReferenceUID, which slices of one scan share; empty
    /// where they have neither. For case ids see [`crate::case_id`].
    pub uid: String,
    /// Identity, for those who ask for it by name.
    pub patient_id: Option<PatientId>,
    /// Free text of the hospital: may hold anything, so it is not for logs.
    pub description: Option<String>,
    /// Series with slices of volumes, by number, then UID.
    pub series: Vec<Series>,
    /// Series without any, and why.
    pub left_out: Vec<LeftOut>,
}

/// A series, or a part of one, that is no volume.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    pub series_uid: String,
    pub series_number: Option<i64>,
    pub modality: String,
    /// Instances of this kind.
    pub instances: usize,
    pub kind: Exclusion,
}

/// One series and the facts that rules of choice look at. Text is as in the first instance by position.
#[derive(Debug, Clone)]
pub struct Series {
    pub uid: String,
    pub number: Option<i64>,
    /// `CT`, `MR`, `PT`, `NM`.
    pub modality: String,
    /// Free text of the hospital.
    pub description: Option<String>,
    pub protocol: Option<String>,
    /// In capitals, as `CHEST`.
    pub body_part: Option<String>,
    /// Of the largest stack.
    pub orientation: Option<Orientation>,
    /// From ContrastBolusAgent, else from words in the description; `None` where neither says.
    pub contrast: Option<bool>,
    /// T1, T2, FLAIR … from the header's numbers or the description.
    pub sequence: Option<SequenceHint>,
    pub acquisition: MrAcquisition,
    pub kernel: Option<String>,
    pub slice_thickness_mm: Option<f64>,
    /// Unit of the values: `HU`, `BQML` …
    pub unit: Option<String>,
    /// Second value of ImageType is SECONDARY, or the first DERIVED.
    pub derived: bool,
    /// What is strange, a sentence each.
    pub oddities: Vec<String>,
    /// At least one; more where positions repeat or orientations differ.
    pub stacks: Vec<Stack>,
    pub(crate) instances: Vec<InstanceHeader>,
}

impl Series {
    /// Number of instances (files) with slices.
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// The stack with most slices among those that are volumes, else among all; the first of several.
    pub fn largest_stack(&self) -> usize {
        let rank = |s: &Stack| (s.geometry.is_ok(), s.slices());
        let most = self.stacks.iter().map(rank).max();
        self.stacks.iter().position(|s| Some(rank(s)) == most).unwrap_or(0)
    }
}

/// Groups instances. The order of files does not matter for the result.
pub(crate) fn studies_of(headers: Vec<InstanceHeader>, limits: &Limits) -> Vec<Study> {
    let mut studies: BTreeMap<String, BTreeMap<(i64, String), Vec<InstanceHeader>>> = BTreeMap::new();
    for header in headers {
        let uid = match header.study_uid.as_str() {
            // Anonymised files without UIDs: two scans in one folder must not become one.
            "" => header.frame_of_reference.clone().unwrap_or_default(),
            uid => uid.to_owned(),
        };
        let study = studies.entry(uid).or_default();
        // Files without a number come last.
        let key = (header.series_number.unwrap_or(i64::MAX), header.series_uid.clone());
        study.entry(key).or_default().push(header);
    }
    let mut out = Vec::with_capacity(studies.len());
    for (uid, series) in studies {
        let mut study =
            Study { uid, patient_id: None, description: None, series: Vec::new(), left_out: Vec::new() };
        for ((_, series_uid), instances) in series {
            let description = instances.iter().find_map(|h| h.study_description.clone());
            study.description = study.description.take().or(description);
            let patient_id = instances.iter().find_map(|h| h.patient_id.clone());
            study.patient_id = study.patient_id.take().or(patient_id);
            add_series(&mut study, series_uid, instances, limits);
        }
        out.push(study);
    }
    out
}

fn add_series(study: &mut Study, uid: String, instances: Vec<InstanceHeader>, limits: &Limits) {
    let mut excluded: BTreeMap<Exclusion, LeftOut> = BTreeMap::new();
    let (mut slices, mut seen, mut repeated) = (Vec::new(), HashSet::new(), 0);
    for header in instances {
        // Bad anonymisers give one UID to all files: only the same slice again is a copy.
        let place =
            header.frames.first().and_then(|f| f.plane.as_ref().ok()).map(|p| p.position.map(f64::to_bits));
        if !header.sop_instance.is_empty()
            && !seen.insert((header.sop_instance.clone(), place, header.instance_number))
        {
            repeated += 1;
            continue;
        }
        match exclusion_of(&header) {
            None => slices.push(header),
            Some(kind) => {
                let left_out = excluded.entry(kind).or_insert_with(|| LeftOut {
                    series_uid: uid.clone(),
                    series_number: header.series_number,
                    modality: header.modality.clone(),
                    instances: 0,
                    kind,
                });
                left_out.instances += 1;
            }
        }
    }
    let mut oddities = Vec::new();
    if repeated > 0 {
        oddities.push(format!("{repeated} files repeat an instance and are ignored"));
    }
    if !slices.is_empty() {
        for left_out in excluded.values() {
            oddities.push(format!(
                "left out of the series: {} × {}",
                left_out.instances,
                left_out.kind.name()
            ));
        }
        // Equal files in another order must give the same series.
        slices
            .sort_by(|a, b| (a.instance_number, &a.sop_instance).cmp(&(b.instance_number, &b.sop_instance)));
        study.series.push(series_of(uid, slices, oddities, limits));
    }
    study.left_out.extend(excluded.into_values());
}

fn series_of(
    uid: String,
    instances: Vec<InstanceHeader>,
    mut oddities: Vec<String>,
    limits: &Limits,
) -> Series {
    let stacks = stacks_of(&instances, limits);
    let first = &instances[0];
    let mut series = Series {
        uid,
        number: first.series_number,
        modality: first.modality.clone(),
        description: first.series_description.clone(),
        protocol: first.protocol.clone(),
        body_part: first.body_part.as_ref().map(|b| b.to_uppercase()),
        orientation: None,
        contrast: contrast_hint(first),
        sequence: sequence_hint(first),
        acquisition: first.acquisition.clone(),
        kernel: first.kernel.clone(),
        slice_thickness_mm: first.slice_thickness_mm,
        unit: first.unit.clone(),
        derived: first.image_type.first().is_some_and(|t| t.eq_ignore_ascii_case("DERIVED"))
            || first.image_type.get(1).is_some_and(|t| t.eq_ignore_ascii_case("SECONDARY")),
        oddities: Vec::new(),
        stacks,
        instances: Vec::new(),
    };
    odd_files(&instances, &mut oddities);
    odd_geometry(&series, &instances, &mut oddities);
    let largest = &series.stacks[series.largest_stack()];
    series.orientation = largest.geometry.as_ref().ok().map(|g| g.orientation);
    series.oddities = oddities;
    series.instances = instances;
    series
}

fn odd_files(instances: &[InstanceHeader], oddities: &mut Vec<String>) {
    let mut count = |what: &str, odd: &dyn Fn(&InstanceHeader) -> bool| {
        let n = instances.iter().filter(|h| odd(h)).count();
        if n > 0 {
            oddities.push(format!("{n} of {} files: {what}", instances.len()));
        }
    };
    for what in [
        "no preamble",
        "no preamble and no DICM",
        "a data set without file meta group",
        "no transfer syntax in the file meta group",
        "the data set is not written as its transfer syntax says",
    ] {
        count(what, &|h| h.oddities.contains(&what));
    }
    count("no StudyInstanceUID", &|h| h.study_uid.is_empty());
    count("burned-in annotation", &|h| h.burned_in_annotation);
    count("lossy compression", &|h| h.lossy);
    count("no rescale in a CT, whose values may not be HU", &|h| {
        h.modality == "CT" && h.frames.iter().any(|f| f.rescale_absent)
    });
    count("a rescale that is refused", &|h| h.frames.iter().any(|f| f.rescale.is_err()));
    count("MONOCHROME1, whose values are not inverted", &|h| {
        h.pixels.as_ref().is_some_and(|p| p.photometric == "MONOCHROME1")
    });
}

fn odd_geometry(series: &Series, instances: &[InstanceHeader], oddities: &mut Vec<String>) {
    if series.stacks.len() > 1 {
        let labels: Vec<String> =
            series.stacks.iter().map(|s| format!("{} ({} slices)", s.label, s.slices())).collect();
        oddities.push(format!("{} stacks: {}", labels.len(), shorten(&labels)));
    }
    for stack in &series.stacks {
        let geometry = match &stack.geometry {
            Ok(geometry) => geometry,
            Err(e) => {
                oddities.push(format!("{}: {}", e.kind, e.without_file()));
                continue;
            }
        };
        oddities.extend(geometry.straightening());
        if geometry.slices == 1 {
            oddities.push("a single slice: its thickness, or 1 mm, stands for the gap".into());
        }
        let gap = geometry.spacing_mm[2];
        if let Some(t) =
            series.slice_thickness_mm.filter(|t| geometry.slices > 1 && (t - gap).abs() > 0.05 * gap)
        {
            oddities.push(format!("slices {t:.2} mm thick every {gap:.2} mm"));
        }
        let stated = instances[stack.frames[0].instance].gantry_tilt_degrees.unwrap_or(0.0);
        if (stated.abs() - geometry.tilt_degrees.abs()).abs() > 1.0 && geometry.slices > 1 {
            oddities.push(format!(
                "the header says a gantry tilt of {stated:.1} degrees, the positions say {:.1}",
                geometry.tilt_degrees
            ));
        }
    }
}

fn shorten(labels: &[String]) -> String {
    match labels {
        [a, b, c, d, rest @ ..] if !rest.is_empty() => format!("{a}; {b}; {c}; {d}; and {} more", rest.len()),
        _ => labels.join("; "),
    }
}
