//! What a task's training cases look like to the backbone, stored with the weights: how far another case is from them.
//!
//! A case is a vector of each view: the mean over the slices of the class token (of families without one, of the patch
//! tokens) as it enters the first block that the task adapts. Frozen blocks made it, so that training cases and others are seen
//! alike: an adapter has learned its training cases by heart. The training cases' vectors are described by a normal
//! distribution whose covariance is of low rank plus the same variance in every other direction (probabilistic principal
//! components: Tipping and Bishop 1999, doi:10.1111/1467-9868.00196), which d numbers for each of a few directions hold:
//!
//! ```text
//! D² = Σᵢ (uᵢ · (x − μ))² / λᵢ + (‖x − μ‖² − Σᵢ (uᵢ · (x − μ))²) / σ²
//! ```
//!
//! D is the Mahalanobis distance of that distribution, with which Lee et al. 2018 (arXiv:1807.03888) find images that a network
//! was not trained for.

use super::site_adapter::TaskSiteAdapter;
use super::task::Task;
use crate::backbone::{BackboneInfo, SiteAdapter};
use serde::{Deserialize, Serialize};

/// Steps of the stored quantiles: 0 %, 0.5 % … 100 %.
pub const STEPS: usize = 200;
/// The quantile beyond which a case is told to be unlike the training cases: 99.5 %.
const OUTSIDE: usize = 199;

/// After how many frozen blocks a view's vector is taken; `None`: after the final norm.
pub fn reference_depth(adapter: &dyn SiteAdapter, blocks: usize) -> Option<usize> {
    let first = if adapter.patch_embed() { 0 } else { adapter.first_block() };
    (1..blocks).contains(&first).then_some(first)
}

/// Where the training cases of a task lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// One per view that enough of the cases had.
    pub views: Vec<ViewReference>,
}

/// Where the training cases of a view lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewReference {
    /// The view's name.
    pub view: String,
    /// The vector is of the tokens after so many frozen blocks. Absent: it is of the class tokens after the final norm, of a task
    /// that adapts no block, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_blocks: Option<usize>,
    /// How many cases it was made of.
    pub cases: usize,
    /// μ `[d]`
    pub mean: Vec<f32>,
    /// uᵢ `[k][d]`, unit vectors, the widest first.
    pub directions: Vec<Vec<f32>>,
    /// λᵢ `[k]`: variance along each.
    pub variances: Vec<f32>,
    /// σ²: variance along every other direction.
    pub residual_variance: f32,
    /// Quantiles `[201]` of the cases' distances, 0 % to 100 % in steps of 0.5 %, each case measured by a distribution that was
    /// fitted without it.
    pub quantiles: Vec<f32>,
}

impl Reference {
    /// The view's part.
    pub fn of_view(&self, view: &str) -> Option<&ViewReference> {
        self.views.iter().find(|v| v.view == view)
    }

    /// Refuses one of another task or backbone, or with impossible values.
    ///
    /// # Errors
    /// One line: what was found, what was expected.
    pub(super) fn check(&self, task: &Task, backbone: &BackboneInfo) -> Result<(), String> {
        let views = &task.manifest().views;
        for view in &self.views {
            let name = &view.view;
            let Some(at) = views.iter().position(|v| v.name == *name) else {
                let names: Vec<&str> = views.iter().map(|v| v.name.as_str()).collect();
                return Err(format!("reference of view `{name}`, expected one of {}", names.join(", ")));
            };
            let expected = reference_depth(&TaskSiteAdapter::new(&task.adapters()[at]), backbone.blocks);
            if view.after_blocks != expected {
                let of = |depth: Option<usize>| {
                    depth.map_or("the final norm".to_owned(), |n| format!("{n} blocks"))
                };
                let (found, expected) = (of(view.after_blocks), of(expected));
                return Err(format!(
                    "reference of view `{name}` after {found}, expected it after {expected}"
                ));
            }
            view.check(backbone.embed_dim).map_err(|e| format!("reference of view `{name}`: {e}"))?;
        }
        Ok(())
    }
}

impl ViewReference {
    fn check(&self, width: usize) -> Result<(), String> {
        let lengths = |v: &Vec<f32>| v.len() == width;
        if !lengths(&self.mean) || !self.directions.iter().all(lengths) {
            return Err(format!("a mean of {} numbers, expected {width}", self.mean.len()));
        }
        if self.variances.len() != self.directions.len() || self.quantiles.len() != STEPS + 1 {
            return Err(format!(
                "{} directions, {} variances and {} quantiles, expected as many variances as directions and {}",
                self.directions.len(),
                self.variances.len(),
                self.quantiles.len(),
                STEPS + 1
            ));
        }
        let variances = self.variances.iter().chain([&self.residual_variance]);
        let positive = variances.into_iter().all(|v| v.is_finite() && *v > 0.0);
        let finite = self.mean.iter().chain(self.directions.iter().flatten()).all(|v| v.is_finite());
        let ascending = self.quantiles.is_sorted() && self.quantiles.iter().all(|q| q.is_finite());
        match positive && finite && ascending {
            true => Ok(()),
            false => Err("numbers that no cases give, expected finite ones, variances above 0, and quantiles that ascend".into()),
        }
    }

    /// D of a vector `[d]`.
    pub fn distance(&self, x: &[f32]) -> f64 {
        let off: Vec<f64> = x.iter().zip(&self.mean).map(|(x, m)| f64::from(*x) - f64::from(*m)).collect();
        let all: f64 = off.iter().map(|v| v * v).sum();
        let (mut within, mut along) = (0.0, 0.0);
        for (direction, variance) in self.directions.iter().zip(&self.variances) {
            let z: f64 = direction.iter().zip(&off).map(|(u, v)| f64::from(*u) * v).sum();
            along += z * z;
            within += z * z / f64::from(*variance);
        }
        // Rounding may take more than there is.
        let beside = (all - along).max(0.0) / f64::from(self.residual_variance);
        (within + beside).sqrt()
    }

    /// The share of the training cases, in percent, that are nearer than a distance; between two quantiles linear.
    pub fn percentile(&self, distance: f64) -> f64 {
        let q = |i: usize| f64::from(self.quantiles[i]);
        let above = self.quantiles.partition_point(|q| f64::from(*q) <= distance);
        let step = 100.0 / STEPS as f64;
        match above {
            0 => 0.0,
            n if n > STEPS => 100.0,
            n => {
                let (low, high) = (q(n - 1), q(n));
                step * ((n - 1) as f64 + (distance - low) / (high - low))
            }
        }
    }

    /// The 99.5th percentile of the training cases' distances.
    pub fn limit(&self) -> f64 {
        f64::from(self.quantiles[OUTSIDE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ViewReference {
        ViewReference {
            view: "axial".to_owned(),
            after_blocks: Some(8),
            cases: 100,
            mean: vec![1.0, 0.0, 0.0],
            directions: vec![vec![0.0, 1.0, 0.0]],
            variances: vec![4.0],
            residual_variance: 0.25,
            quantiles: (0..=STEPS).map(|i| i as f32 / 20.0).collect(),
        }
    }

    #[test]
    fn a_step_counts_by_the_deviation_of_its_direction() {
        let reference = plain();
        assert_eq!(reference.distance(&[1.0, 0.0, 0.0]), 0.0);
        assert_eq!(reference.distance(&[1.0, 2.0, 0.0]), 1.0);
        assert_eq!(reference.distance(&[1.5, 0.0, 0.0]), 1.0);
        assert_eq!(reference.distance(&[1.0, 6.0, 2.0]), 5.0);
    }

    #[test]
    fn percentiles_lie_between_the_quantiles_and_end_at_0_and_100() {
        let reference = plain();
        assert_eq!((reference.percentile(-1.0), reference.percentile(11.0)), (0.0, 100.0));
        assert!((reference.percentile(5.0) - 50.0).abs() < 1e-6);
        assert!((reference.percentile(5.03) - 50.3).abs() < 1e-4);
        assert!((reference.limit() - 9.95).abs() < 1e-6);
    }

    #[test]
    fn what_no_cases_give_is_refused() {
        assert_eq!(plain().check(3), Ok(()));
        assert!(plain().check(4).unwrap_err().contains("a mean of 3 numbers, expected 4"));
        for wrong in [
            ViewReference { residual_variance: 0.0, ..plain() },
            ViewReference { variances: vec![f32::NAN], ..plain() },
            ViewReference { quantiles: plain().quantiles.into_iter().rev().collect(), ..plain() },
            ViewReference { quantiles: vec![], ..plain() },
        ] {
            assert!(wrong.check(3).is_err(), "{wrong:?}");
        }
    }
}
