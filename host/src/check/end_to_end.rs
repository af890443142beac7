//! A whole case: a scan from the disk through preprocessing, backbone, adapter and head, as `host run` does it.

use super::Findings;
use super::plugin_under_test::PluginUnderTest;
use crate::backbone::Precision;
use crate::engine::golden;
use crate::engine::result::CaseResult;
use crate::engine::{Case, Engine};
use crate::plugin::ParameterSource;
use crate::scan::{Affine, RegionOfInterest, write_nifti_f32, write_nifti_u8};
use crate::task::WeightsInfo;
use crate::task::{LoadedTask, as_plugins_see};
use std::path::Path;

/// Voxels of the scan, 6 x 6 x 8 mm each.
const SHAPE: [usize; 3] = [48, 40, 24];

/// Air, a body with two lungs and some texture, in Hounsfield units; where `holes`, every 97th voxel is no number.
fn body(holes: bool) -> Vec<f32> {
    let voxel = |i: usize| {
        let (x, y, z) = (i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1]));
        let lung =
            |from: usize, to: usize| (from..to).contains(&x) && (10..30).contains(&y) && (4..20).contains(&z);
        let texture = (i * 7919 % 60) as f32;
        match () {
            () if holes && i % 97 == 5 => f32::NAN,
            () if lung(10, 20) || lung(28, 38) => -850.0 + texture,
            () if (4..44).contains(&x) && (4..36).contains(&y) => 30.0 + texture,
            () => -1000.0,
        }
    };
    (0..SHAPE.iter().product()).map(voxel).collect()
}

/// A mask of a few voxels in a lung, for plugins that look where one is.
fn finding() -> Vec<u8> {
    let voxel = |i: usize| {
        let (x, y, z) = (i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1]));
        u8::from((13..17).contains(&x) && (18..22).contains(&y) && (10..13).contains(&z))
    };
    (0..SHAPE.iter().product()).map(voxel).collect()
}

pub(super) fn whole_case(subject: &mut PluginUnderTest, findings: &mut Findings) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| format!("no temporary folder ({e})"))?;
    let affine = Affine::aligned([6.0, 6.0, 8.0], [-140.0, -120.0, -90.0]);
    let scan = |name: &str, holes: bool| {
        let path = folder.path().join(name);
        write_nifti_f32(&path, &body(holes), SHAPE, &affine).map_err(|e| e.to_string()).map(|()| path)
    };
    let (plain, holes) = (scan("scan.nii", false)?, scan("nan.nii", true)?);
    let mask = folder.path().join("mask.nii");
    write_nifti_u8(&mask, &finding(), SHAPE, &affine).map_err(|e| e.to_string())?;
    let region = RegionOfInterest { mask: Some(mask), point_mm: None };
    let task = loaded(subject)?;
    let views: Vec<String> = task.task.manifest().views.iter().map(|v| v.name.clone()).collect();
    // An engine owns its backbone.
    let engine = Engine::new(subject.another_backbone()?, Precision::F32, vec![task]);
    let ask = |path: &Path| -> Result<CaseResult, String> {
        // By name: a plugin of several sequences takes no file for all of them.
        let views = views.iter().map(|view| (view.clone(), path.to_owned())).collect();
        let case =
            Case { name: "case".into(), image: None, views, region: region.clone(), ..Case::default() };
        let answer = engine.predict(&case, true).pop().ok_or("no answer")?.map_err(|e| e.to_string())?;
        let numbers = answer.evidence.iter().flat_map(|e| &e.attention);
        match numbers.filter(|v| !v.is_finite()).count() {
            0 => Ok(answer.result),
            n => Err(format!("a heatmap with {n} values that are no numbers")),
        }
    };
    let told = |r: &CaseResult| {
        let all: Vec<String> =
            r.predictions.iter().map(|p| format!("{} {:.3}", p.label, p.probability)).collect();
        format!("{} (before training)", all.join(", "))
    };
    let first = ask(&plain);
    findings.compare_runs(
        "a scan of a body in air",
        "probabilities and a heatmap",
        first.as_ref().map(told).map_err(Clone::clone),
    );
    findings.compare_runs(
        "the same scan with holes of NaN",
        "probabilities and a heatmap",
        ask(&holes).as_ref().map(told).map_err(Clone::clone),
    );
    if let Ok(first) = first {
        let same = ask(&plain).and_then(|again| {
            if again.predictions == first.predictions {
                Ok("the same, to the bit".to_owned())
            } else {
                Err(told(&again))
            }
        });
        findings.compare_runs("the first scan once more", "the same answer", same);
    }
    Ok(())
}

/// Golden cases in `golden/` beside the library, with the trained weights.
pub(super) fn golden(subject: &mut PluginUnderTest, findings: &mut Findings) -> Result<(), String> {
    let folder = subject.path.with_file_name("golden");
    if !folder.is_dir() {
        findings.skip("golden cases", "none: there is no folder `golden` beside the library");
        return Ok(());
    }
    let Some(weights) = subject.weights.clone() else {
        return Err("golden cases were made with trained weights; give them with --weights".to_owned());
    };
    let (backbone, library) = (subject.another_backbone()?, subject.path.display().to_string());
    let task = LoadedTask::open(&library, Some(&weights), backbone.info()).map_err(|e| e.to_string())?;
    let engine = Engine::new(backbone, Precision::F32, vec![task]);
    for case in golden::check(&engine, &folder).map_err(|e| e.to_string())? {
        let outcome = match case.worst {
            None => Ok(format!("largest difference {:.1e}", case.difference)),
            Some(worst) => Err(worst),
        };
        findings.compare_runs(case.file, format!("its author's logits within {}", case.tolerance), outcome);
    }
    Ok(())
}

/// The task as `run` has it, with values that training could have given it, on few slices.
fn loaded(subject: &mut PluginUnderTest) -> Result<LoadedTask, String> {
    let values = subject.values()?;
    let seen = as_plugins_see(subject.backbone.info());
    let few = |slices: &mut anymc3d_manifest::Manifest| {
        for view in &mut slices.views {
            (view.slices, view.slice_spacing_mm) = (Some(4), None);
        }
    };
    let task = subject.build_as(&seen, ParameterSource::Weights(values), few)?.without_segmentation();
    let info = subject.backbone.info();
    let weights_info = WeightsInfo {
        plugin: task.manifest().plugin.name.clone(),
        plugin_version: task.manifest().plugin.version.to_string(),
        backbone: info.name.clone(),
        backbone_fingerprint: info.fingerprint.clone(),
        ..WeightsInfo::default()
    };
    let library = subject.library()?;
    Ok(LoadedTask {
        package: None,
        task,
        library: library.path.clone(),
        library_sha256: library.sha256.clone(),
        weights: Default::default(),
        weights_sha256: String::new(),
        weights_info,
        notices: Vec::new(),
        members: Vec::new(),
    })
}
