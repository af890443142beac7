//! What dcm2niix leaves beside a scan: of a tilted or uneven series it writes two files, and one of them is wrong.

use std::path::Path;

/// What it appends, and what that means for the file without it.
const TWINS: [(&str, &str); 4] = [
    ("_Tilt_Eq", "the series has a gantry tilt and uneven gaps, and this file shows neither rightly"),
    ("_Eq_Tilt", "the series has a gantry tilt and uneven gaps, and this file shows neither rightly"),
    ("_Tilt", "the series has a gantry tilt, and slices of this file may lie up to 12 mm off"),
    ("_Eq", "the series has uneven gaps, and in this file all have the first one's size"),
];
/// It counts files of one name.
const NUMBERS: [&str; 2] = ["_1", "_2"];

/// What is to be told about a NIfTI file by its name and by what lies beside it. Names are not told.
pub(super) fn warning(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (stem, extension) = name.split_at(name.find(".nii")?);
    if NUMBERS.iter().any(|n| stem.ends_with(&format!("_Eq{n}"))) {
        return Some(
            "by its name dcm2niix made this file from slices with uneven gaps: versions before 2026 leave out the top slice"
                .into(),
        );
    }
    let extensions = if extension == ".nii" { [extension, ".nii.gz"] } else { [extension, ".nii"] };
    for (suffix, meaning) in TWINS {
        for number in NUMBERS {
            let beside = |e: &&str| path.with_file_name(format!("{stem}{suffix}{number}{e}")).is_file();
            if extensions.iter().any(beside) {
                return Some(format!(
                    "beside it lies the same name with {suffix}{number}, as dcm2niix writes it: {meaning}; give that file"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twin_of_a_converted_series_is_told_and_the_names_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in
            ["a.nii", "a_Tilt_1.nii", "b.nii.gz", "b_Eq_1.nii", "c.nii", "c_Tilted.nii", "d_Tilt_1.nii"]
        {
            std::fs::write(at(name), "").unwrap();
        }
        let told = |name: &str| warning(&at(name)).unwrap_or_default();
        assert!(
            told("a.nii").contains("_Tilt_1") && told("a.nii").contains("give that file"),
            "{}",
            told("a.nii")
        );
        assert!(
            told("b.nii.gz").contains("_Eq_1") && !told("b.nii.gz").contains("b.nii"),
            "{}",
            told("b.nii.gz")
        );
        assert!(told("b_Eq_1.nii").contains("top slice"));
        for name in ["c.nii", "c_Tilted.nii", "a_Tilt_1.nii", "d_Tilt_1.nii"] {
            assert_eq!(warning(&at(name)), None, "{name}");
        }
    }
}
