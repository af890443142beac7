//! `--mask` and `--point`: where plugins look whose views are cut around a finding.

use anymc3d_host::engine::Case;
use anymc3d_host::scan::RegionOfInterest;
use anymc3d_manifest::Manifest;
use clap::Args;
use std::path::PathBuf;

/// Where the finding is.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RegionOptions {
    /// Mask of the finding, 1 inside, on the scan's grid: plugins with region = "mask" look there. For one case; a table
    /// has a column `mask`
    #[arg(long, value_name = "FILE")]
    pub mask: Option<PathBuf>,
    /// A point in the finding, RAS mm: plugins with region = "point" look there. For one case; a table has a column `point`
    #[arg(long, value_name = "X,Y,Z", allow_hyphen_values = true)]
    pub point: Option<Point>,
}

/// x to the patient's right, y to the front, z to the head, mm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point([f64; 3]);

impl std::str::FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<f64>> = text.split(',').map(|v| v.trim().parse().ok()).collect();
        let finite = numbers.filter(|all| all.iter().all(|v: &f64| v.is_finite()));
        let found = finite.and_then(|all| all.try_into().ok()).map(Self);
        found.ok_or_else(|| "expected X,Y,Z in RAS mm, for example 12.5,-40,88".to_owned())
    }
}

impl RegionOptions {
    /// As a case has it.
    pub fn of_case(&self) -> RegionOfInterest {
        RegionOfInterest { mask: self.mask.clone(), point_mm: self.point.map(|p| p.0) }
    }

    /// Whether one of the options was given.
    pub fn is_given(&self) -> bool {
        self.mask.is_some() || self.point.is_some()
    }

    /// Gives the one case what was asked for.
    ///
    /// # Errors
    /// One line, when there are more cases.
    pub fn give<'a>(&self, cases: impl Iterator<Item = &'a mut Case>) -> Result<(), String> {
        if !self.is_given() {
            return Ok(());
        }
        let mut cases: Vec<&mut Case> = cases.collect();
        match &mut cases[..] {
            [] => Ok(()),
            [case] => {
                case.region = self.of_case();
                Ok(())
            }
            many => Err(format!(
                "--mask and --point belong to one case, the inputs give {}; use a table with the columns `mask` and `point`",
                many.len()
            )),
        }
    }

    /// Refuses plugins that need a mask or a point which was not given, before any scan is read.
    ///
    /// # Errors
    /// One line that names plugin, view and option.
    pub fn check(&self, tasks: &[Manifest]) -> Result<(), String> {
        for manifest in tasks {
            for view in &manifest.views {
                if let Some(what) = view.lacks(self.mask.is_some(), self.point.is_some()) {
                    let (plugin, view) = (&manifest.plugin.name, &view.name);
                    let option =
                        if what == "a mask" { "--mask FILE" } else { "--point X,Y,Z or --mask FILE" };
                    return Err(format!(
                        "view `{view}` of plugin {plugin} needs {what} that says where to look; give {option}, or a table"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_three_numbers_in_mm() {
        assert_eq!("12.5,-40, 88".parse(), Ok(Point([12.5, -40.0, 88.0])));
        for wrong in ["1,2", "1,2,3,4", "a,b,c", "", "1,2,NaN", "1;2;3"] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_for_one_case_refuse_two() {
        let options = RegionOptions { point: Some(Point([1.0; 3])), mask: None };
        let mut cases = vec![Case::default()];
        options.give(cases.iter_mut()).unwrap();
        assert_eq!(cases[0].region.point_mm, Some([1.0; 3]));
        cases.push(Case::default());
        assert!(options.give(cases.iter_mut()).unwrap_err().contains("the inputs give 2"));
        assert!(RegionOptions::default().give(cases.iter_mut()).is_ok());
    }
}
