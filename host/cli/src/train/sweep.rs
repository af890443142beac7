//! `--sweep grid.toml`: a run for every combination of options, and one table of them.

use super::super::outcome::CommandError;
use std::collections::BTreeMap;
use std::path::Path;

/// Most runs of one sweep: an error in a grid must not fill a disk.
const MOST: usize = 1000;

/// One combination: options as they are written on the command line, in the grid's order.
pub(super) type Combination = Vec<(String, String)>;

/// Every combination of a grid.
///
/// ```toml
/// [grid]
/// fusion = ["attention", "mean"]
/// seed = [1, 2, 3]
/// ```
///
/// # Errors
/// One line that names the file, what was found and what was expected.
pub(super) fn combinations(file: &Path) -> Result<Vec<Combination>, CommandError> {
    let fail = |reason: String| CommandError::usage(format!("--sweep {}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| fail(format!("cannot be read: {e}")))?;
    let grid: BTreeMap<String, toml::Value> = toml::from_str::<toml::Table>(&text)
        .map_err(|e| fail(format!("is not TOML: {}", e.message())))?
        .remove("grid")
        .and_then(|grid| grid.try_into().ok())
        .ok_or_else(|| fail("has no table [grid] of options, each with a list of values".to_owned()))?;
    if grid.is_empty() {
        return Err(fail("[grid] is empty; give options with a list of values each".to_owned()));
    }
    let mut all: Vec<Combination> = vec![Vec::new()];
    for (option, values) in grid {
        let option = option.replace('_', "-");
        if ["sweep", "point", "gather", "fold", "out", "resume", "plugin", "data", "val"]
            .contains(&option.as_str())
        {
            return Err(fail(format!("`{option}` belongs on the command line, not in a grid")));
        }
        let values = match values {
            toml::Value::Array(values) if !values.is_empty() => values,
            other => return Err(fail(format!("`{option} = {other}`: expected a list of values"))),
        };
        let values: Vec<String> = values
            .iter()
            .map(|v| match v {
                toml::Value::String(s) => Ok(s.clone()),
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                    Ok(v.to_string())
                }
                other => Err(fail(format!("`{option}`: {other} is no number, text, true or false"))),
            })
            .collect::<Result<_, _>>()?;
        all = all
            .iter()
            .flat_map(|c| values.iter().map(move |v| (c, v)))
            .map(|(c, v)| c.iter().cloned().chain([(option.clone(), v.clone())]).collect())
            .collect();
        if all.len() > MOST {
            return Err(fail(format!("makes more than {MOST} runs; make it smaller")));
        }
    }
    Ok(all)
}

/// A combination as a folder's name.
pub(super) fn name(combination: &Combination) -> String {
    let plain = |s: &str| -> String {
        s.chars().map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' }).collect()
    };
    combination.iter().map(|(k, v)| format!("{}={}", plain(k), plain(v))).collect::<Vec<_>>().join(",")
}

/// Takes options and their values out of a command line.
pub(super) fn without(args: &mut Vec<String>, options: &[&str]) {
    let mut at = 0;
    while at < args.len() {
        let whole = options.contains(&args[at].as_str());
        let joined =
            options.iter().any(|o| args[at].strip_prefix(o).is_some_and(|rest| rest.starts_with('=')));
        match (whole, joined) {
            (true, _) => drop(args.drain(at..(at + 2).min(args.len()))),
            (_, true) => drop(args.remove(at)),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Combination>, CommandError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("grid.toml");
        std::fs::write(&file, text).unwrap();
        combinations(&file)
    }

    #[test]
    fn a_grid_gives_every_combination_once() {
        let all = of("[grid]\nseed = [1, 2, 3]\nfusion = [\"mean\", \"max\"]\nfirst_block = [6]\n").unwrap();
        let names: std::collections::BTreeSet<String> = all.iter().map(name).collect();
        assert_eq!((all.len(), names.len()), (6, 6));
        assert!(names.contains("first-block=6,fusion=max,seed=2"), "{names:?}");
    }

    #[test]
    fn what_is_no_grid_is_refused_with_its_reason() {
        for (text, reason) in [
            ("seed = [1]", "no table [grid]"),
            ("[grid]\n", "is empty"),
            ("[grid]\nseed = 1\n", "expected a list"),
            ("[grid]\nout = [\"a\"]\n", "belongs on the command line"),
            ("[grid]\nseed = [[1]]\n", "no number, text, true or false"),
            ("[grid", "is not TOML"),
        ] {
            let e = of(text).unwrap_err().message;
            assert!(e.contains(reason), "{text}: {e}");
        }
    }
}
