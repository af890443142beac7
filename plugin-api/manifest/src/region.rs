//! What part of a volume a view keeps, what its channels are, and what it tells the head of a mask.

use crate::{Fit, Intensity, ManifestError, Place, View};
use serde::{Deserialize, Serialize};

/// What part of a volume is kept before it is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// All of it.
    #[default]
    Full,
    /// Bounding box of what is above -500 HU, or above the background in MR.
    Body,
    /// Bounding box of the air inside the body (CT of the chest); falls back to `body`, with a warning, where there is none.
    Lungs,
    /// What lies around the case's mask: its bounding box and `margin_mm`, or `size_mm` around its centroid.
    Mask,
    /// `size_mm` around the case's point, or around its mask's centroid where no point is given.
    Point,
}

/// What the three channels of an image are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// One slice in one window (grey, repeated) or in three.
    #[default]
    Windows,
    /// Three slices in one window: the one `adjacent_mm` before, the slice itself, and the one `adjacent_mm` behind.
    Adjacent,
}

/// What a slice shows of the tissue between it and its neighbours, where the scan has more voxels than the view has slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThroughPlane {
    /// The weighted mean of all of it: nothing between two slices is missed, and small structures are blurred.
    #[default]
    Average,
    /// Nothing of it: the plane itself, linear between the two nearest voxels.
    Linear,
}

impl ThroughPlane {
    /// Whether this is what a view has without the key.
    pub fn is_average(&self) -> bool {
        *self == Self::Average
    }
}

/// What becomes of patches that show only background: the room around the body, and padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// They go through the backbone like all others.
    #[default]
    Keep,
    /// They leave before the first block, also as keys and values: their tokens are 0, and nobody attends to them.
    Drop,
}

/// Which tokens of the last block the head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// Class tokens and patch tokens.
    #[default]
    All,
    /// Class tokens alone: patch tokens are 0, and the last block computes only what the class token needs. A segmentation decoder
    /// has its patch tokens all the same.
    Class,
}

/// Lengths in mm: of a cube, or left to right, posterior to anterior and inferior to superior.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    /// The same along every axis.
    Cube(f64),
    /// Along R, A and S.
    Box([f64; 3]),
}

impl Extent {
    /// mm along R, A and S.
    pub fn mm(self) -> [f64; 3] {
        match self {
            Self::Cube(mm) => [mm; 3],
            Self::Box(mm) => mm,
        }
    }
}

/// What the head is told of the case's mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskFeature {
    /// Six numbers: log volume, mean, standard deviation, 5th and 95th percentile, longest diameter.
    Scalars,
    /// How much of each patch the mask covers.
    Cover,
    /// Twenty-eight more numbers: of the values inside, of core and edge, of rings around the mask, of its shape.
    Details,
}

impl MaskFeature {
    /// As it is written in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalars => "scalars",
            Self::Cover => "cover",
            Self::Details => "details",
        }
    }
}

/// Longest side of a region, mm: longer than any scan.
const MOST_MM: f64 = 4000.0;

impl View {
    /// Whether the view cannot be made without the case's mask.
    pub fn needs_mask(&self) -> bool {
        self.region == Region::Mask || !self.mask_features.is_empty()
    }

    /// Whether the view's pixels depend on the case's mask or point.
    pub fn follows_region(&self) -> bool {
        matches!(self.region, Region::Mask | Region::Point)
    }

    /// Why the view cannot be made of a case with or without a mask and a point; `None` where it can.
    pub fn lacks(&self, mask: bool, point: bool) -> Option<&'static str> {
        match self.region {
            _ if self.needs_mask() && !mask => Some("a mask"),
            Region::Point if !point && !mask => Some("a point or a mask"),
            _ => None,
        }
    }

    pub(crate) fn check_region(&self, key: &dyn Fn(&str) -> String) -> Result<(), ManifestError> {
        let refuse = |k: &str, found: String, expected: &str| {
            Err(ManifestError::Value {
                place: Place::default(),
                key: key(k),
                found,
                expected: expected.to_owned(),
            })
        };
        let length = |mm: f64| mm.is_finite() && mm > 0.0 && mm <= MOST_MM;
        match (self.region, self.margin_mm, self.size_mm) {
            (Region::Mask, None, None) => {
                return refuse(
                    "margin_mm",
                    "missing".into(),
                    "`margin_mm` or `size_mm`, as region = \"mask\" needs",
                );
            }
            (Region::Mask, Some(_), Some(_)) => {
                return refuse("margin_mm", "beside `size_mm`".into(), "one of the two");
            }
            (Region::Point, _, None) => {
                return refuse(
                    "size_mm",
                    "missing".into(),
                    "the region's size in mm, as region = \"point\" needs",
                );
            }
            (Region::Full | Region::Body | Region::Lungs | Region::Point, Some(_), _) => {
                return refuse("margin_mm", "set".into(), "no value: only region = \"mask\" reads it");
            }
            (Region::Full | Region::Body | Region::Lungs, _, Some(_)) => {
                return refuse(
                    "size_mm",
                    "set".into(),
                    "no value: only region = \"mask\" and \"point\" read it",
                );
            }
            _ => {}
        }
        if let Some(mm) = self.margin_mm.filter(|mm| !(*mm == 0.0 || length(*mm))) {
            return refuse("margin_mm", mm.to_string(), "a length in mm, 0 to 4000");
        }
        if let Some(extent) = self.size_mm {
            if let Some(mm) = extent.mm().into_iter().find(|mm| !length(*mm)) {
                return refuse(
                    "size_mm",
                    mm.to_string(),
                    "a length in mm above 0 and up to 4000, or three: [x, y, z]",
                );
            }
            if self.crop.is_some() {
                return refuse("crop", "beside `size_mm`".into(), "no crop: `size_mm` says what is kept");
            }
        }
        let twice = |i: usize| self.mask_features[..i].contains(&self.mask_features[i]);
        if let Some(i) = (0..self.mask_features.len()).find(|&i| twice(i)) {
            let name = self.mask_features[i].name();
            return refuse(
                "mask_features",
                format!("`{name}` twice"),
                "each once: \"scalars\", \"cover\", \"details\"",
            );
        }
        Ok(())
    }

    pub(crate) fn check_channels(&self, key: &dyn Fn(&str) -> String) -> Result<(), ManifestError> {
        let refuse = |k: &str, found: String, expected: &str| {
            Err(ManifestError::Value {
                place: Place::default(),
                key: key(k),
                found,
                expected: expected.to_owned(),
            })
        };
        match (self.channels, self.adjacent_mm) {
            (Channels::Windows, None) => Ok(()),
            (Channels::Windows, Some(_)) => {
                refuse("adjacent_mm", "set".into(), "no value: only channels = \"adjacent\" reads it")
            }
            (Channels::Adjacent, None) => refuse(
                "adjacent_mm",
                "missing".into(),
                "the distance in mm, as channels = \"adjacent\" needs",
            ),
            (Channels::Adjacent, Some(mm)) if !(mm.is_finite() && mm > 0.0 && mm <= 1000.0) => {
                refuse("adjacent_mm", mm.to_string(), "a length in mm above 0 and up to 1000")
            }
            (Channels::Adjacent, Some(_)) => match &self.intensity {
                Intensity::Window { windows } if windows.len() > 1 => refuse(
                    "intensity.windows",
                    format!("{} windows", windows.len()),
                    "one: the channels are adjacent slices",
                ),
                _ => Ok(()),
            },
        }
    }

    /// mm that the image spans along rows and columns, where the region has a fixed size of `extent` mm along them.
    pub fn image_mm(&self, extent: [f64; 2], size: [usize; 2]) -> Option<[f64; 2]> {
        Some(match self.fit {
            Fit::Stretch => extent,
            Fit::Square => [extent[0].max(extent[1]); 2],
            Fit::Spacing => {
                let mm = self.spacing_mm.filter(|mm| *mm > 0.0)?;
                size.map(|n| n as f64 * mm)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Axis;

    fn checked(change: impl Fn(&mut View)) -> Result<(), String> {
        let mut view = View::new("axial", Axis::Axial, 4, [56, 56]);
        change(&mut view);
        view.check_region(&|k| k.to_owned()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_region_by_mask_has_a_margin_or_a_size_and_others_have_neither() {
        assert!(checked(|v| v.region = Region::Mask).unwrap_err().contains("`margin_mm` or `size_mm`"));
        assert_eq!(checked(|v| (v.region, v.margin_mm) = (Region::Mask, Some(0.0))), Ok(()));
        assert_eq!(checked(|v| (v.region, v.size_mm) = (Region::Mask, Some(Extent::Cube(50.0)))), Ok(()));
        assert!(checked(|v| v.region = Region::Point).unwrap_err().contains("size_mm"));
        assert!(checked(|v| v.margin_mm = Some(5.0)).unwrap_err().contains("only region = \"mask\""));
        assert!(checked(|v| v.size_mm = Some(Extent::Cube(5.0))).unwrap_err().contains("only region"));
        let both = |v: &mut View| {
            (v.region, v.margin_mm, v.size_mm) = (Region::Mask, Some(1.0), Some(Extent::Cube(1.0)));
        };
        assert!(checked(both).unwrap_err().contains("one of the two"));
    }

    #[test]
    fn adjacent_slices_have_a_distance_and_one_window() {
        let checked = |change: &dyn Fn(&mut View)| {
            let mut view = View::new("axial", Axis::Axial, 4, [56, 56]);
            change(&mut view);
            view.check_channels(&|k| k.to_owned()).map_err(|e| e.to_string())
        };
        assert!(checked(&|v| v.channels = Channels::Adjacent).unwrap_err().contains("adjacent_mm"));
        assert!(checked(&|v| v.adjacent_mm = Some(2.0)).unwrap_err().contains("only channels"));
        assert_eq!(checked(&|v| (v.channels, v.adjacent_mm) = (Channels::Adjacent, Some(2.0))), Ok(()));
        for mm in [0.0, -2.0, f64::NAN, 1e6] {
            assert!(checked(&|v| (v.channels, v.adjacent_mm) = (Channels::Adjacent, Some(mm))).is_err());
        }
        let three = |v: &mut View| {
            (v.channels, v.adjacent_mm) = (Channels::Adjacent, Some(2.0));
            v.intensity = Intensity::Window { windows: vec![[0.0, 1.0]; 3] };
        };
        assert!(checked(&three).unwrap_err().contains("3 windows"));
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        for mm in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            let cube = |v: &mut View| (v.region, v.size_mm) = (Region::Point, Some(Extent::Cube(mm)));
            assert!(checked(cube).is_err(), "{mm}");
            let flat =
                |v: &mut View| (v.region, v.size_mm) = (Region::Point, Some(Extent::Box([9.0, mm, 9.0])));
            assert!(checked(flat).is_err(), "{mm}");
        }
        assert!(checked(|v| (v.region, v.margin_mm) = (Region::Mask, Some(-1.0))).is_err());
    }

    #[test]
    fn what_a_view_lacks_follows_from_its_region_and_its_features() {
        let mut view = View::new("axial", Axis::Axial, 4, [56, 56]);
        assert_eq!(view.lacks(false, false), None);
        view.region = Region::Point;
        assert_eq!((view.lacks(false, false), view.lacks(true, false)), (Some("a point or a mask"), None));
        view.mask_features = vec![MaskFeature::Scalars];
        assert_eq!((view.lacks(false, true), view.lacks(true, true)), (Some("a mask"), None));
        view.region = Region::Mask;
        assert_eq!(view.lacks(false, true), Some("a mask"));
    }
}
