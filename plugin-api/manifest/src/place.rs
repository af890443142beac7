//! Where in a text a key stands, and which known key an unknown one was meant to be.

use std::fmt;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A place in plugin.toml; nothing is said of one that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place(Option<(usize, usize)>);

impl fmt::Display for Place {
    /// `line 12, column 3: `, so that what is wrong can follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |(line, column)| write!(f, "line {line}, column {column}: "))
    }
}

impl Place {
    /// Line and column of a byte of the text, both from 1.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Self(Some((before.matches('\n').count() + 1, before[start..].chars().count() + 1)))
    }

    /// Where a dotted key (`view[0].series.min_slices`) stands; where it is missing, the table that lacks it.
    pub(crate) fn of_key(text: &str, key: &str) -> Self {
        let Ok(document) = DeTable::parse(text) else { return Self::default() };
        let steps = key.split(['.', '[']).map(|step| step.trim_end_matches(']'));
        let mut at = Step::Table(document.get_ref());
        let mut found = None;
        for step in steps {
            let Some((span, next)) = at.child(step) else { break };
            found = Some(span.start);
            at = next;
        }
        found.map_or_else(Self::default, |offset| Self::of(text, offset))
    }

    /// Whether it is known.
    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }
}

enum Step<'a> {
    Table(&'a DeTable<'a>),
    Value(&'a DeValue<'a>),
}

impl<'a> Step<'a> {
    /// A key of a table, or an element of an array: where it begins, and what it holds.
    fn child(&self, step: &str) -> Option<(Range<usize>, Step<'a>)> {
        let table = match self {
            Self::Table(table) => table,
            Self::Value(DeValue::Table(table)) => table,
            Self::Value(DeValue::Array(array)) => {
                let value = array.get(step.parse::<usize>().ok()?)?;
                return Some((value.span(), Step::Value(value.get_ref())));
            }
            Self::Value(_) => return None,
        };
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == step)?;
        Some((key.span(), Step::Value(value.get_ref())))
    }
}

/// The dotted key of the value that lies at a byte of the text.
pub(crate) fn key_at(text: &str, offset: usize) -> Option<String> {
    fn within(value: &DeValue<'_>, offset: usize, path: &str) -> Option<String> {
        match value {
            DeValue::Table(table) => in_table(table, offset, path),
            DeValue::Array(array) => array.iter().enumerate().find_map(|(i, value)| {
                let here = format!("{path}[{i}]");
                let inner = within(value.get_ref(), offset, &here);
                inner.or_else(|| value.span().contains(&offset).then_some(here))
            }),
            _ => None,
        }
    }
    fn in_table(table: &DeTable<'_>, offset: usize, path: &str) -> Option<String> {
        table.iter().find_map(|(key, value)| {
            let name = key.get_ref();
            let here = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let inner = within(value.get_ref(), offset, &here);
            inner.or_else(|| value.span().contains(&offset).then_some(here))
        })
    }
    in_table(DeTable::parse(text).ok()?.get_ref(), offset, "")
}

/// The candidate that differs least from a word, if it may be what was meant: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let of = |candidate: &'a str| (edits(word, candidate), candidate);
    let (edits, candidate) = candidates.into_iter().map(of).min_by_key(|(edits, _)| *edits)?;
    (edits > 0 && edits * 3 <= word.chars().count().max(candidate.chars().count())).then_some(candidate)
}

/// Letters to insert, to leave out, to exchange, and neighbours to swap, that make one word the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let exchanged = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = exchanged.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_that_was_meant() {
        let keys = ["labels", "loss", "threshold", "kind"];
        assert_eq!(nearest("lables", keys), Some("labels"));
        assert_eq!(nearest("treshold", keys), Some("threshold"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("kind", keys), None, "it is the word itself");
        assert_eq!(nearest("lungnodule", ["brain_mri", "lung_nodule"]), Some("lung_nodule"));
    }

    #[test]
    fn a_key_is_found_where_it_stands() {
        let text = "a = 1\n[[view]]\nname = \"x\"\n[[view]]\nintensity = { kind = \"w\",\n  low = 3 }\n";
        let place = |key: &str| Place::of_key(text, key).to_string();
        assert_eq!(place("a"), "line 1, column 1: ");
        assert_eq!(place("view[1].intensity"), "line 5, column 1: ");
        assert_eq!(place("view[1].intensity.kind"), "line 5, column 15: ");
        assert_eq!(place("view[0].slices"), "line 2, column 1: ", "the table that lacks it");
        assert_eq!(place("plugin.name"), "");
        let at = text.find('3').unwrap();
        assert_eq!(key_at(text, at).as_deref(), Some("view[1].intensity.low"));
    }
}
