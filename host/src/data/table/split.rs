//! Which cases train and which judge: whole patients, each kind of label in its share, the same every time.

use super::{Part, Row, Table};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

/// Indices into [`Table::rows`], ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// To train on.
    pub train: Vec<usize>,
    /// To choose by: the best epoch, the threshold.
    pub val: Vec<usize>,
}

/// The cases of one patient.
type Group = Vec<usize>;

impl Table {
    /// Rows the table itself assigns to `part`.
    pub fn part(&self, part: Part) -> Vec<usize> {
        (0..self.rows.len()).filter(|&i| self.rows[i].split == Some(part)).collect()
    }

    /// Training and validation cases.
    ///
    /// Where the table's `split` column names a `val`, that is the split. Otherwise about `val_fraction` of
    /// the cases are drawn, whole patients at a time and of each combination of labels alike; the same
    /// table, fraction and seed always give the same. `test` rows are in neither part. With two patients or
    /// more and a fraction strictly between 0 and 1 neither part is empty.
    pub fn split(&self, val_fraction: f64, seed: u64) -> Split {
        let val = self.part(Part::Val);
        if !val.is_empty() {
            let train =
                self.candidates().into_iter().filter(|i| self.rows[*i].split != Some(Part::Val)).collect();
            return Split { train, val };
        }
        let groups = self.groups(seed);
        let mut parts = [Vec::new(), Vec::new()];
        let (mut seen, mut taken) = (0.0, 0.0);
        for group in &groups {
            let size = group.len() as f64;
            seen += size;
            // The group goes where the share of validation cases stays nearest to what was asked for.
            let wanted = val_fraction * seen - taken;
            if (wanted - size).abs() < wanted.abs() {
                taken += size;
                parts[1].push(group.clone());
            } else {
                parts[0].push(group.clone());
            }
        }
        if val_fraction > 0.0 && val_fraction < 1.0 && groups.len() > 1 {
            for side in 0..2 {
                if parts[side].is_empty() {
                    let last = parts[1 - side].pop();
                    parts[side].extend(last);
                }
            }
        }
        let [train, val] = parts.map(flat);
        Split { train, val }
    }

    /// `k` splits whose validation parts share no case and together are all cases but the `test` rows;
    /// whole patients, each combination of labels spread evenly. The `split` column's `val` is not looked at.
    pub fn folds(&self, k: usize, seed: u64) -> Vec<Split> {
        Self::spread(self.groups(seed), k)
    }

    /// As [`Self::folds`], with all cases of a `group` in one fold: each fold validates on scanners or sites that it has not
    /// seen. Groups that share a patient stay together, and a case without a group is one with its patient's. The largest
    /// are dealt first; a fold is empty where there are fewer than `k`.
    pub fn folds_by_group(&self, k: usize, seed: u64) -> Vec<Split> {
        let mut groups = self.groups(seed);
        // Patients that share a group belong together, and so on until nothing is shared.
        let mut joined: Vec<(BTreeSet<&str>, Group)> = Vec::new();
        for patient in groups.drain(..) {
            let mut names: BTreeSet<&str> =
                patient.iter().filter_map(|&i| self.rows[i].group.as_deref()).collect();
            let mut cases = patient;
            let (same, other) = joined.into_iter().partition(|(of, _)| !of.is_disjoint(&names));
            joined = other;
            let same: Vec<(BTreeSet<&str>, Group)> = same;
            for (of, more) in same {
                names.extend(of);
                cases.extend(more);
            }
            joined.push((names, cases));
        }
        joined.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
        Self::spread(joined.into_iter().map(|(_, cases)| cases).collect(), k)
    }

    /// Appends the cases of another table, none of whose patients, cases and scans may be in this one; their rows. `either`
    /// says what a patient does in one of both, for the message.
    ///
    /// # Errors
    /// One line that names the first case in both.
    pub fn append(&mut self, more: Self, either: &str) -> Result<Vec<usize>, String> {
        let first = self.rows.len();
        let known = |of: &dyn Fn(&Row) -> Vec<String>| self.rows.iter().flat_map(of).collect::<BTreeSet<_>>();
        let whose = |r: &Row| vec![r.patient_or_case().to_owned(), r.case.clone()];
        let files = |r: &Row| r.images.values().map(|f| f.display().to_string()).collect();
        let (patients, scans) = (known(&whose), known(&files));
        for row in &more.rows {
            let again = whose(row).into_iter().find(|p| patients.contains(p));
            if let Some(again) = again.or_else(|| files(row).into_iter().find(|f| scans.contains(f))) {
                return Err(format!(
                    "{}: line {}: {again} is in {} too; a patient {either}, never both",
                    more.path.display(),
                    row.line,
                    self.path.display()
                ));
            }
        }
        self.rows.extend(more.rows);
        Ok((first..self.rows.len()).collect())
    }

    fn spread(groups: Vec<Group>, k: usize) -> Vec<Split> {
        let mut folds: Vec<Group> = vec![Vec::new(); k];
        for group in groups {
            // Groups come stratum by stratum, so the emptiest fold in turn is also the even one.
            if let Some(fold) = folds.iter_mut().min_by_key(|f| f.len()) {
                fold.extend(group);
            }
        }
        (0..k)
            .map(|own| {
                let others = (0..k).filter(|f| *f != own).map(|f| folds[f].clone()).collect();
                Split { train: flat(others), val: flat(vec![folds[own].clone()]) }
            })
            .collect()
    }

    fn candidates(&self) -> Vec<usize> {
        (0..self.rows.len()).filter(|&i| self.rows[i].split != Some(Part::Test)).collect()
    }

    /// Patients' cases, shuffled within each combination of labels, these one after another.
    fn groups(&self, seed: u64) -> Vec<Group> {
        let mut by_patient: BTreeMap<(bool, &str), Group> = BTreeMap::new();
        for i in self.candidates() {
            let row = &self.rows[i];
            let key = row.patient.as_deref().map_or((false, row.case.as_str()), |p| (true, p));
            by_patient.entry(key).or_default().push(i);
        }
        let mut strata: BTreeMap<String, Vec<Group>> = BTreeMap::new();
        for group in by_patient.into_values() {
            strata.entry(self.signature(&group)).or_default().push(group);
        }
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for groups in strata.values_mut() {
            for i in (1..groups.len()).rev() {
                let j = ((u64::from(rng.next_u32()) * (i as u64 + 1)) >> 32) as usize;
                groups.swap(i, j);
            }
        }
        strata.into_values().flatten().collect()
    }

    /// The labels of a patient: positive where any case is, unknown where none is known.
    fn signature(&self, group: &[usize]) -> String {
        (0..self.labels.len())
            .map(|label| {
                let known = group.iter().filter_map(|&i| self.rows[i].labels.get(label).copied().flatten());
                match known.reduce(f32::max) {
                    None => '?',
                    Some(v) if v > 0.5 => '1',
                    Some(_) => '0',
                }
            })
            .collect()
    }
}

fn flat(groups: Vec<Group>) -> Vec<usize> {
    let mut all: Vec<usize> = groups.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

impl Row {
    /// The patient, or the case where no patient is named.
    pub fn patient_or_case(&self) -> &str {
        self.patient.as_deref().unwrap_or(&self.case)
    }
}
