//! A result kept without its scan: what heatmap, picture and mask are made of, after the voxels are let go.

use super::evidence::{heat_of, preview};
use super::heatmap::on_scan;
use super::mask::{SegmentationMask, measure};
use super::writer::write_record;
use super::{Heatmap, ViewHeat, montage};
use crate::engine::result::CaseResult;
use crate::engine::{Prediction, ViewEvidence};
use crate::scan::{Affine, Forms, SliceGrid, VolumeError, write_mask, write_planes};
use std::path::Path;
use std::sync::Arc;

/// A view's part of the heatmap.
struct KeptView {
    grid: SliceGrid,
    /// `[S, h, w]`
    heat: Vec<f32>,
    /// h, w
    patches: [usize; 2],
    weight: f32,
}

/// Where a scan's voxels are.
#[derive(Clone, Copy)]
struct Place {
    shape: [usize; 3],
    affine: Affine,
    forms: Forms,
}

/// A result with what its files are made of. It takes less than a megabyte where the scan takes hundreds; only a mask is as
/// large as the scan, a byte per voxel.
pub struct KeptResult {
    /// The record. It names no files: those are written by [`Self::write`].
    pub result: CaseResult,
    views: Vec<KeptView>,
    /// Of the first view's scan; none without evidence.
    place: Option<Place>,
    preview: Option<Vec<u8>>,
    mask: Option<(Vec<u8>, Place)>,
}

impl KeptResult {
    /// Of a prediction, whose scans are let go. A prediction without evidence has neither heatmap nor picture.
    ///
    /// # Errors
    /// One line: logits that do not fit their slices, or a picture that cannot be drawn.
    pub fn of(prediction: Prediction) -> Result<Self, String> {
        let Prediction { mut result, evidence, segmentation } = prediction;
        let place = |read: &crate::engine::ReadScan| Place {
            shape: read.scan.shape,
            affine: read.scan.affine,
            forms: read.scan.forms,
        };
        let mask = segmentation.map(|(read, logits)| measure(&mut result, read, &logits)).transpose()?;
        let mask = mask.map(|SegmentationMask { read, voxels, .. }| (voxels, place(&read)));
        let preview = match evidence.is_empty() {
            true => None,
            false => Some(preview(&result, &evidence, &result.case, montage)?),
        };
        // One grid per heatmap: views of other scans are left out, as the file leaves them out.
        let first = evidence.first().map(|view| view.read.clone());
        let same_scan = |v: &&ViewEvidence| first.as_ref().is_some_and(|first| Arc::ptr_eq(&v.read, first));
        let keep = |v: &ViewEvidence| KeptView {
            grid: v.stack.grid.clone(),
            heat: heat_of(v),
            patches: [v.grid.0, v.grid.1],
            weight: v.view_weight,
        };
        let views = evidence.iter().filter(same_scan).map(keep).collect();
        Ok(Self { result, views, place: first.map(|read| place(&read)), preview, mask })
    }

    /// Voxel → RAS mm of heatmap and mask.
    pub fn affine(&self) -> Option<Affine> {
        self.place.or(self.mask.as_ref().map(|(_, place)| *place)).map(|place| place.affine)
    }

    /// The heatmap on the scan's stored grid, first axis fastest, and its shape; `None` without evidence.
    pub fn heatmap(&self) -> Option<(Vec<f32>, [usize; 3])> {
        Some((on_scan(&self.heats())?, self.place?.shape))
    }

    /// The mask (0 or 1) on the scan's stored grid, first axis fastest, and its shape; `None` where there is none.
    pub fn mask(&self) -> Option<(&[u8], [usize; 3])> {
        self.mask.as_ref().map(|(voxels, place)| (voxels.as_slice(), place.shape))
    }

    /// The picture, as PNG; `None` without evidence.
    pub fn preview(&self) -> Option<&[u8]> {
        self.preview.as_deref()
    }

    fn heats(&self) -> Vec<ViewHeat<'_>> {
        self.views
            .iter()
            .map(|v| ViewHeat { grid: &v.grid, heat: &v.heat, patches: v.patches, weight: v.weight })
            .collect()
    }

    /// Writes what `host run --out` writes into a case's folder: `result.json`, heatmap, picture and mask as far as they were
    /// kept; the record then names them.
    ///
    /// # Errors
    /// One line without the folder's name.
    pub fn write(&mut self, folder: &Path) -> Result<(), String> {
        let told = |name: &str, e: VolumeError| match e {
            VolumeError::Write { source, .. } => format!("{name} cannot be written ({source})"),
            other => other.to_string(),
        };
        if let Some(place) = self.place {
            let heatmap = Heatmap::of(&self.heats()).ok_or("heatmap: the slices do not fit their scan")?;
            let plane = |z: usize, values: &mut [f32]| heatmap.add(z, values);
            write_planes(
                &folder.join("heatmap.nii.gz"),
                heatmap.shape(),
                &place.forms,
                heatmap.most(),
                plane,
            )
            .map_err(|e| told("heatmap.nii.gz", e))?;
            self.result.files.heatmap = Some("heatmap.nii.gz".to_owned());
        }
        if let Some(png) = &self.preview {
            std::fs::write(folder.join("preview.png"), png)
                .map_err(|e| format!("preview.png cannot be written ({e})"))?;
            self.result.files.preview = Some("preview.png".to_owned());
        }
        if let Some((voxels, place)) = &self.mask {
            write_mask(&folder.join("segmentation.nii.gz"), voxels, place.shape, &place.forms)
                .map_err(|e| told("segmentation.nii.gz", e))?;
            self.result.files.segmentation = Some("segmentation.nii.gz".to_owned());
        }
        write_record(&self.result, folder)
    }
}
