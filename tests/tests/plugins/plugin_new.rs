//! `host plugin new` as a user types it: what it refuses, and that what it writes is a plugin.

use anymc3d_host::task::open_library;
use anymc3d_tests::support;
use anymc3d_tests::{host_binary, workspace};
use std::path::Path;
use std::process::{Command, Output};

fn new(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(host_binary()).args(["plugin", "new"]).args(arguments).current_dir(folder).output().unwrap()
}

fn refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = new(folder, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert!(text.trim_end().lines().count() == 1 && text.starts_with("error: "), "{arguments:?}: {text}");
    assert!(words.iter().all(|w| text.contains(w)), "{arguments:?}: {text}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bad_name_or_list_or_a_folder_in_use_is_refused_in_one_line_and_nothing_is_left() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    refused(folder, &["Liver"], &["name `Liver`", "a letter first"]);
    refused(folder, &["../liver"], &["name `../liver`"]);
    refused(folder, &["match"], &["word of Rust", "match_task"]);
    refused(folder, &["liver", "--labels", "a,b,a"], &["--labels", "`a` twice"]);
    refused(folder, &["liver", "--labels", "a,"], &["--labels: ``"]);
    refused(folder, &["liver", "--views", "axial,axial"], &["--views", "`axial` twice"]);
    refused(folder, &["liver", "--kind", "multiclass"], &["two classes or more"]);
    refused(folder, &["liver", "--plugin-api", "nowhere"], &["--plugin-api nowhere", "1.0"]);
    let wrong = workspace().join("host");
    refused(
        folder,
        &["liver", "--plugin-api", wrong.to_str().unwrap()],
        &["anymc3d-host", "anymc3d-plugin-api"],
    );
    assert_eq!(names(folder), [""; 0]);

    std::fs::create_dir(folder.join("taken")).unwrap();
    std::fs::write(folder.join("taken/notes.txt"), "mine").unwrap();
    refused(folder, &["liver", "taken"], &["taken: is not empty"]);
    std::fs::write(folder.join("file"), "mine").unwrap();
    refused(folder, &["liver", "file"], &["file: "]);
    assert_eq!(names(folder), ["file", "taken"]);
    assert_eq!(names(&folder.join("taken")), ["notes.txt"]);
}

#[test]
fn the_new_crate_builds_from_what_the_host_carries_and_is_a_plugin() {
    let place = tempfile::tempdir().unwrap();
    // An empty folder that is there already will do.
    std::fs::create_dir(place.path().join("liver")).unwrap();
    let wishes = ["liver", "--views", "axial,coronal", "--labels", "injury,cyst", "--segmentation"];
    let output = new(place.path(), &wishes);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "liver");
    assert_eq!(names(place.path()), ["liver"]);
    let crate_folder = place.path().join("liver");
    assert!(!std::fs::read_to_string(crate_folder.join("Cargo.toml")).unwrap().contains("../"));
    let library = support::standing(&crate_folder, "liver");
    let library = open_library(library.to_str().unwrap()).unwrap();
    let manifest = &library.embedded.manifest;
    assert_eq!(manifest.task.labels, ["injury", "cyst"]);
    assert_eq!(manifest.views.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["axial", "coronal"]);
    assert!(library.embedded.unknown_keys.is_empty());
}

#[test]
fn a_folder_and_a_version_of_plugin_api_stand_in_the_manifest_instead_of_the_copy() {
    let place = tempfile::tempdir().unwrap();
    let api = workspace().join("plugin-api");
    assert!(new(place.path(), &["one", "--plugin-api", api.to_str().unwrap()]).status.success());
    assert!(new(place.path(), &["two", "--plugin-api", "1.0"]).status.success());
    let manifest = |name: &str| std::fs::read_to_string(place.path().join(name).join("Cargo.toml")).unwrap();
    assert!(manifest("one").contains(&format!("path = \"{}\"", api.display())), "{}", manifest("one"));
    assert!(manifest("two").contains("version = \"1.0\""), "{}", manifest("two"));
    assert!(!place.path().join("one/vendor").exists() && !place.path().join("two/vendor").exists());
}
