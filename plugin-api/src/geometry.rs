//! Where the slices of a view lie in the patient: what a head needs that reads distances, not numbers of slices.

use crate::abi::types::{ErrorCode, ViewId};
use crate::error::{Error, Result};
use crate::head::ViewFeatures;
use crate::tensor::{Host, plain};

/// The ABI version that brought slice positions.
const SINCE: &str = "1.1";

/// Where a view's slices and tokens lie.
///
/// Coordinates are in RAS: x to the patient's right, y to the front, z to the head, in millimetres, by the scan's affine.
/// A host makes a geometry for every view of a case; a plugin's test may make it by hand.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SliceGeometry {
    /// `[S]`, mm: the coordinate of each slice's centre along the axis that the view cuts (axial: z, coronal: y,
    /// sagittal: x), in the order of the slices.
    pub positions_mm: Vec<f64>,
    /// `[S][3]`, mm: the centre of each slice.
    pub centres_mm: Vec<[f64; 3]>,
    /// mm between neighbouring tokens along slices, rows and columns.
    pub token_spacing_mm: [f64; 3],
}

impl SliceGeometry {
    /// From positions `[S]`, centres `[S][3]`, and the distance of neighbouring tokens along slices, rows and columns; all
    /// in mm.
    pub fn new(positions_mm: Vec<f64>, centres_mm: Vec<[f64; 3]>, token_spacing_mm: [f64; 3]) -> Self {
        Self { positions_mm, centres_mm, token_spacing_mm }
    }

    /// Axial slices at equal distances, centred on the origin: for tests, and for uses without a scan.
    ///
    /// ```
    /// # use anymc3d_plugin_api::SliceGeometry;
    /// let geometry = SliceGeometry::evenly_spaced(3, [5.0, 14.0, 14.0]);
    /// assert_eq!(geometry.positions_mm, [-5.0, 0.0, 5.0]);
    /// assert_eq!(geometry.centres_mm[2], [0.0, 0.0, 5.0]);
    /// ```
    pub fn evenly_spaced(slices: usize, token_spacing_mm: [f64; 3]) -> Self {
        let middle = (slices as f64 - 1.0) / 2.0;
        let positions: Vec<f64> = (0..slices).map(|i| (i as f64 - middle) * token_spacing_mm[0]).collect();
        let centres = positions.iter().map(|&z| [0.0, 0.0, z]).collect();
        Self::new(positions, centres, token_spacing_mm)
    }

    /// The same slices in another order: slice `i` of the result is slice `order[i]` of this.
    ///
    /// # Panics
    /// When an index is beyond the slices.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        Self {
            positions_mm: order.iter().map(|&i| self.positions_mm[i]).collect(),
            centres_mm: order.iter().map(|&i| self.centres_mm[i]).collect(),
            token_spacing_mm: self.token_spacing_mm,
        }
    }
}

/// Where a view's geometry comes from.
#[derive(Clone)]
pub(crate) enum GeometrySource {
    /// Nobody told.
    Unknown,
    /// Given by hand, in a test.
    Given(SliceGeometry),
    /// The host has it; without an id the host is older than positions, or called without them.
    Host(Host, Option<ViewId>),
}

impl ViewFeatures {
    /// The same features with a geometry: for tests that call a head by hand.
    #[must_use]
    pub fn with_geometry(mut self, geometry: SliceGeometry) -> Self {
        self.geometry = GeometrySource::Given(geometry);
        self
    }

    /// `[S]`, mm: RAS coordinate of each slice's centre along the axis that the view cuts, increasing with the slices.
    ///
    /// In an oblique scan neighbours differ by less than [`Self::token_spacing_mm`]`[0]`: use [`Self::slice_centres_mm`]
    /// there. Augmentation moves the content of slices, not their positions.
    ///
    /// # Errors
    /// On a host of ABI 1.0 (the error names the version that is needed); on features without a geometry.
    pub fn slice_positions_mm(&self) -> Result<Vec<f32>> {
        let found = self.of_geometry(
            "slice_positions",
            |geometry| geometry.positions_mm.clone(),
            |host, view| Some(plain(host.ops.slice_positions()?(host.context, view)).map(Into::into)),
        )?;
        Ok(found.into_iter().map(|mm| mm as f32).collect())
    }

    /// `[S][3]`, RAS mm: the centre of each slice. Padding at the edges of an image counts as image.
    ///
    /// # Errors
    /// As [`Self::slice_positions_mm`].
    pub fn slice_centres_mm(&self) -> Result<Vec<[f32; 3]>> {
        let found = self.of_geometry(
            "slice_centres",
            |geometry| geometry.centres_mm.concat(),
            |host, view| Some(plain(host.ops.slice_centres()?(host.context, view)).map(Into::into)),
        )?;
        Ok(found.as_chunks().0.iter().map(|centre| centre.map(|mm| mm as f32)).collect())
    }

    /// mm between neighbouring tokens along slices, rows and columns: a patch's height and width are the last two.
    ///
    /// # Errors
    /// As [`Self::slice_positions_mm`].
    pub fn token_spacing_mm(&self) -> Result<[f32; 3]> {
        let found = self.of_geometry(
            "token_spacing",
            |geometry| geometry.token_spacing_mm.to_vec(),
            |host, view| Some(plain(host.ops.token_spacing()?(host.context, view)).map(Into::into)),
        )?;
        match found[..] {
            [slices, rows, columns] => Ok([slices, rows, columns].map(|mm| mm as f32)),
            _ => Err(Error::msg(format!("token_spacing: {} numbers from the host, expected 3", found.len()))),
        }
    }

    fn of_geometry(
        &self,
        name: &str,
        given: impl Fn(&SliceGeometry) -> Vec<f64>,
        asked: impl Fn(&Host, ViewId) -> Option<Result<Vec<f64>>>,
    ) -> Result<Vec<f64>> {
        let without =
            || Error::new(ErrorCode::INVALID, format!("{name}: view `{}` has no geometry", self.name));
        match &self.geometry {
            GeometrySource::Unknown => Err(without()),
            GeometrySource::Given(geometry) => Ok(given(geometry)),
            GeometrySource::Host(host, view) => {
                needed(host, name)?;
                asked(host, view.ok_or_else(without)?).unwrap_or_else(|| Err(host.too_old(name, SINCE)))
            }
        }
    }
}

/// Refuses a host that knows nothing of slice positions.
pub(crate) fn needed(host: &Host, name: &str) -> Result<()> {
    // The three functions came together.
    host.ops.slice_positions().map(drop).ok_or_else(|| host.too_old(name, SINCE))
}
