//! `work.csv`: the manifest as a table that a person can read, cut and write.
//!
//! Columns: `case`, `bytes`, `sha256`, `image`; where the work has them `image.VIEW` (of one plugin `image.PLUGIN/VIEW`),
//! `mask`, `point`, `failed` (why there is nothing to run) and `without.PLUGIN` (why a plugin does not answer). A manifest
//! that is given needs `case` and a file; its paths are relative to its folder.

use super::manifest::{Manifest, WorkItem};
use super::scan_files::is_address;
use crate::data::sheet::{Sheet, SheetRow};
use crate::data::table::{Problem, TableError, fault_of_name};
use crate::run::inputs::NoAnswer;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

const VIEW: &str = "image.";
const WITHOUT: &str = "without.";
/// What stands in `without.PLUGIN` where the case has nothing for the plugin.
const NOTHING: &str = "nothing for it";

impl Manifest {
    /// As CSV.
    pub fn csv(&self) -> Vec<u8> {
        let views: BTreeSet<&str> =
            self.items.iter().flat_map(|i| i.case.views.keys()).map(String::as_str).collect();
        let without: BTreeSet<&str> =
            self.items.iter().flat_map(|i| i.unanswered.keys()).map(String::as_str).collect();
        let masks = self.items.iter().any(|i| i.case.region.mask.is_some());
        let points = self.items.iter().any(|i| i.case.region.point_mm.is_some());
        let failed = self.items.iter().any(|i| i.failed.is_some());
        let mut header: Vec<String> = ["case", "bytes", "sha256", "image"].map(str::to_owned).to_vec();
        header.extend(views.iter().map(|view| format!("{VIEW}{view}")));
        let optional = [("mask", masks), ("point", points), ("failed", failed)];
        header.extend(optional.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned()));
        header.extend(without.iter().map(|plugin| format!("{WITHOUT}{plugin}")));
        let mut csv = csv::Writer::from_writer(Vec::new());
        let path = |p: Option<&PathBuf>| p.map_or_else(String::new, |p| p.display().to_string());
        let mut write = |row: &[String]| csv.write_record(row).expect("memory takes what is written to it");
        write(&header);
        for item in &self.items {
            let WorkItem { case, bytes, sha256, unanswered, failed: why } = item;
            let mut row = vec![
                case.name.clone(),
                bytes.to_string(),
                sha256.clone().unwrap_or_default(),
                path(case.image.as_ref()),
            ];
            row.extend(views.iter().map(|view| path(case.views.get(*view))));
            if masks {
                row.push(path(case.region.mask.as_ref()));
            }
            if points {
                row.push(case.region.point_mm.map_or_else(String::new, |[x, y, z]| format!("{x} {y} {z}")));
            }
            if failed {
                row.push(why.clone().unwrap_or_default());
            }
            row.extend(without.iter().map(|plugin| match unanswered.get(*plugin) {
                None => String::new(),
                Some(NoAnswer::NothingForIt) => NOTHING.to_owned(),
                Some(NoAnswer::Failed(why)) => why.clone(),
            }));
            write(&row);
        }
        csv.into_inner().expect("memory takes what is written to it")
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`TableError`] with every problem and its line: no column `case`, no case at all, a case without a file or of a name
    /// that stands before, a number that is none.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let mut problems = Vec::new();
        let sheet = Sheet::open(path, &mut problems);
        let folder = path.parent().unwrap_or(Path::new(""));
        let items = sheet.map(|sheet| Reader::read(&sheet, folder, &mut problems)).unwrap_or_default();
        if items.is_empty() && problems.is_empty() {
            problems.push(Problem {
                line: None,
                what: "lists no case; expected one line per case after the header".into(),
            });
        }
        match problems.is_empty() {
            true => Ok(Self { items }),
            false => Err(TableError { path: path.to_owned(), problems }),
        }
    }
}

struct Reader<'a> {
    columns: HashMap<&'a str, usize>,
    folder: &'a Path,
}

impl<'a> Reader<'a> {
    fn read(sheet: &'a Sheet, folder: &'a Path, problems: &mut Vec<Problem>) -> Vec<WorkItem> {
        let mut columns = HashMap::new();
        let header_line = Some(sheet.header_line);
        for (i, name) in sheet.header.iter().enumerate() {
            if columns.insert(name, i).is_some() {
                problems
                    .push(Problem { line: header_line, what: format!("two columns are called `{name}`") });
            }
        }
        let has_files = columns.keys().any(|name| *name == "image" || name.starts_with(VIEW));
        if !columns.contains_key("case") || !has_files {
            let what =
                format!("found {}; expected columns `case` and `image` (or `image.VIEW`)", sheet.found());
            problems.push(Problem { line: header_line, what });
            return Vec::new();
        }
        let reader = Reader { columns, folder };
        let mut seen: HashMap<String, u64> = HashMap::new();
        let mut items = Vec::with_capacity(sheet.rows.len());
        for row in &sheet.rows {
            match reader.item(row) {
                Ok(item) => {
                    let name = &item.case.name;
                    if let Some(first) = seen.insert(name.to_lowercase(), row.line) {
                        let what = format!("case `{name}` is already on line {first}; each case stands once");
                        problems.push(Problem { line: Some(row.line), what });
                    }
                    items.push(item);
                }
                Err(what) => problems.push(Problem { line: Some(row.line), what }),
            }
        }
        items
    }

    fn item(&self, row: &SheetRow) -> Result<WorkItem, String> {
        let cell =
            |name: &str| self.columns.get(name).map(|&i| &row.cells[i]).filter(|text| !text.is_empty());
        let name = cell("case").ok_or("column `case` is empty; expected the case's name")?;
        let of_case = |what: String| format!("case `{name}`: {what}");
        // A table's rule: what a table gives is written here, and a later call reads it.
        if let Some(what) = fault_of_name(name) {
            return Err(of_case(what.to_owned()));
        }
        let mut item = WorkItem::named(name);
        item.case.image = cell("image").map(|text| self.path(text));
        for (column, &i) in &self.columns {
            let text = &row.cells[i];
            if text.is_empty() {
                continue;
            }
            if let Some(view) = column.strip_prefix(VIEW) {
                item.case.views.insert(view.to_owned(), self.path(text));
            }
            if let Some(plugin) = column.strip_prefix(WITHOUT) {
                let why = match text {
                    NOTHING => NoAnswer::NothingForIt,
                    why => NoAnswer::Failed(why.to_owned()),
                };
                item.unanswered.insert(plugin.to_owned(), why);
            }
        }
        item.failed = cell("failed").map(str::to_owned);
        if item.case.files().next().is_none() && item.failed.is_none() {
            return Err(of_case("no file; expected one in `image` or `image.VIEW`".into()));
        }
        if let Some(text) = cell("bytes") {
            item.bytes =
                text.parse().map_err(|_| of_case(format!("bytes `{text}`; expected a whole number")))?;
        }
        if let Some(text) = cell("sha256") {
            let digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            item.sha256 = Some(digest.then(|| text.to_lowercase()).ok_or_else(|| {
                of_case(format!("sha256 `{text}`; expected 64 hexadecimal digits or nothing"))
            })?);
        }
        item.case.region.mask = cell("mask").map(|text| self.path(text));
        if let Some(text) = cell("point") {
            let numbers: Option<Vec<f64>> = text.split_whitespace().map(|n| n.parse().ok()).collect();
            let point = numbers.and_then(|n| <[f64; 3]>::try_from(n).ok());
            item.case.region.point_mm =
                Some(point.ok_or_else(|| of_case(format!("point `{text}`; expected x y z in RAS mm")))?);
        }
        Ok(item)
    }

    fn path(&self, text: &str) -> PathBuf {
        if is_address(Path::new(text)) {
            return PathBuf::from(text);
        }
        let path = self.folder.join(text);
        std::path::absolute(&path).unwrap_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.csv");
        std::fs::write(&path, text).unwrap();
        let shown = folder.path().display().to_string();
        Manifest::open(&path).map_err(|e| e.to_string().replace(&shown, "F"))
    }

    #[test]
    fn what_is_written_reads_back_and_writes_the_same_bytes() {
        let mut first = WorkItem::named("a, \"quoted\"");
        first.case.image = Some("/scans/a.nii.gz".into());
        first.bytes = 12;
        first.sha256 = Some("ab".repeat(32));
        let mut second = WorkItem::named("b");
        second.case.views.insert("sagittal".into(), "/scans/b#series=1.2.nii".into());
        second.case.views.insert("knee/axial".into(), "/scans/c.nii".into());
        second.case.region.point_mm = Some([0.1 + 0.2, -40.0, 88.0]);
        second.case.region.mask = Some("/masks/b.nii".into());
        second.unanswered.insert("knee".into(), NoAnswer::NothingForIt);
        second.unanswered.insert("lung".into(), NoAnswer::Failed("no series, sadly".into()));
        let mut third = WorkItem::named("c");
        third.failed = Some("t.csv: no column".into());
        let all = Manifest { items: vec![first, second, third] };
        let text = all.csv();
        let back = read(std::str::from_utf8(&text).unwrap()).unwrap();
        assert_eq!(back, all);
        assert_eq!(back.csv(), text);
    }

    #[test]
    fn a_manifest_by_hand_needs_names_and_files_alone_and_its_paths_are_its_folders() {
        let read = read("case;image\nx;scans/a.nii\n").unwrap();
        let image = read.items[0].case.image.as_ref().unwrap();
        assert!(image.is_absolute() && image.ends_with("scans/a.nii"), "{image:?}");
        assert_eq!((read.items[0].bytes, read.bytes()), (0, 0));
    }

    #[test]
    fn every_fault_of_an_edited_manifest_is_named_with_its_line() {
        let message = read(
            "case,bytes,image,sha256,point\nx,1,a.nii,,\nX,1,b.nii,,\ny,,,,\n../z,1,c.nii,,\nw,many,d.nii,,\nv,1,e.nii,abc,\nu,1,f.nii,,1 2\n",
        )
        .unwrap_err();
        for part in [
            "F/work.csv: line 3: case `X` is already on line 2; each case stands once",
            "line 4: case `y`: no file; expected one in `image` or `image.VIEW`",
            "line 5: case `../z`: a name is that of a folder",
            "line 6: case `w`: bytes `many`; expected a whole number",
            "line 7: case `v`: sha256 `abc`; expected 64 hexadecimal digits",
            "line 8: case `u`: point `1 2`; expected x y z",
        ] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert!(
            read("case,image\n")
                .unwrap_err()
                .ends_with("lists no case; expected one line per case after the header")
        );
        assert!(read("case\nx\n").unwrap_err().contains("expected columns `case` and `image`"));
        assert!(read("").unwrap_err().contains("is empty"));
    }
}
