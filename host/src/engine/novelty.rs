//! How far a case is from those that a task was trained on.

use super::result::Novelty;
use crate::task::Reference;

/// Of the view that lies farthest out, by the limit of its training cases; `vectors` by the view's name. `None` where the
/// reference knows none of them.
pub(super) fn novelty(reference: &Reference, vectors: &[(String, Vec<f32>)]) -> Option<Novelty> {
    let of_view = |(name, vector): &(String, Vec<f32>)| {
        let view = reference.of_view(name)?;
        let (distance, limit) = (view.distance(vector), view.limit());
        Some(Novelty {
            view: (reference.views.len() > 1).then(|| name.clone()),
            distance,
            percentile: view.percentile(distance),
            outside: distance > limit,
            limit,
            reference_cases: view.cases,
        })
    };
    let share = |n: &Novelty| n.distance / n.limit;
    vectors.iter().filter_map(of_view).max_by(|a, b| share(a).total_cmp(&share(b)))
}

/// What to tell of a case that is unlike the training cases.
pub(super) fn warning(novelty: &Novelty) -> Option<String> {
    let Novelty { view, distance, limit, reference_cases, .. } = novelty;
    let of_view = view.as_ref().map_or(String::new(), |view| format!(" in view {view}"));
    novelty.outside.then(|| {
        format!(
            "the scan is unlike those that the weights were trained on{of_view}: its distance from them is {distance:.1}, and 99.5 % \
             of the {reference_cases} training cases are within {limit:.1}; nobody knows how well the prediction works on it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{REFERENCE_STEPS, ViewReference};

    fn view(name: &str, limit: f32) -> ViewReference {
        ViewReference {
            view: name.to_owned(),
            after_blocks: Some(1),
            cases: 40,
            mean: vec![0.0; 2],
            directions: Vec::new(),
            variances: Vec::new(),
            residual_variance: 1.0,
            quantiles: (0..=REFERENCE_STEPS).map(|i| limit * i as f32 / 199.0).collect(),
        }
    }

    #[test]
    fn of_several_views_the_one_that_lies_farthest_out_is_told() {
        let reference = Reference { views: vec![view("t1", 10.0), view("t2", 2.0)] };
        let vectors = [("t1".to_owned(), vec![3.0, 4.0]), ("t2".to_owned(), vec![0.0, 3.0])];
        let found = novelty(&reference, &vectors).unwrap();
        assert_eq!((found.view.as_deref(), found.distance, found.outside), (Some("t2"), 3.0, true));
        assert!(warning(&found).unwrap().contains("in view t2: its distance from them is 3.0"));
        let found = novelty(&reference, &vectors[..1]).unwrap();
        assert_eq!((found.outside, found.reference_cases, warning(&found)), (false, 40, None));
        assert_eq!(novelty(&reference, &[("flair".to_owned(), vec![0.0, 0.0])]), None);
    }

    #[test]
    fn a_task_of_one_view_does_not_name_it() {
        let reference = Reference { views: vec![view("axial", 1.0)] };
        let found = novelty(&reference, &[("axial".to_owned(), vec![0.0, 2.0])]).unwrap();
        assert_eq!((found.view.clone(), found.percentile), (None, 100.0));
        assert!(warning(&found).unwrap().contains("trained on: its distance"));
    }
}
