//! Names that this project gave up for the field's words: nothing is defined by them any more.

use crate::source::{code, line, root, rust_files, words};

/// What may not be the name of a struct, enum, trait, function, module or variant.
const NAMES: [&str; 43] = [
    "Adapted",
    "Ahead",
    "Apart",
    "Ask",
    "Desk",
    "End",
    "Ended",
    "Ground",
    "Hidden",
    "Hopeless",
    "Kept",
    "Learned",
    "Opening",
    "Origin",
    "Progressed",
    "Room",
    "Said",
    "Saved",
    "Seat",
    "Seated",
    "Setting",
    "Subject",
    "Told",
    "Who",
    "carry_out",
    "drawn",
    "expect",
    "further",
    "judge",
    "learn",
    "offences",
    "open_seated",
    "prefixed",
    "reads_ahead",
    "seat",
    "some",
    "take_on",
    "told",
    "turn",
    "unseen",
    "untaught",
    "withdrawn",
    "words",
];
/// What may not be the name of a module, in a file of its own or inside another.
const MODULES: [&str; 6] = ["back", "container", "frozen", "plan", "slices", "whole"];

/// Definitions that stay: file, name, why.
const KEPT: [(&str, &str, &str); 6] = [
    ("plugin-api/src/segmentation.rs", "some", "authors write `.some()`; it is public since plugin-api 1.0"),
    ("plugin-api/src/testkit/report.rs", "Told", "a variant of the public Outcome since plugin-api 1.0"),
    ("host/src/output/drawing/mod.rs", "End", "a text's anchor, as SVG calls it (start, middle, end)"),
    (
        "host/src/scan/slices.rs",
        "slices",
        "the module that cuts slices; the one that was renamed is the backbone's",
    ),
    ("host/src/scan/mod.rs", "slices", "as above"),
    ("host/dicom/src/attributes.rs", "words", "16-bit words, as DICOM calls the values of OW and US"),
];

/// What a file defines: place, keyword, name.
fn defined(code: &str) -> Vec<(usize, &str, &str)> {
    let all: Vec<(usize, &str)> = words(code).collect();
    let mut found = Vec::new();
    for pair in all.windows(2) {
        let [(_, keyword), (at, name)] = *pair else { continue };
        // `use … as NAME` names a thing as much as a definition does; `x as NAME` in an expression is a cast to a type.
        if ["struct", "enum", "union", "trait", "type", "fn", "mod", "as"].contains(&keyword) {
            found.push((at, keyword, name));
        }
    }
    for (at, _) in all.iter().filter(|(_, word)| *word == "enum") {
        found.extend(variants(&code[*at..]).into_iter().map(|(offset, name)| (at + offset, "variant", name)));
    }
    found
}

/// The names of the variants of an enum whose code begins here.
fn variants(code: &str) -> Vec<(usize, &str)> {
    let Some(open) = code.find('{') else { return Vec::new() };
    let (mut depth, mut fresh, mut found) = (0, false, Vec::new());
    let mut skip = 0;
    for (at, c) in code.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' | '(' | '[' => {
                depth += 1;
                fresh = fresh || depth == 1;
            }
            '}' | ')' | ']' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            c if depth == 1 && fresh && at >= skip && c.is_alphabetic() => {
                let length = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(0);
                found.push((at, &code[at..at + length]));
                (fresh, skip) = (false, at + length);
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

#[test]
fn nothing_is_defined_by_a_name_that_was_given_up() {
    let mut used = vec![false; KEPT.len()];
    let mut wrong = Vec::new();
    for folder in ["host", "plugin-api", "registry"] {
        for path in rust_files(&root().join(folder)) {
            let file = path.strip_prefix(root()).expect("a file of the checkout").display().to_string();
            let text = code(&path);
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut all = defined(&text);
            all.push((0, "mod", &stem));
            for (at, keyword, name) in all {
                let given_up = NAMES.contains(&name) || keyword == "mod" && MODULES.contains(&name);
                if !given_up {
                    continue;
                }
                match KEPT.iter().position(|(f, n, _)| *f == file && *n == name) {
                    Some(kept) => used[kept] = true,
                    None => wrong.push(format!("{file}, line {}: {keyword} {name}", line(&text, at))),
                }
            }
        }
    }
    let stale = KEPT.iter().zip(&used).filter(|(_, used)| !**used).map(|(kept, _)| *kept).collect::<Vec<_>>();
    assert!(wrong.is_empty(), "use the field's word, or name it here with a reason:\n{}", wrong.join("\n"));
    assert!(stale.is_empty(), "these are gone and need no reason any more: {stale:?}");
}

#[test]
fn definitions_and_variants_are_found() {
    let code = "pub(crate) struct Scan; enum A { Slice, Other { Field: u8 }, B(Token), } fn slice() {} use x::Y as Case;";
    let names: Vec<&str> = defined(code).into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(names, ["Scan", "A", "slice", "Case", "Slice", "Other", "B"]);
}
