//! Findings as Comprehensive 3D SR by TID 1500 (Measurement Report) of PS3.16.
//!
//! Each finding is a measurement group (TID 1501) with the algorithm (TID 4019), the finding, its probability
//! ((122157, DCM, "Probability"), 0 to 1 without unit), threshold and decision, and the most telling slices.

use super::attribute::*;
use super::body::Body;
use super::code::{Code, OWN_SCHEME, region_of};
use super::encode::DataSet;
use super::functional_groups::{instances, reference};
use super::provenance::{Draft, Kind, Object, Provenance};
use super::source::{PlacedFrame, SourceSeries};
use super::sr_items::{
    AcquisitionContext, ConceptModifier, Contains, ObservationContext, code, container, fill_container,
    image, number, person_name, text, uid_reference,
};
use super::uid::{is_uid, uid_of};
use crate::error::{DicomError, ErrorKind, Result};
use crate::exclusion::OWN_MANUFACTURER;

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.88.34";

/// What is reported about one study.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// At least one.
    pub findings: Vec<Finding>,
    pub algorithm: Algorithm,
    /// `None`: the source's ProcedureCodeSequence, else (363679005, SCT, "Imaging procedure").
    pub procedure: Option<Code>,
    /// `None`: the source's anatomic region or body part, else (38266002, SCT, "Entire body").
    pub target_region: Option<Code>,
    /// Who started the run, where a person stands for it.
    pub person: Option<Person>,
    /// The UID of the installation; `None`: made from the software's name, version and serial number.
    pub device_uid: Option<String>,
}

/// What computed the findings (TID 4019).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Algorithm {
    pub name: String,
    pub version: String,
    /// One text each: settings, digests of weights (`weights sha256 …`).
    pub parameters: Vec<String>,
}

/// A person observer (TID 1003).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// As DICOM writes names: `Family^Given`.
    pub name: String,
    pub organization: Option<String>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Names the finding within the study, such as `lung nodule malignancy`.
    pub tracking_identifier: String,
    /// What was looked for.
    pub finding: Code,
    pub site: Option<Code>,
    /// 0 to 1.
    pub probability: f64,
    /// 0 to 1; from it on the decision is "present".
    pub threshold: Option<f64>,
    /// Present or absent at the threshold.
    pub decision: Option<bool>,
    /// How the probability was calibrated.
    pub calibration: Option<String>,
    pub comment: Option<String>,
    /// Most telling first.
    pub telling: Vec<TellingSlice>,
}

/// A frame of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TellingSlice {
    /// Index into the sources.
    pub source: usize,
    /// Index into [`crate::Volume::frames`].
    pub frame: usize,
}

/// Writes a report. All sources belong to one study; the first one gives patient and study.
///
/// # Errors
/// [`ErrorKind::BadAttribute`] where there is no source or finding, sources belong to different studies, a
/// probability or threshold is not within 0 to 1, a telling slice does not exist, or the device's UID is none.
pub fn structured_report(
    sources: &[&SourceSeries],
    report: &Report,
    origin: &mut Provenance,
) -> Result<Object> {
    check(sources, report)?;
    let first = sources[0];
    let kind = Kind { sop_class: CLASS, modality: "SR", title: "findings", body: Body::None };
    let mut draft = Draft::new(first, origin, &kind);
    let mut content = vec![code(
        ConceptModifier,
        &Code::dcm("121049", "Language of Content Item and Descendants"),
        &Code::new("en", "RFC5646", "English"),
    )];
    content.extend(observers(report, origin));
    content.extend(
        procedures(first, report)
            .iter()
            .map(|procedure| code(ConceptModifier, &Code::dcm("121058", "Procedure reported"), procedure)),
    );
    content.push(library(sources, report));
    let groups = report.findings.iter().map(|f| group(sources, f, &report.algorithm, origin)).collect();
    let measurements = Code::dcm("126010", "Imaging Measurements");
    content.push(container(Contains, &measurements, None, groups));
    let data = &mut draft.data;
    fill_container(data, &Code::dcm("126000", "Imaging Measurement Report"), Some("1500"), content);
    data.empty(ReferencedPerformedProcedureStepSequence)
        .empty(PerformedProcedureCodeSequence)
        .text(CompletionFlag, "COMPLETE")
        .text(VerificationFlag, "UNVERIFIED")
        .text(PreliminaryFlag, "PRELIMINARY")
        .item(CurrentRequestedProcedureEvidenceSequence, evidence(sources))
        .item(
            CodingSchemeIdentificationSequence,
            DataSet::build(|s| {
                s.text(CodingSchemeDesignator, OWN_SCHEME)
                    .text(CodingSchemeName, "Concepts of AnyMC3D that no public scheme has")
                    .text(CodingSchemeResponsibleOrganization, OWN_MANUFACTURER);
            }),
        );
    draft.finish()
}

fn check(sources: &[&SourceSeries], report: &Report) -> Result<()> {
    let bad = |message: String| Err(DicomError::new(ErrorKind::BadAttribute, message));
    let Some(first) = sources.first() else { return bad("a report needs a source series".into()) };
    if let Some(at) = sources.iter().position(|s| s.study_uid != first.study_uid) {
        return bad(format!("source {at} belongs to another study than the first; a report is about one"));
    }
    if report.findings.is_empty() {
        return bad("a report needs a finding".into());
    }
    for finding in &report.findings {
        let named = [("probability", Some(finding.probability)), ("threshold", finding.threshold)];
        for (what, value) in named {
            if let Some(value) = value.filter(|v| !(0.0..=1.0).contains(v)) {
                return bad(format!("the {what} is {value}; 0 to 1 was expected"));
            }
        }
        let missing =
            finding.telling.iter().find(|t| sources.get(t.source).is_none_or(|s| t.frame >= s.frames()));
        if let Some(TellingSlice { source, frame }) = missing {
            return bad(format!("there is no frame {frame} in source {source}"));
        }
    }
    match &report.device_uid {
        Some(uid) if !is_uid(uid) => bad(format!("the device's UID '{uid}' is none")),
        _ => Ok(()),
    }
}

/// TID 1001 with TID 1002: the device, and the person where there is one.
fn observers(report: &Report, origin: &Provenance) -> Vec<DataSet> {
    let observer_type = Code::dcm("121005", "Observer Type");
    let software = &origin.software;
    let uid = report.device_uid.clone().unwrap_or_else(|| {
        uid_of(&format!("device {} {} {}", software.name, software.version, software.serial))
    });
    let mut items = Vec::new();
    if let Some(person) = &report.person {
        items.push(code(ObservationContext, &observer_type, &Code::dcm("121006", "Person")));
        let name = Code::dcm("121008", "Person Observer Name");
        items.push(person_name(ObservationContext, &name, &person.name));
        if let Some(organization) = &person.organization {
            let name = Code::dcm("121009", "Person Observer's Organization Name");
            items.push(text(ObservationContext, &name, organization));
        }
    }
    items.push(code(ObservationContext, &observer_type, &Code::dcm("121007", "Device")));
    items.push(uid_reference(ObservationContext, &Code::dcm("121012", "Device Observer UID"), &uid));
    for (value, meaning, found) in [
        ("121013", "Device Observer Name", software.name.as_str()),
        ("121014", "Device Observer Manufacturer", OWN_MANUFACTURER),
        ("121015", "Device Observer Model Name", software.name.as_str()),
        ("121016", "Device Observer Serial Number", super::provenance::or(&software.serial, "0")),
    ] {
        items.push(text(ObservationContext, &Code::dcm(value, meaning), found));
    }
    items
}

fn procedures(source: &SourceSeries, report: &Report) -> Vec<Code> {
    match (&report.procedure, source.carried.procedure.as_slice()) {
        (Some(given), _) => vec![given.clone()],
        (None, []) => vec![Code::sct("363679005", "Imaging procedure")],
        (None, carried) => carried.to_vec(),
    }
}

/// TID 1600: a group for each source, with what its images share (TID 1602), and the images (TID 1601).
fn library(sources: &[&SourceSeries], report: &Report) -> DataSet {
    let group = |source: &&SourceSeries| {
        let mut items = descriptors(source, report);
        items.extend(instances(&source.frames).into_iter().map(|r| image(Contains, None, r)));
        container(Contains, &Code::dcm("126200", "Image Library Group"), None, items)
    };
    let groups = sources.iter().map(group).collect();
    container(Contains, &Code::dcm("111028", "Image Library"), Some("1600"), groups)
}

fn descriptors(source: &SourceSeries, report: &Report) -> Vec<DataSet> {
    let modality = match source.modality.as_str() {
        "CT" => Code::dcm("CT", "Computed Tomography"),
        "MR" => Code::dcm("MR", "Magnetic Resonance"),
        "PT" => Code::dcm("PT", "Positron emission tomography"),
        "NM" => Code::dcm("NM", "Nuclear Medicine"),
        _ => Code::dcm("OT", "Other Modality"),
    };
    let region = report
        .target_region
        .clone()
        .or_else(|| source.carried.region.clone())
        .or_else(|| source.body_part.as_deref().and_then(region_of))
        .unwrap_or_else(|| Code::sct("38266002", "Entire body"));
    let pixels = Code::new("{pixels}", "UCUM", "pixels");
    let mm = Code::new("mm", "UCUM", "millimeter");
    let count =
        |value, meaning, n: usize| number(AcquisitionContext, &Code::dcm(value, meaning), n as f64, &pixels);
    let length = |value, meaning, v: f64| number(AcquisitionContext, &Code::dcm(value, meaning), v, &mm);
    let mut items = vec![
        code(AcquisitionContext, &Code::dcm("121139", "Modality"), &modality),
        code(AcquisitionContext, &Code::dcm("123014", "Target Region"), &region),
        uid_reference(
            AcquisitionContext,
            &Code::dcm("112227", "Frame of Reference UID"),
            &source.frame_of_reference,
        ),
        count("110910", "Pixel Data Rows", source.rows),
        count("110911", "Pixel Data Columns", source.columns),
    ];
    if let Some(first) = source.frames.first() {
        let [rows, columns] = first.plane.spacing;
        items.push(length("111026", "Horizontal Pixel Spacing", columns));
        items.push(length("111066", "Vertical Pixel Spacing", rows));
    }
    items.push(length("112226", "Spacing between slices", source.gap_mm));
    items.push(length("112225", "Slice Thickness", source.thickness_mm));
    items
}

/// TID 1501.
fn group(
    sources: &[&SourceSeries],
    finding: &Finding,
    algorithm: &Algorithm,
    origin: &mut Provenance,
) -> DataSet {
    let unit = Code::new("1", "UCUM", "no units");
    let tracking = Code::dcm("112039", "Tracking Identifier");
    let mut items = vec![
        text(ObservationContext, &tracking, &finding.tracking_identifier),
        uid_reference(
            ObservationContext,
            &Code::dcm("112040", "Tracking Unique Identifier"),
            &origin.uids.make(),
        ),
        code(Contains, &Code::dcm("121071", "Finding"), &finding.finding),
    ];
    if let Some(site) = &finding.site {
        items.push(code(ConceptModifier, &Code::sct("363698007", "Finding Site"), site));
    }
    items.push(text(ConceptModifier, &Code::dcm("111001", "Algorithm Name"), &algorithm.name));
    items.push(text(ConceptModifier, &Code::dcm("111003", "Algorithm Version"), &algorithm.version));
    for parameter in &algorithm.parameters {
        items.push(text(ConceptModifier, &Code::dcm("111002", "Algorithm Parameters"), parameter));
    }
    items.push(number(Contains, &Code::dcm("122157", "Probability"), finding.probability, &unit));
    if let Some(threshold) = finding.threshold {
        items.push(number(Contains, &Code::dcm("122411", "Threshold Value"), threshold, &unit));
    }
    if let Some(present) = finding.decision {
        let name = Code::new("DECISION", OWN_SCHEME, "Decision at the threshold");
        let value = if present { Code::sct("52101004", "Present") } else { Code::sct("272519000", "Absent") };
        items.push(code(Contains, &name, &value));
    }
    if let Some(calibration) = &finding.calibration {
        items.push(text(Contains, &Code::new("CALIBRATION", OWN_SCHEME, "Calibration"), calibration));
    }
    if let Some(comment) = &finding.comment {
        items.push(text(Contains, &Code::dcm("121106", "Comment"), comment));
    }
    let best = Code::dcm("121080", "Best illustration of finding");
    for at in &finding.telling {
        items.push(image(Contains, Some(&best), reference(&sources[at.source].frames[at.frame])));
    }
    container(Contains, &Code::dcm("125007", "Measurement Group"), Some("1501"), items)
}

/// Every image that the report refers to: study, series, instances.
fn evidence(sources: &[&SourceSeries]) -> DataSet {
    // Two stacks may be of one series.
    let mut series: Vec<(&str, Vec<PlacedFrame>)> = Vec::new();
    for source in sources {
        let frames = source.frames.iter().cloned();
        match series.iter_mut().find(|(uid, _)| *uid == source.series_uid) {
            Some((_, known)) => known.extend(frames),
            None => series.push((&source.series_uid, frames.collect())),
        }
    }
    let item = |(uid, frames): &(&str, Vec<PlacedFrame>)| {
        DataSet::build(|d| {
            d.text(SeriesInstanceUID, uid).items(ReferencedSOPSequence, instances(frames));
        })
    };
    DataSet::build(|d| {
        d.text(StudyInstanceUID, &sources[0].study_uid)
            .items(ReferencedSeriesSequence, series.iter().map(item).collect());
    })
}
