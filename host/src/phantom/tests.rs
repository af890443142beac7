//! What all phantoms share.

use super::*;

#[test]
fn an_unknown_phantom_is_refused_with_the_known_ones_named() {
    let error = generate("knee", 0, 0).unwrap_err().to_string();
    assert_eq!(error, "no phantom is called `knee`; there is: lung_nodule, brain_mri, liver_injury");
}

#[test]
fn the_classes_of_every_phantom_are_equally_frequent() {
    for task in &TASKS {
        let mut counts = vec![0; task.classes.len()];
        for index in 0..4000 {
            counts[class_of(draw::case_key(task.name, 3, index), task.classes.len())] += 1;
        }
        let expected = 4000 / task.classes.len() as i32;
        for (class, &count) in task.classes.iter().zip(&counts) {
            assert!((count - expected).abs() < 130, "{} {class}: {count} of 4000", task.name);
        }
    }
}
