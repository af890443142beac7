//! How a path names one stack of a DICOM folder, zip or file: `PATH#study=2&series=4.1`.
//!
//! A locator stands in results. It therefore counts studies instead of naming them, and has a series' number instead of
//! its UID: a UID leads whoever has the archive back to the patient.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anymc3d_dicom::{Scan, SeriesSelector, Study};

/// A series of a study, as a user or a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeriesName {
    /// SeriesNumber.
    Number(i64),
    /// Its place in the study, from 1: `@2`. For series whose number is absent or not theirs alone.
    Place(usize),
    /// SeriesInstanceUID.
    Uid(String),
}

/// A series, and which of its stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesPick {
    /// The series.
    pub series: SeriesName,
    /// From 0, as `host doctor` counts them; without it the largest.
    pub stack: Option<usize>,
}

impl FromStr for SeriesPick {
    type Err = String;

    /// `4`, `4.1` (stack 1 of series 4), `@2`, `@2.1`, or a UID.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}`: expected a series number, NUMBER.STACK, @PLACE or a UID");
        let number = |text: &str| text.parse::<usize>().map_err(|_| expected());
        if let Some(place) = text.strip_prefix('@') {
            let (place, stack) = match place.split_once('.') {
                Some((place, stack)) => (number(place)?, Some(number(stack)?)),
                None => (number(place)?, None),
            };
            return match place {
                0 => Err(expected()),
                place => Ok(Self { series: SeriesName::Place(place), stack }),
            };
        }
        let parts: Vec<&str> = text.split('.').collect();
        if parts
            .iter()
            .any(|p| p.is_empty() || !p.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(expected());
        }
        match parts.as_slice() {
            [series] => {
                Ok(Self { series: SeriesName::Number(series.parse().map_err(|_| expected())?), stack: None })
            }
            [series, stack] => Ok(Self {
                series: SeriesName::Number(series.parse().map_err(|_| expected())?),
                stack: Some(number(stack)?),
            }),
            // No UID has so few components.
            _ => Ok(Self { series: SeriesName::Uid(text.to_owned()), stack: None }),
        }
    }
}

impl fmt::Display for SeriesPick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.series {
            SeriesName::Number(number) => write!(f, "{number}")?,
            SeriesName::Place(place) => write!(f, "@{place}")?,
            SeriesName::Uid(uid) => f.write_str(uid)?,
        }
        match self.stack {
            Some(stack) if !matches!(self.series, SeriesName::Uid(_)) => write!(f, ".{stack}"),
            _ => Ok(()),
        }
    }
}

impl SeriesPick {
    /// For [`anymc3d_dicom::choose`]; a place becomes the UID of the series that has it.
    pub(super) fn selector(&self, study: &Study) -> SeriesSelector {
        match &self.series {
            SeriesName::Number(number) => SeriesSelector::Number(*number),
            SeriesName::Uid(uid) => SeriesSelector::Uid(uid.clone()),
            SeriesName::Place(place) => match study.series.get(place - 1) {
                Some(series) => SeriesSelector::Uid(series.uid.clone()),
                None => SeriesSelector::Uid(format!("@{place}")),
            },
        }
    }
}

/// A path as typed, and what it says after `#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locator {
    /// The file or folder.
    pub root: PathBuf,
    /// From 1, in the order of [`Scan::studies`].
    pub study: Option<usize>,
    /// The series.
    pub series: Option<SeriesPick>,
}

impl Locator {
    /// Splits a path; one that is there as it stands has no locator, whatever characters are in its name.
    pub fn of(path: &Path) -> Self {
        let whole = || Self { root: path.to_path_buf(), study: None, series: None };
        if path.exists() {
            return whole();
        }
        let text = path.to_string_lossy();
        let Some((root, fragment)) = text.rsplit_once('#') else { return whole() };
        let mut found = Self { root: root.into(), study: None, series: None };
        for part in fragment.split('&') {
            match part.split_once('=') {
                Some(("study", n)) if n.parse().is_ok_and(|n: usize| n > 0) => found.study = n.parse().ok(),
                Some(("series", pick)) => match pick.parse() {
                    Ok(pick) => found.series = Some(pick),
                    Err(_) => return whole(),
                },
                _ => return whole(),
            }
        }
        found
    }

    /// Of a stack of a scan of `root`.
    pub(super) fn to(root: &Path, scan: &Scan, study: usize, series: usize, stack: usize) -> PathBuf {
        let of = &scan.studies[study];
        let chosen = &of.series[series];
        let same = |number: i64| of.series.iter().filter(|s| s.number == Some(number)).count();
        let name = match chosen.number {
            Some(number) if same(number) == 1 => SeriesName::Number(number),
            _ => SeriesName::Place(series + 1),
        };
        let pick = SeriesPick { series: name, stack: (chosen.stacks.len() > 1).then_some(stack) };
        let study = if scan.studies.len() > 1 { format!("study={}&", study + 1) } else { String::new() };
        let mut path = root.as_os_str().to_owned();
        path.push(format!("#{study}series={pick}"));
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_named_by_number_place_or_uid_and_may_name_its_stack() {
        let pick = |text: &str| text.parse::<SeriesPick>();
        let found = |series, stack| Ok(SeriesPick { series, stack });
        assert_eq!(pick("4"), found(SeriesName::Number(4), None));
        assert_eq!(pick("4.1"), found(SeriesName::Number(4), Some(1)));
        assert_eq!(pick("@2.0"), found(SeriesName::Place(2), Some(0)));
        assert_eq!(pick("1.2.840.1"), found(SeriesName::Uid("1.2.840.1".into()), None));
        for text in ["4", "4.1", "@2", "@2.3", "1.2.840.1"] {
            assert_eq!(pick(text).unwrap().to_string(), text);
        }
        for wrong in ["", "x", "4.", "@", "@0", "4.x", "1..2"] {
            assert!(pick(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_with_a_number_sign_in_its_name_is_that_path() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a#series=3");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(Locator::of(&odd).root, odd);
        let split = Locator::of(&folder.path().join("b.zip#study=2&series=3.1"));
        assert_eq!((split.root, split.study), (folder.path().join("b.zip"), Some(2)));
        assert_eq!(split.series.unwrap().to_string(), "3.1");
        let other = folder.path().join("c#d");
        assert_eq!(Locator::of(&other).root, other);
    }
}
