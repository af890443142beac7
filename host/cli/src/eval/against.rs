//! `host eval --compare`: two models on the same cases.

use super::summary::number;
use super::{CommandError, Console, Eval, Outcome};
use crate::text;
use anymc3d_host::eval::evaluation::{Comparisons, RESEARCH_ONLY, compare, same_cases};
use std::path::PathBuf;

/// One JSON object on stdout; without `--json` a table beside it, on stderr.
pub(super) fn run(eval: &Eval, files: &[PathBuf], console: &Console) -> Result<Outcome, CommandError> {
    let [a, b] = files else { return Err(CommandError::usage("--compare: expected A.csv and B.csv")) };
    let (a, b) = (eval.open(a)?, eval.open(b)?);
    for file in [&a, &b] {
        file.notes.iter().for_each(|note| console.warning(format!("{}: {note}", file.path.display())));
    }
    let b = same_cases(&a, &b).map_err(CommandError::failed)?;
    let found = Comparisons(compare(&a, &b));
    if !eval.json {
        let mut rows = vec![["LABEL", "AUROC A", "AUROC B", "Z", "P"].map(str::to_owned).to_vec()];
        for (name, test) in &found.0 {
            let p = test.p_value.map_or(number(None), |p| match p < 0.001 {
                true => "< 0.001".to_owned(),
                false => number(Some(p)),
            });
            rows.push(vec![
                name.clone(),
                number(test.auroc_a),
                number(test.auroc_b),
                test.z.map_or(number(None), |z| format!("{z:.2}")),
                p,
            ]);
        }
        let folds = found.0.iter().find_map(|(_, test)| test.folds);
        let within = folds.map_or(String::new(), |n| format!(", areas and tests within {n} folds"));
        console.aside(format!("{}\n{} cases{within}. {RESEARCH_ONLY}", text::table(&rows), a.cases.len()));
    }
    console.result(serde_json::to_string(&found).map_err(CommandError::failed)?);
    Ok(Outcome::Done)
}
