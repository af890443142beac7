//! Scans in a store: which there are, and how they come, one by one, into temporary files.

use super::client::{Listed, Objects, Tag};
use crate::batch::manifest::Manifest;
use crate::batch::scan_files::{FetchError, RemoteScans, is_address};
use crate::engine::Case;
use crate::scan::source::{extension_of, stem_of};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Formats of which a scan is one file; of the others another file would be missing.
const ALONE: [&str; 5] = [".nii.gz", ".nii", ".nrrd", ".mha", ".npz"];

/// The scans below an address.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ListedScans {
    /// Address and bytes, sorted.
    pub scans: Vec<(String, u64)>,
    /// How many masks, `X_mask` beside `X`, were left out.
    pub masks: usize,
    /// How many other objects were left out: by their names no scans, or only a part of one.
    pub left_out: usize,
}

impl ListedScans {
    /// Lists `s3://bucket/prefix`, or the one scan that it names.
    ///
    /// # Errors
    /// One line.
    pub fn of(address: &str) -> Result<Self, String> {
        let objects = Objects::open(address)?;
        let mut all = objects.list("")?;
        if all.is_empty() {
            all.extend(objects.itself()?);
        }
        Ok(Self::among(objects.address(), all))
    }

    fn among(address: &str, objects: Vec<Listed>) -> Self {
        let mut found = Self::default();
        let whole = |name: &str| match name {
            "" => address.to_owned(),
            name => format!("{address}/{name}"),
        };
        for object in objects {
            let path = whole(&object.name);
            let hidden = object.name.split('/').any(|part| part.starts_with('.'));
            match extension_of(Path::new(&path)).filter(|e| ALONE.contains(e)) {
                Some(_) if !hidden => found.scans.push((path, object.size)),
                _ => found.left_out += 1,
            }
        }
        let stem = |path: &str| {
            let path = Path::new(path);
            (path.parent().map(Path::to_owned), stem_of(path))
        };
        let stems: HashSet<_> = found.scans.iter().map(|(path, _)| stem(path)).collect();
        let before = found.scans.len();
        found.scans.retain(|(path, _)| {
            let (parent, stem) = stem(path);
            stem.strip_suffix("_mask").is_none_or(|scan| !stems.contains(&(parent, scan.to_owned())))
        });
        found.masks = before - found.scans.len();
        found.scans.sort();
        found
    }

    /// As cases, each called by its object's name.
    pub fn cases(&self) -> impl Iterator<Item = Case> + '_ {
        self.scans.iter().map(|(path, _)| Case::of_file(Path::new(path)))
    }
}

/// The scans of a manifest that lie in stores.
pub struct StoredScans {
    /// By bucket.
    stores: HashMap<String, Mutex<Objects>>,
    known: HashMap<PathBuf, (u64, Tag)>,
}

impl StoredScans {
    /// Looks at all objects that a manifest names, by a list for each bucket.
    ///
    /// # Errors
    /// One line.
    pub fn of(manifest: &Manifest) -> Result<Self, String> {
        let mut buckets: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for file in manifest.items.iter().flat_map(|item| item.case.files()).filter(|file| is_address(file)) {
            let (bucket, _) =
                split(file).ok_or_else(|| format!("{}: expected s3://bucket/object", file.display()))?;
            buckets.entry(bucket).or_default().push(file.to_owned());
        }
        let (mut stores, mut known) = (HashMap::new(), HashMap::new());
        for (bucket, files) in buckets {
            let objects = Objects::open(&bucket)?;
            let wanted: HashSet<&PathBuf> = files.iter().collect();
            for object in objects.list(&common_folder(&files))? {
                let path = PathBuf::from(format!("{bucket}/{}", object.name));
                if wanted.contains(&path) {
                    known.insert(path, (object.size, object.tag));
                }
            }
            stores.insert(bucket, Mutex::new(objects));
        }
        Ok(Self { stores, known })
    }

    /// Bytes of an object, where it is there.
    pub fn size(&self, address: &Path) -> Option<u64> {
        self.known.get(address).map(|(size, _)| *size)
    }
}

impl RemoteScans for StoredScans {
    fn stamp(&self, address: &Path) -> Option<String> {
        self.known.get(address).map(|(size, tag)| format!("{size} {}", tag.as_deref().unwrap_or_default()))
    }

    fn fetch(&self, address: &Path, folder: &Path) -> Result<PathBuf, FetchError> {
        let gone = || FetchError::Scan(format!("{}: no such object", address.display()));
        let (bucket, name) = split(address).ok_or_else(gone)?;
        let (store, size) = self.stores.get(&bucket).zip(self.size(address)).ok_or_else(gone)?;
        let file = folder.join(Path::new(&name).file_name().ok_or_else(gone)?);
        let store = store.lock().unwrap_or_else(PoisonError::into_inner);
        match store.fetch(&name, size, &file) {
            Ok(true) => Ok(file),
            Ok(false) => Err(gone()),
            Err(e) => Err(FetchError::Store(e)),
        }
    }
}

/// Bucket and object of an address.
fn split(address: &Path) -> Option<(String, String)> {
    let (bucket, name) = address.to_str()?.strip_prefix("s3://")?.split_once('/')?;
    (!bucket.is_empty() && !name.is_empty()).then(|| (format!("s3://{bucket}"), name.to_owned()))
}

/// The folder that all objects of a bucket lie in.
fn common_folder(files: &[PathBuf]) -> String {
    let folders = |file: &PathBuf| -> Vec<String> {
        let name = split(file).map(|(_, name)| name).unwrap_or_default();
        let mut parts: Vec<String> = name.split('/').map(str::to_owned).collect();
        parts.pop();
        parts
    };
    let mut common = files.first().map(folders).unwrap_or_default();
    for file in files {
        let same = folders(file).iter().zip(&common).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    common.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scans_of_a_bucket_are_told_by_their_names() {
        let object = |name: &str| Listed { name: name.to_owned(), size: 7, tag: None };
        let names = [
            "b.nii.gz",
            "a/c.nii",
            "a/c_mask.nii",
            "a/d_mask.nii",
            "e.hdr",
            "e.img",
            "notes.txt",
            "a/.x.nii",
            "f.mhd",
        ];
        let found = ListedScans::among("s3://k/p", names.iter().map(|name| object(name)).collect());
        let paths: Vec<&str> = found.scans.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["s3://k/p/a/c.nii", "s3://k/p/a/d_mask.nii", "s3://k/p/b.nii.gz"]);
        assert_eq!((found.masks, found.left_out), (1, 5));
        let case = found.cases().next().unwrap();
        assert_eq!((case.name.as_str(), case.image.unwrap().to_str().unwrap()), ("c", "s3://k/p/a/c.nii"));
    }

    #[test]
    fn a_buckets_list_begins_where_all_its_scans_lie() {
        let files =
            |names: &[&str]| names.iter().map(|n| PathBuf::from(format!("s3://k/{n}"))).collect::<Vec<_>>();
        assert_eq!(common_folder(&files(&["a/b/x.nii", "a/b/y.nii"])), "a/b");
        assert_eq!(common_folder(&files(&["a/b/x.nii", "a/c/y.nii"])), "a");
        assert_eq!(common_folder(&files(&["x.nii", "a/c/y.nii"])), "");
    }
}
