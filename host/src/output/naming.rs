//! Which name, hence which folder, a case's results get: the case's own, unless another scan's result has it; then the
//! name with eight digits of the scan's digest. The same scan comes to the same name, in whichever call or process.

use crate::engine::Case;
use crate::engine::result::CaseResult;
use crate::fs::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;

/// The scans that a result was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scans {
    /// The view that read the first of them: one file as another sequence is another question.
    view: String,
    /// The first one's digest.
    sha256: String,
    /// View and digest of the others.
    others: Vec<(String, String)>,
}

impl Scans {
    pub fn of(result: &CaseResult) -> Self {
        let others = result.input.other_views.iter().map(|o| (o.view.clone(), o.sha256.clone()));
        let view = result.views.first().map(|v| v.name.clone()).unwrap_or_default();
        Self { view, sha256: result.input.sha256.clone(), others: others.collect() }
    }

    /// Of the result in a folder; none where there is no `result.json` that tells.
    pub fn read(folder: &Path) -> Option<Self> {
        let json: Value = serde_json::from_slice(&std::fs::read(folder.join("result.json")).ok()?).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let others = json["input"]["other_views"].as_array().into_iter().flatten();
        Some(Self {
            view: text(&json["views"][0]["name"])?,
            sha256: text(&json["input"]["sha256"])?,
            others: others.map(|o| Some((text(&o["view"])?, text(&o["sha256"])?))).collect::<Option<_>>()?,
        })
    }

    fn digests(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.sha256.as_str()).chain(self.others.iter().map(|(_, sha256)| sha256.as_str()))
    }

    /// Whether a scan is among both.
    pub fn share(&self, other: &Self) -> bool {
        self.digests().any(|ours| other.digests().any(|theirs| ours == theirs))
    }

    /// One digest of all of them: of one scan its own.
    pub fn digest(&self) -> String {
        one_digest(&self.digests().collect::<Vec<_>>())
    }
}

/// One digest of several: of one itself.
pub(crate) fn one_digest(all: &[&str]) -> String {
    match all {
        [one] => (*one).to_owned(),
        several => hex(&Sha256::digest(several.join("\n"))),
    }
}

/// `name` with eight digits of a digest.
pub(crate) fn with_digest(name: &str, digest: &str) -> String {
    format!("{name}-{}", digest.get(..8).unwrap_or(digest))
}

/// The names that this call has given so far.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By case: a case's tasks may read different scans of it, and answer under one name.
    cases: HashMap<String, String>,
    /// By name and plugin, for whom. Some file systems do not tell upper from lower case.
    given: HashMap<(String, String), (String, Scans)>,
}

/// What tells cases of one name apart: their files.
fn key(case: &Case) -> String {
    format!("{case:?}")
}

impl Names {
    /// The name that a case has been given.
    pub fn of(&self, case: &Case) -> Option<&str> {
        self.cases.get(&key(case)).map(String::as_str)
    }

    /// The names to try for a case, in this order.
    pub fn candidates(&self, case: &Case, scans: &Scans) -> Vec<String> {
        let mut names: Vec<String> = self.of(case).map(str::to_owned).into_iter().collect();
        for name in [case.name.clone(), with_digest(&case.name, &scans.digest())] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The scans that this call has answered under a name, where they are another case's and not these.
    pub fn another(&self, name: &str, plugin: &str, case: &Case, scans: &Scans) -> Option<&Scans> {
        let (of, theirs) = self.given.get(&(name.to_lowercase(), plugin.to_owned()))?;
        (theirs != scans && *of != key(case)).then_some(theirs)
    }

    /// Gives a name. Whether it is another one than the case had so far.
    pub fn give(&mut self, name: &str, plugin: &str, case: &Case, scans: Scans) -> bool {
        self.given.insert((name.to_lowercase(), plugin.to_owned()), (key(case), scans));
        self.cases.insert(key(case), name.to_owned()).as_deref() != Some(name)
    }

    /// A name for an answer that is written nowhere.
    pub fn choose(&mut self, plugin: &str, case: &Case, scans: Scans) -> String {
        let free = |name: &&String| self.another(name, plugin, case, &scans).is_none();
        let candidates = self.candidates(case, &scans);
        let name = candidates.iter().find(free).unwrap_or(&candidates[candidates.len() - 1]).clone();
        self.give(&name, plugin, case, scans);
        name
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn scans(digest: char) -> Scans {
        Scans { view: "axial".into(), sha256: digest.to_string().repeat(64), others: Vec::new() }
    }

    pub fn case(name: &str, file: &str) -> Case {
        Case { name: name.into(), image: Some(file.into()), ..Case::default() }
    }

    /// Writes what is read of a result.
    pub fn write_result(folder: &Path, scans: &Scans) -> Result<(), String> {
        let others: Vec<Value> =
            scans.others.iter().map(|(v, d)| serde_json::json!({ "view": v, "sha256": d })).collect();
        let json = serde_json::json!({
            "input": { "sha256": scans.sha256, "other_views": others },
            "views": [{ "name": scans.view }],
        });
        std::fs::write(folder.join("result.json"), json.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn cases_of_one_name_are_told_apart_by_their_scans_digest_and_keep_their_names() {
        let mut names = Names::default();
        let (first, second) = (case("a", "1/a.nii"), case("a", "2/a.nii"));
        for _ in 0..2 {
            assert_eq!(names.choose("p", &first, scans('1')), "a");
            assert_eq!(names.choose("p", &second, scans('2')), "a-22222222");
            assert_eq!(names.choose("q", &second, scans('2')), "a-22222222");
        }
        assert_eq!(names.choose("p", &case("A", "3/A.nii"), scans('3')), "A-33333333");
        assert_eq!(names.choose("p", &case("a", "copy/a.nii"), scans('1')), "a", "the same scan");
    }

    #[test]
    fn what_a_result_was_made_from_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let two = Scans { others: vec![("t2".into(), "e".repeat(64))], ..scans('f') };
        assert_eq!(Scans::read(folder.path()), None);
        write_result(folder.path(), &two).unwrap();
        assert_eq!(Scans::read(folder.path()), Some(two.clone()));
        assert!(two.share(&scans('e')) && two.share(&scans('f')) && !two.share(&scans('1')));
        assert_ne!(two.digest(), scans('f').digest());
    }
}
