//! From the series of a study to what is asked about it: rules, and the loop guard before them.

use std::collections::BTreeMap;

use super::ledger::Order;
use super::rules::{Fit, Rule};
use super::series::SeriesFacts;

/// The orders of a study. `own`: whether a series' UID is one that this server made. `complete`: what one instance's header
/// says of a series, asked only where a rule hangs on it.
///
/// A series that this program wrote, or that is no scan, fits no rule. Rules that picked the same series are one order; a
/// plugin is asked once about a set of series.
///
/// # Errors
/// Those of `own` and `complete`.
pub(crate) fn orders_of<E>(
    rules: &[Rule],
    series: &[SeriesFacts],
    own: impl Fn(&str) -> Result<bool, E>,
    mut complete: impl FnMut(&SeriesFacts) -> Result<SeriesFacts, E>,
) -> Result<Vec<Order>, E> {
    let mut facts: Vec<(SeriesFacts, bool)> = Vec::new();
    for series in series {
        if !is_guarded(series) && !own(&series.uid)? {
            facts.push((series.clone(), false));
        }
    }
    let mut orders: BTreeMap<Vec<String>, Order> = BTreeMap::new();
    for rule in rules {
        let mut picked = Vec::new();
        for (series, is_complete) in &mut facts {
            let mut fit = rule.fits(series, *is_complete);
            if fit == Fit::Unknown {
                let header = complete(series)?;
                *series = series.clone().or(header);
                *is_complete = true;
                fit = rule.fits(series, true);
            }
            // A header may show what the list of series did not.
            if fit == Fit::Yes && !is_guarded(series) {
                picked.push(series.uid.clone());
            }
        }
        if picked.is_empty() {
            continue;
        }
        picked.sort();
        let order = orders.entry(picked.clone()).or_insert_with(|| Order {
            rules: Vec::new(),
            plugins: Vec::new(),
            series: picked,
            job: None,
            taken: false,
        });
        order.rules.push(rule.name.clone());
        for plugin in &rule.plugins {
            if !order.plugins.contains(plugin) {
                order.plugins.push(plugin.clone());
            }
        }
    }
    Ok(orders.into_values().collect())
}

fn is_guarded(series: &SeriesFacts) -> bool {
    series.is_own() || series.is_derived_object()
}

/// Leaves out plugins whose results lie in the study already; returns them. Orders without a plugin go.
pub(crate) fn leave_out_answered(orders: &mut Vec<Order>, series: &[SeriesFacts]) -> Vec<String> {
    let mut answered = Vec::new();
    for order in orders.iter_mut() {
        order.plugins.retain(|plugin| {
            let there = series.iter().any(|s| s.is_result_of(plugin));
            if there && !answered.contains(plugin) {
                answered.push(plugin.clone());
            }
            !there
        });
    }
    orders.retain(|order| !order.plugins.is_empty());
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn series(uid: &str, modality: &str, description: &str) -> SeriesFacts {
        SeriesFacts {
            uid: uid.into(),
            modality: Some(modality.into()),
            description: Some(description.into()),
            protocol: Some(String::new()),
            ..SeriesFacts::default()
        }
    }

    fn rule(name: &str, more: &str) -> Rule {
        toml::from_str(&format!("name = '{name}'\n{more}")).unwrap()
    }

    fn orders(rules: &[Rule], series: &[SeriesFacts], own: &[&str]) -> Vec<Order> {
        let own = |uid: &str| Ok::<_, Infallible>(own.contains(&uid));
        orders_of(rules, series, own, |s| Ok(SeriesFacts { slice_thickness_mm: Some(1.0), ..s.clone() }))
            .unwrap()
    }

    #[test]
    fn nothing_of_our_own_is_ever_answered_even_by_a_rule_that_fits_everything() {
        let all = [rule("all", "plugins = ['p']")];
        let sr = series("1.1", "SR", "Research only - findings");
        let heatmap = series("1.2", "OT", "Research only - Heatmap, p 1.0");
        let renamed = SeriesFacts { manufacturer: Some("AnyMC3D".into()), ..series("1.3", "CT", "x") };
        let known = series("1.4", "CT", "as if it were a scan");
        assert_eq!(orders(&all, &[sr, heatmap, renamed, known.clone()], &["1.4"]), []);
        assert_eq!(orders(&all, &[known], &[]).len(), 1, "without the ledger's word it is a scan");
        // What only a header shows is seen as well.
        let thin = [rule("thin", "plugins = ['p']\nslice_thickness_mm = { max = 2 }")];
        let hidden = |s: &SeriesFacts| {
            Ok::<_, Infallible>(SeriesFacts {
                slice_thickness_mm: Some(1.0),
                manufacturer: Some("AnyMC3D".into()),
                ..s.clone()
            })
        };
        assert_eq!(orders_of(&thin, &[series("1.5", "CT", "x")], |_| Ok(false), hidden), Ok(vec![]));
    }

    #[test]
    fn rules_that_pick_the_same_series_are_one_order() {
        let rules = [
            rule("a", "plugins = ['p', 'q']\nmodality = ['CT']"),
            rule("b", "plugins = ['q', 'r']\nmodality = ['CT']\nslice_thickness_mm = { max = 2 }"),
            rule("c", "plugins = ['s']\nmodality = ['MR']"),
        ];
        let found = orders(&rules, &[series("1.1", "CT", "x"), series("1.2", "MR", "y")], &[]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].rules.len(), found[0].plugins.join(" ")), (2, "p q r".to_owned()));
        assert_eq!(found[1].series, ["1.2"]);
    }

    #[test]
    fn plugins_whose_results_lie_there_are_left_out() {
        let rules = [rule("a", "plugins = ['p', 'q']\nmodality = ['CT']")];
        let study = [series("1.1", "CT", "x"), series("1.2", "OT", "Research only - Preview, p 0.9")];
        let mut found = orders(&rules, &study, &[]);
        assert_eq!(leave_out_answered(&mut found, &study), ["p"]);
        assert_eq!(found[0].plugins, ["q"]);
    }
}
