//! Head and decoder that are asked at a point: where the point is on the token grid, and what a host checks of them.

use crate::prelude::*;
use crate::testkit::{Context, Outcome, check};

struct Asked;

impl TaskPlugin for Asked {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }
    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        PromptPooling::new(build).boxed()
    }
    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        PromptDecoder::new(build).some()
    }
}

const MANIFEST: &str = "schema = 1\n[plugin]\nname = \"probe\"\nversion = \"0.1.0\"\nsummary = \"A probe.\"\n\
    license = \"Apache-2.0\"\nintended_use = \"Tests.\"\n[task]\nkind = \"binary\"\nlabels = [\"a\"]\n\
    loss = { kind = \"bce\" }\n[backbone]\nfamilies = [\"dinov2\"]\n[[view]]\nname = \"axial\"\nmodality = \"CT\"\n\
    axis = \"axial\"\nslices = 4\nsize = [56, 56]\nregion = \"point\"\nsize_mm = 40\n\
    intensity = { kind = \"window\", windows = [[-1000, 400]] }\n";

#[test]
fn a_head_and_a_decoder_that_are_asked_at_a_point_pass_all_that_a_host_checks() {
    let report = check(Asked, MANIFEST);
    let failed = report.findings.iter().find(|f| matches!(f.outcome, Outcome::Failed));
    assert!(failed.is_none(), "{failed:?}");
}

#[test]
fn the_point_lies_in_the_middle_of_the_token_grid_in_mm() {
    let context = Context::new(0);
    let (class, patches) = (context.random("class", &[4, 2]), context.random("patches", &[4, 6, 2]));
    let view = ViewFeatures::new("axial", class.unwrap(), patches.unwrap(), [2, 3])
        .with_geometry(SliceGeometry::evenly_spaced(4, [2.0, 5.0, 7.0]));
    let offsets = view.prompt_offsets_mm().unwrap();
    assert_eq!(offsets.dims().unwrap(), [4, 6, 3]);
    let offsets = offsets.to_vec().unwrap();
    // Slice 0, row 0, column 0; slice 3, row 1, column 1.
    assert_eq!(offsets[..3], [-3.0, -2.5, -7.0]);
    assert_eq!(offsets[(3 * 6 + 4) * 3..][..3], [3.0, 2.5, 0.0]);
    let sum: f32 = offsets.iter().sum();
    assert!(sum.abs() < 1e-4, "as much on one side as on the other: {sum}");
}

#[test]
fn a_view_without_positions_is_an_error_and_not_a_guess() {
    let context = Context::new(0);
    let (class, patches) = (context.random("class", &[4, 2]), context.random("patches", &[4, 6, 2]));
    let view = ViewFeatures::new("axial", class.unwrap(), patches.unwrap(), [2, 3]);
    assert!(view.prompt_offsets_mm().unwrap_err().to_string().contains("has no geometry"));
}
