//! A scan as Python gives it: the path of a file or folder, or voxels with their affine.

use crate::errors;
use anymc3d_host::engine::{Case, CaseData};
use anymc3d_host::memory::copied;
use anymc3d_host::scan::{Affine, Scan};
use numpy::{PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a case's scans come from.
#[derive(FromPyObject)]
pub enum Source<'py> {
    /// Voxels `[x, y, z]`, and voxel index → RAS mm, row by row.
    Voxels(PyReadonlyArray3<'py, f32>, [[f64; 4]; 4]),
    /// What the readers read.
    Path(PathBuf),
}

/// A scan without Python's memory in it.
pub enum Given {
    Voxels(Vec<f32>, [usize; 3], Affine),
    Path(PathBuf),
}

impl Source<'_> {
    /// Copies the voxels, the first axis fastest.
    pub fn take(self) -> PyResult<Given> {
        let (array, affine) = match self {
            Self::Path(path) => return Ok(Given::Path(path)),
            Self::Voxels(array, affine) => (array, affine),
        };
        let shape = [array.shape()[0], array.shape()[1], array.shape()[2]];
        let fortran = array.as_array();
        let fortran = fortran.t();
        let refuse = errors::of::<String>("UsageError");
        let values = fortran.as_slice().ok_or_else(|| refuse("voxels: expected Fortran order".to_owned()))?;
        let voxels = copied(values).map_err(|e| errors::raised("ScanError", e))?;
        Ok(Given::Voxels(voxels, shape, Affine(affine)))
    }
}

/// A case whose scans may be in memory.
pub struct GivenCase {
    pub case: Case,
    scans: Vec<(PathBuf, Scan)>,
    masks: Vec<(PathBuf, Scan)>,
}

impl GivenCase {
    /// `image` serves every view that `views` does not name. Scans in memory are called `name`, `name/VIEW` and `name/mask`.
    pub fn new(
        name: &str,
        image: Option<Given>,
        views: BTreeMap<String, Given>,
        mask: Option<Given>,
        point_mm: Option<[f64; 3]>,
    ) -> PyResult<Self> {
        let mut given = Self {
            case: Case { name: name.to_owned(), ..Case::default() },
            scans: Vec::new(),
            masks: Vec::new(),
        };
        let scan = |path: &PathBuf, voxels, shape, affine| {
            Scan::from_voxels(path, voxels, shape, affine).map_err(errors::of("ScanError"))
        };
        let own = PathBuf::from(name);
        given.case.image = match image {
            None => None,
            Some(Given::Path(path)) => Some(path),
            Some(Given::Voxels(voxels, shape, affine)) => {
                given.scans.push((own.clone(), scan(&own, voxels, shape, affine)?));
                Some(own.clone())
            }
        };
        for (view, source) in views {
            let path = match source {
                Given::Path(path) => path,
                Given::Voxels(voxels, shape, affine) => {
                    let path = own.join(&view);
                    given.scans.push((path.clone(), scan(&path, voxels, shape, affine)?));
                    path
                }
            };
            given.case.views.insert(view, path);
        }
        given.case.region.point_mm = point_mm;
        given.case.region.mask = match mask {
            None => None,
            Some(Given::Path(path)) => Some(path),
            Some(Given::Voxels(voxels, shape, affine)) => {
                let path = own.join("mask");
                given.masks.push((path.clone(), scan(&path, voxels, shape, affine)?));
                Some(path)
            }
        };
        Ok(given)
    }

    /// Puts copies of the scans that are in memory into `data`; the last engine that asks takes them.
    pub fn fill(&mut self, data: &mut CaseData, last: bool) -> PyResult<()> {
        let scans = if last { std::mem::take(&mut self.scans) } else { self.scans.clone() };
        let masks = if last { std::mem::take(&mut self.masks) } else { self.masks.clone() };
        for (path, scan) in scans {
            data.put_scan(&path, scan).map_err(errors::of("ScanError"))?;
        }
        masks.into_iter().for_each(|(path, mask)| data.put_mask(&path, mask));
        Ok(())
    }
}
