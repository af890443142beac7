//! A DICOM input: its studies, and which of their series fill the views of a task.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anymc3d_dicom::{Choice, Orientation, Request, Scan, SequenceHint, Study};
use anymc3d_manifest::{Manifest, Modality, Plane, View};

use super::{Locator, SeriesPick, Start, headers_anew, refused, start};
use crate::scan::VolumeError;

/// The rules of a view, its modality among them, for a series.
///
/// Where the manifest has no rules, the words of the view's name are taken for them: `t1ce` is T1 with contrast.
pub fn request(view: &View) -> Request {
    let mut request = Request::default();
    match view.modality {
        Modality::CT => request.modality.push("CT".into()),
        Modality::MR => request.modality.push("MR".into()),
        Modality::PT => request.modality.push("PT".into()),
        Modality::Any => {}
    }
    let Some(rules) = &view.series else {
        from_name(view, &mut request);
        return request;
    };
    request.body_part = rules.body_parts().map(str::to_owned).collect();
    request.orientation = rules.orientation.map(|plane| match plane {
        Plane::Axial => Orientation::Axial,
        Plane::Coronal => Orientation::Coronal,
        Plane::Sagittal => Orientation::Sagittal,
        Plane::Oblique => Orientation::Oblique,
    });
    request.contrast = rules.contrast;
    request.sequence = rules.sequence.as_deref().and_then(SequenceHint::from_name);
    request.description.clone_from(&rules.description);
    request.min_slices = rules.min_slices.unwrap_or(0);
    request
}

fn from_name(view: &View, request: &mut Request) {
    for word in view.sequence_words() {
        let (sequence, contrast, description) = match word.as_str() {
            "t1" => (Some(SequenceHint::T1), None, None),
            "t1c" | "t1ce" | "t1gd" => (Some(SequenceHint::T1), Some(true), None),
            "t2" => (Some(SequenceHint::T2), None, None),
            "t2star" | "t2s" => (Some(SequenceHint::T2Star), None, None),
            "flair" => (Some(SequenceHint::Flair), None, None),
            "dwi" | "dti" => (Some(SequenceHint::Diffusion), None, None),
            "adc" => (Some(SequenceHint::Adc), None, None),
            "swi" => (Some(SequenceHint::Susceptibility), None, None),
            "pd" => (Some(SequenceHint::ProtonDensity), None, None),
            "stir" => (Some(SequenceHint::Stir), None, None),
            "dce" | "asl" => (Some(SequenceHint::Perfusion), None, None),
            "bold" => (Some(SequenceHint::Functional), None, None),
            "mra" => (Some(SequenceHint::Angiography), None, None),
            "noncontrast" | "unenhanced" => (None, Some(false), None),
            phase => (None, None, Some(phase.to_owned())),
        };
        request.sequence = request.sequence.or(sequence);
        request.contrast = request.contrast.or(contrast);
        request.description = request.description.take().or(description);
    }
}

/// A path that fills one view, with the series that fits the view; a path that holds no DICOM is returned as it is.
///
/// # Errors
/// [`VolumeError::Dicom`]: several studies, or no series fits.
pub fn resolve(path: &Path, view: &View) -> Result<PathBuf, VolumeError> {
    let Some(input) = DicomInput::look(path)? else { return Ok(path.to_path_buf()) };
    let refuse = |found| Err(VolumeError::Dicom { path: path.to_path_buf(), found });
    let &[study] = input.studies().as_slice() else {
        let n = input.scan.studies.len();
        return refuse(format!("{n} studies; name one as PATH#study=1 to {n}, see `host doctor PATH`"));
    };
    let of = &input.scan.studies[study];
    let request = input.request(of, view, &[], &[], &BTreeMap::new());
    let choice = anymc3d_dicom::choose(of, &request).map_err(|e| refused(path, &e))?;
    Ok(Locator::to(&input.root, &input.scan, study, choice.series, choice.stack))
}

/// A path that holds DICOM, its headers read.
pub struct DicomInput {
    /// As typed, without a locator.
    root: PathBuf,
    locator: Locator,
    scan: Arc<Scan>,
}

/// A view's series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewFill {
    /// The view.
    pub view: String,
    /// Where its volume is read from.
    pub path: PathBuf,
    /// One line: what was chosen and by which rules.
    pub why: String,
    /// Rules that the user's own choice breaks.
    pub warnings: Vec<String>,
}

/// A required view that no series of a study fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The view.
    pub view: String,
    /// One line, the reason for each series.
    pub reason: String,
}

impl DicomInput {
    /// Looks at a path, and reads the headers below it anew; `None` where it holds no DICOM.
    ///
    /// # Errors
    /// [`VolumeError::Dicom`]: a DICOM file or zip that is refused, a folder that cannot be walked.
    pub fn look(path: &Path) -> Result<Option<Self>, VolumeError> {
        let locator = Locator::of(path);
        let root = locator.root.clone();
        let scan = match start(&root) {
            Start::Other => return Ok(None),
            Start::Maybe => match headers_anew(&root) {
                Ok(scan) => scan,
                Err(_) => return Ok(None),
            },
            Start::Folder | Start::Dicom => headers_anew(&root)?,
        };
        let any = scan.instances > 0 || !scan.unreadable.is_empty();
        Ok(any.then_some(Self { root, locator, scan }))
    }

    /// The path as typed, without a locator.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the headers say.
    pub fn headers(&self) -> &Scan {
        &self.scan
    }

    /// The studies that the path names, by index: all of them, or the one that its locator has.
    pub fn studies(&self) -> Vec<usize> {
        match self.locator.study {
            Some(n) => (n..=n.min(self.scan.studies.len())).map(|n| n - 1).collect(),
            None => (0..self.scan.studies.len()).collect(),
        }
    }

    /// The series for each view of a task in a study. `picks`: the user's own choice, for a view or (without a name) for
    /// all; it goes before that of the path.
    ///
    /// Views of different scans never get the same series. An optional view that no series fits is left out.
    ///
    /// # Errors
    /// [`Unfit`]: a required view stays empty.
    pub fn fill(
        &self,
        study: usize,
        manifest: &Manifest,
        picks: &[(Option<String>, SeriesPick)],
    ) -> Result<Vec<ViewFill>, Unfit> {
        let of = &self.scan.studies[study];
        let mut chosen: BTreeMap<usize, Choice> = BTreeMap::new();
        let (mut reason, mut unfit) = (BTreeMap::new(), None);
        for i in by_rules(&manifest.views) {
            let view = &manifest.views[i];
            let request = self.request(of, view, picks, &manifest.views, &chosen);
            match anymc3d_dicom::choose(of, &request) {
                Ok(choice) => drop(chosen.insert(i, choice)),
                Err(e) => {
                    if view.required {
                        unfit.get_or_insert(i);
                    }
                    let VolumeError::Dicom { found, .. } = refused(&self.root, &e) else { continue };
                    reason.insert(i, found);
                }
            }
        }
        // A task of optional views alone needs one of them.
        let unfit = unfit.or_else(|| chosen.is_empty().then(|| reason.keys().next().copied()).flatten());
        if let Some(i) = unfit {
            let reason = reason.remove(&i).unwrap_or_default();
            return Err(Unfit { view: manifest.views[i].name.clone(), reason });
        }
        Ok(chosen
            .into_iter()
            .map(|(i, choice)| ViewFill {
                view: manifest.views[i].name.clone(),
                path: Locator::to(&self.root, &self.scan, study, choice.series, choice.stack),
                why: choice.why,
                warnings: choice.warnings,
            })
            .collect())
    }

    fn request(
        &self,
        study: &Study,
        view: &View,
        picks: &[(Option<String>, SeriesPick)],
        views: &[View],
        chosen: &BTreeMap<usize, Choice>,
    ) -> Request {
        let mut request = request(view);
        let named = picks.iter().find(|(name, _)| name.as_ref() == Some(&view.name));
        let pick = named.or_else(|| picks.iter().find(|(name, _)| name.is_none())).map(|(_, pick)| pick);
        if let Some(pick) = pick.or(self.locator.series.as_ref()) {
            request.series = Some(pick.selector(study));
            request.stack = pick.stack;
        }
        let other = |i: &usize| views[*i].is_of_another_scan(view);
        request.taken = chosen
            .iter()
            .filter(|(i, _)| other(i))
            .map(|(_, c)| study.series[c.series].uid.clone())
            .collect();
        request
    }
}

/// Views with more rules choose first: `t1ce` takes the series with contrast before `t1` takes any T1.
fn by_rules(views: &[View]) -> Vec<usize> {
    let rules = |view: &View| {
        let r = request(view);
        let given =
            [r.orientation.is_some(), r.contrast.is_some(), r.sequence.is_some(), r.description.is_some()];
        given.iter().filter(|g| **g).count()
            + usize::from(!r.body_part.is_empty())
            + usize::from(r.min_slices > 0)
    };
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(rules(&views[*i])));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_of_a_manifest_is_one_that_the_reader_knows() {
        for name in anymc3d_manifest::SEQUENCE_NAMES {
            assert!(SequenceHint::from_name(name).is_some(), "{name}");
        }
    }
}
