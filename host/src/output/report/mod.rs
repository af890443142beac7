//! `report.html`: one page per case and plugin that a person reads, without a network: answer, scan with heat in three planes,
//! what was done to the scan, versions and digests.

mod base64;
mod page;
mod preparation;
mod sections;
mod viewer;
mod volume;

use super::evidence::preview;
use super::writer::{ResultParts, ResultWriter, WriterSpec};
use crate::engine::result::CaseResult;
use crate::scan::dicom::{Patient, ResultSource};
use base64::base64;
use page::escaped;
use sections::Sections;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;

const REPORT: &str = "report.html";
/// The viewer of three planes, for a page of another program: it defines `showScans`.
pub const VIEWER_SCRIPT: &str = include_str!("viewer.js");
/// The style of the report and of the viewer.
pub const REPORT_STYLE: &str = include_str!("style.css");
/// All of the report's script, as its policy names it.
const SCRIPT: &str = concat!(include_str!("viewer.js"), include_str!("start.js"));
/// Bytes of a voxel while a report is made: the scan and the heat on its grid, their numbers and their text.
const OF_A_VOXEL: usize = 16;
/// The case's name stands between these, so that a renamed case is renamed here.
const NAME: [&str; 2] = ["<b id=\"case\">", "</b>"];

/// Writes `report.html`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReportWriter {
    keep_identity: bool,
}

impl ReportWriter {
    /// With `keep_identity` the page of a DICOM study shows the patient's name, id, birth date and sex.
    pub fn new(keep_identity: bool) -> Self {
        Self { keep_identity }
    }

    /// The writer of a spec; `None` for another writer's.
    pub(super) fn of_spec(spec: &WriterSpec) -> Option<Self> {
        let keep_identity = spec.options.get("keep_identity").and_then(serde_json::Value::as_bool);
        (spec.name == "report").then_some(Self { keep_identity: keep_identity.unwrap_or(false) })
    }

    fn patient(self, parts: &ResultParts<'_>) -> Option<Patient> {
        let first = parts.evidence.first().filter(|_| self.keep_identity)?;
        ResultSource::of(&first.read.scan.path).ok().flatten().map(|source| source.series.patient())
    }
}

impl ResultWriter for ReportWriter {
    fn spec(&self) -> WriterSpec {
        let options = serde_json::json!({ "keep_identity": self.keep_identity });
        WriterSpec { name: "report".into(), options }
    }

    fn needs_evidence(&self) -> bool {
        true
    }

    fn bytes_per_voxel(&self) -> usize {
        OF_A_VOXEL
    }

    fn write(&self, parts: &ResultParts<'_>, result: &mut CaseResult, folder: &Path) -> Result<(), String> {
        result.files.report = Some(REPORT.to_owned());
        let page = page_of(parts, result, self.patient(parts).as_ref())?;
        std::fs::write(folder.join(REPORT), page).map_err(|e| format!("{REPORT} cannot be written ({e})"))
    }
}

/// The whole page.
fn page_of(
    parts: &ResultParts<'_>,
    result: &CaseResult,
    patient: Option<&Patient>,
) -> Result<String, String> {
    let hash = |text: &str| base64(&Sha256::digest(text.as_bytes()));
    let title = format!("{} {}", result.plugin.name, result.plugin.version);
    let viewer = viewer::viewer(parts, result)?;
    let montage = match parts.evidence.is_empty() {
        true => None,
        // The name stands in the text, where a renamed case is renamed.
        false => Some(base64(&preview(result, parts.evidence, "", super::montage)?)),
    };
    let mut page = String::with_capacity(viewer.data.len() + (2 << 20));
    // Nothing is fetched, and no script runs but this page's own.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'sha256-{}'; \
         script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>{REPORT_STYLE}</style>\n</head>\n<body>\n",
        hash(REPORT_STYLE),
        hash(SCRIPT),
        escaped(&title)
    );
    let sections = Sections { parts, result, patient };
    page += "<a class=\"skip\" href=\"#answer\">To the answer</a>\n";
    page += &sections.header(NAME);
    page += "<main>\n";
    page += &sections.answer();
    page += &sections.slices();
    page += &viewer.section;
    page += &sections.montage(montage.as_deref());
    page += &sections.warnings();
    page += &sections.preparation();
    page += &sections.provenance();
    page += "</main>\n";
    page += &sections.footer();
    page += &viewer.data;
    let _ = write!(page, "<script>{SCRIPT}</script>\n</body>\n</html>\n");
    Ok(page)
}

/// Puts another name for the case into a report that lies in `folder`, if one does.
///
/// # Errors
/// One line without the folder's name.
pub(crate) fn rename_in_report(folder: &Path, name: &str) -> Result<(), String> {
    let place = folder.join(REPORT);
    if !place.is_file() {
        return Ok(());
    }
    let unwritable = |e: std::io::Error| format!("{REPORT} cannot be written ({e})");
    let page = std::fs::read_to_string(&place).map_err(unwritable)?;
    let begin = page.find(NAME[0]).map(|at| at + NAME[0].len());
    let Some((begin, end)) = begin.and_then(|b| Some((b, b + page[b..].find(NAME[1])?))) else {
        return Ok(());
    };
    std::fs::write(place, [&page[..begin], &escaped(name), &page[end..]].concat()).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_case_is_renamed_in_its_report() {
        let folder = tempfile::tempdir().unwrap();
        rename_in_report(folder.path(), "x").unwrap();
        let place = folder.path().join(REPORT);
        std::fs::write(&place, format!("a {}scan{} b</b>", NAME[0], NAME[1])).unwrap();
        rename_in_report(folder.path(), "scan<1>").unwrap();
        let page = std::fs::read_to_string(&place).unwrap();
        assert_eq!(page, "a <b id=\"case\">scan&lt;1&gt;</b> b</b>");
    }

    #[test]
    fn the_script_and_the_style_cannot_end_their_elements() {
        assert!(!SCRIPT.contains("</") && !REPORT_STYLE.contains("</"));
        assert!(!SCRIPT.contains("http") && !REPORT_STYLE.contains("url("), "nothing comes from a network");
    }

    #[test]
    fn a_writer_is_made_again_from_its_spec() {
        for keep in [true, false] {
            let made = ReportWriter::of_spec(&ReportWriter::new(keep).spec()).unwrap();
            assert_eq!(made.keep_identity, keep);
        }
        assert!(ReportWriter::of_spec(&WriterSpec::named("preview")).is_none());
    }
}
