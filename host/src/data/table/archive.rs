//! A split of a NumPy archive as a table: a case for each image, called `SPLIT-000012` by its index in the file.

use super::{Problem, Row, Table};
use crate::scan::npz::ArchiveSplit;
use anymc3d_manifest::{Manifest, TaskKind};
use std::path::Path;

/// The split's cases and what is wrong with them for a task. Every view reads the same image.
///
/// A binary or multi-label task has a column of 0 and 1 for each label, in the manifest's order; a multi-class task one
/// column with the class's index. Without `labelled`, to predict, a split may have other labels than the task: they are
/// unknown then.
pub(super) fn read_all(
    path: &Path,
    split: &ArchiveSplit,
    manifest: &Manifest,
    labelled: bool,
) -> (Table, Vec<Problem>) {
    let mut problems = Vec::new();
    let rows = rows(split, manifest, labelled, &mut problems);
    let (kind, labels) = (manifest.task.kind, manifest.task.labels.clone());
    (Table { path: path.to_owned(), kind, labels, range: manifest.task.range, rows }, problems)
}

fn rows(split: &ArchiveSplit, manifest: &Manifest, labelled: bool, problems: &mut Vec<Problem>) -> Vec<Row> {
    let mut refuse = |what: String| problems.push(Problem { line: None, what });
    for view in &manifest.views {
        if let Some(what) = view.lacks(false, false) {
            let (view, plugin) = (&view.name, &manifest.plugin.name);
            refuse(format!("view `{view}` of {plugin} needs {what}, which an archive does not have"));
        }
    }
    let others = manifest.views_of_other_scans(|_| true);
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|v| v.name.as_str()).collect();
        refuse(format!("an image cannot be the views {}, which are different sequences", names.join(", ")));
    }
    let (scans, labels) = match split.read() {
        Ok(read) => read,
        Err(e) => {
            refuse(e.to_string());
            return Vec::new();
        }
    };
    let several = manifest.task.kind == TaskKind::Multiclass;
    let (found, expected) =
        (labels.first().map_or(0, Vec::len), if several { 1 } else { manifest.task.labels.len() });
    if labelled && found != expected && !labels.is_empty() {
        let names = if several { "the class's index".to_owned() } else { manifest.task.labels.join(", ") };
        refuse(format!("`{}_labels` has {found} columns; expected {expected}: {names}", split.split));
        return Vec::new();
    }
    let mut rows = Vec::with_capacity(scans.len());
    for (index, (scan, values)) in scans.into_iter().zip(labels).enumerate() {
        let case = format!("{}-{index:06}", split.split);
        let labels = match of_case(&values, manifest) {
            Ok(labels) => labels,
            Err(_) if !labelled => vec![None; manifest.task.outputs()],
            Err(what) => {
                refuse(format!("case `{case}`: {what}"));
                continue;
            }
        };
        let images = manifest.views.iter().map(|v| (v.name.clone(), scan.clone())).collect();
        rows.push(Row { line: index as u64 + 1, images, labels, ..Row::named(case) });
    }
    rows
}

/// Labels as a table has them.
fn of_case(values: &[f64], manifest: &Manifest) -> Result<Vec<Option<f32>>, String> {
    let classes = &manifest.task.labels;
    if manifest.task.kind == TaskKind::Multiclass {
        let class = values.first().copied().unwrap_or(-1.0);
        let index = (0..classes.len()).find(|i| *i as f64 == class);
        let index = index.ok_or_else(|| {
            format!("class {class}; expected 0 to {}: {}", classes.len() - 1, classes.join(", "))
        })?;
        return Ok((0..classes.len()).map(|c| Some(f32::from(u8::from(c == index)))).collect());
    }
    if values.len() != classes.len() {
        return Err(format!("{} labels, expected {}", values.len(), classes.len()));
    }
    if manifest.task.kind.has_values() {
        let value = |(value, name): (&f64, &String)| {
            let [low, high] = manifest.task.scale();
            let targets = manifest.task.targets_of(*value);
            targets.ok_or_else(|| format!("label `{name}` is {value}; expected {low} to {high}"))
        };
        let all: Result<Vec<Vec<f32>>, String> = values.iter().zip(classes).map(value).collect();
        return Ok(all?.concat().into_iter().map(Some).collect());
    }
    let label = |(value, name): (&f64, &String)| match (0.0..=1.0).contains(value) {
        true => Ok(Some(*value as f32)),
        false => Err(format!("label `{name}` is {value}; expected 0 or 1")),
    };
    values.iter().zip(classes).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Table, digest_of};
    use crate::scan::{Scan, source};
    use anymc3d_manifest::Manifest;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    fn manifest(kind: &str, labels: &str, loss: &str) -> Manifest {
        let text = format!(
            "schema = 1\n[plugin]\nname = \"toy\"\nversion = \"0.1.0\"\nsummary = \"A toy.\"\nlicense = \"-\"\n\
             intended_use = \"Tests.\"\n[task]\nkind = \"{kind}\"\nlabels = [{labels}]\nloss = {{ kind = \"{loss}\" }}\n\
             [backbone]\nfamilies = [\"dinov2\"]\n[[view]]\nname = \"axial\"\nmodality = \"any\"\naxis = \"axial\"\n\
             slices = 2\nsize = [28, 28]\nintensity = {{ kind = \"window\", windows = [[0, 255]] }}\n"
        );
        Manifest::parse(&text).unwrap().manifest
    }

    /// `.npy` of version 1.
    fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn archive(folder: &Path, arrays: &[(&str, Vec<u8>)]) -> PathBuf {
        let path = folder.join("toy.npz");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, bytes) in arrays {
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    /// Two images of 2 × 3 × 4.
    fn two(folder: &Path, labels: Vec<u8>) -> PathBuf {
        let voxels: Vec<u8> = (0..48).collect();
        archive(folder, &[("train_images", npy("|u1", "(2, 2, 3, 4)", &voxels)), ("train_labels", labels)])
    }

    fn at(path: &Path, split: &str) -> PathBuf {
        format!("{}:{split}", path.display()).into()
    }

    #[test]
    fn a_split_is_a_table_whose_scans_have_numpys_voxels_in_file_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = two(folder.path(), npy("|u1", "(2, 1)", &[1, 0]));
        let table = Table::open(at(&path, "train"), &manifest("binary", "\"mass\"", "bce")).unwrap();
        let cases: Vec<_> = table.rows.iter().map(|r| (r.case.as_str(), r.labels.clone())).collect();
        assert_eq!(cases, [("train-000000", vec![Some(1.0)]), ("train-000001", vec![Some(0.0)])]);
        let image = &table.rows[1].images["axial"];
        let scan = Scan::open(image).unwrap();
        assert_eq!((scan.shape, scan.spacing_mm, scan.orientation.as_str()), ([4, 3, 2], [1.0; 3], "RAS"));
        // numpy: images[1][1, 2, 3] is 47, images[1][0, 0, 1] is 25.
        assert_eq!((scan.voxels[23], scan.voxels[1], scan.voxels[0]), (47.0, 25.0, 24.0));
        let unknown = |word: &str| scan.warnings.iter().any(|w| w.starts_with(&format!("{word} unknown")));
        assert!(unknown("spacing") && unknown("orientation"), "{:?}", scan.warnings);
        assert_eq!(source::digest_of(image).unwrap(), scan.sha256);
        assert_eq!(source::files_of(image), std::slice::from_ref(&path));
        assert_eq!(digest_of(&at(&path, "train")).unwrap(), digest_of(&path).unwrap());
        assert_ne!(Scan::open(&table.rows[0].images["axial"]).unwrap().sha256, scan.sha256);
    }

    #[test]
    fn classes_are_indices_and_several_labels_are_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path =
            two(folder.path(), npy("<i8", "(2, 1)", &[2u64.to_le_bytes(), 0u64.to_le_bytes()].concat()));
        let classes = manifest("multiclass", "\"a\", \"b\", \"c\"", "cross_entropy");
        let rows = Table::open(at(&path, "train"), &classes).unwrap().rows;
        assert_eq!(rows[0].labels, [Some(0.0), Some(0.0), Some(1.0)]);
        let path = two(folder.path(), npy("|u1", "(2, 2)", &[1, 0, 1, 1]));
        let labels = manifest("multilabel", "\"a\", \"b\"", "bce");
        let rows = Table::open(at(&path, "train"), &labels).unwrap().rows;
        assert_eq!(rows[0].labels, [Some(1.0), Some(0.0)]);
    }

    #[test]
    fn what_is_missing_or_of_another_layout_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let binary = manifest("binary", "\"mass\"", "bce");
        let refused = |path: &Path| Table::open(path, &binary).unwrap_err().to_string();
        let path = two(folder.path(), npy("|u1", "(2, 1)", &[1, 0]));
        assert!(refused(&at(&path, "test")).contains("no array `test_images`; splits with images: train"));
        assert!(refused(&path).contains("no split; give one, FILE.npz:SPLIT: train"), "{}", refused(&path));
        let path = two(folder.path(), npy("|u1", "(2, 2)", &[1, 0, 0, 1]));
        assert!(refused(&at(&path, "train")).contains("has 2 columns; expected 1: mass"));
        let path = two(folder.path(), npy("|u1", "(2, 1)", &[1, 7]));
        assert!(refused(&at(&path, "train")).contains("case `train-000001`: label `mass` is 7"));
        let path = two(folder.path(), npy("|u1", "(3, 1)", &[1, 0, 1]));
        assert!(refused(&at(&path, "train")).contains("for 2 images"));
        let path = archive(folder.path(), &[("train_images", npy("|u1", "(2, 28, 28, 28, 3)", &[]))]);
        assert!(refused(&at(&path, "train")).contains("expected arrays SPLIT_images [N, D, H, W]"));
        // A header that claims more than there is, and more than there could be.
        let huge = npy("|u1", "(4294967295, 65535, 65535, 65535)", &[]);
        let path =
            archive(folder.path(), &[("train_images", huge), ("train_labels", npy("|u1", "(1, 1)", &[1]))]);
        assert!(refused(&at(&path, "train")).contains("for 4294967295 images"));
        let short = npy("|u1", "(1, 99, 99, 99)", &[1, 2, 3]);
        let path =
            archive(folder.path(), &[("train_images", short), ("train_labels", npy("|u1", "(1, 1)", &[1]))]);
        let row = Table::open(at(&path, "train"), &binary).unwrap().rows.remove(0);
        assert!(Scan::open(&row.images["axial"]).unwrap_err().to_string().contains("cut short"));
        std::fs::write(&path, "no archive").unwrap();
        assert!(refused(&at(&path, "train")).contains("no NumPy archive"));
    }
}
