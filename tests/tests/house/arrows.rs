//! Arrows between rooms run down the list of host/src/lib.rs, and files of a room know each other in one direction.

use crate::source::{code, line, root, rust_files, shipped, words};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Pairs of files that know each other, and why that is good.
const PAIRS: [(&str, &str, &str); 10] = [
    ("scan/nifti/source", "scan/source", "a format of scans implements the trait of the list that names it"),
    ("scan/dicom", "scan/source", "a format of scans implements the trait of the list that names it"),
    ("scan/npz", "scan/source", "a format of scans implements the trait of the list that names it"),
    ("scan/nrrd", "scan/source", "a format of scans implements the trait of the list that names it"),
    ("scan/metaimage", "scan/source", "a format of scans implements the trait of the list that names it"),
    (
        "scan/nifti/read",
        "scan/nifti/source",
        "the reader asks for its files, and the source opens them by the reader",
    ),
    (
        "scan/scan",
        "scan/canonical",
        "a Scan is turned into its canonical Volume and back: one idea in two files",
    ),
    (
        "scan/scan",
        "scan/modality",
        "reading a Scan guesses its modality, and the guess looks at the Scan's voxels",
    ),
    ("scan/slice_grid", "scan/planes", "a SliceGrid makes the ScanPlanes that put values back onto the scan"),
    ("scan/scan", "scan/source", "a Scan is opened by the format that knows its path"),
];

/// A module's path below the crate, for example `["scan", "nifti", "read"]`.
type Module = Vec<String>;

/// The rooms from the ground up, as the library's first lines list them.
fn rooms() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("host/src/lib.rs")).expect("host/src/lib.rs");
    let header: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
    let listed: Vec<String> = header
        .split("[`")
        .skip(1)
        .filter_map(|rest| rest.split_once("`]").map(|(room, _)| room.to_owned()))
        .collect();
    let modules = text.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'));
    let modules: BTreeSet<&str> = modules.collect();
    assert_eq!(
        listed.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        modules,
        "lib.rs lists every room"
    );
    assert_eq!(listed.len(), modules.len(), "lib.rs lists every room once: {listed:?}");
    listed
}

/// The modules of the host's library and their code without tests.
fn modules() -> BTreeMap<Module, String> {
    let source = root().join("host/src");
    let module = |path: &Path| -> Module {
        let relative = path.strip_prefix(&source).expect("a file of the library").with_extension("");
        let mut module: Module = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        module
    };
    let files = rust_files(&source).into_iter().map(|path| (module(&path), code(&path)));
    let ships = |m: &Module| !m.iter().any(|name| name == "tests" || name == "lib");
    files.filter(|(m, _)| ships(m)).map(|(m, code)| (m, shipped(&code).to_owned())).collect()
}

/// A path that a file writes, from the crate's root, and whether a `pub use` only passes it on.
struct Path_ {
    at: usize,
    full: Module,
    passed_on: bool,
}

/// What a `use` names: `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn expanded(before: &[String], tree: &str) -> Vec<Module> {
    let tree = tree.trim();
    let (path, group) = match tree.find('{') {
        Some(open) => (&tree[..open], tree[open + 1..].rsplit_once('}').map(|(inside, _)| inside)),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let names = path.split("::").map(str::trim).filter(|name| !name.is_empty());
    let mut full = before.to_vec();
    full.extend(names.map(str::to_owned));
    let Some(group) = group else { return vec![full] };
    let (mut depth, mut begin, mut all) = (0, 0, Vec::new());
    for (i, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[begin..i].trim().is_empty() {
                    all.extend(expanded(&full, &group[begin..i]));
                }
                begin = i + 1;
            }
            _ => {}
        }
    }
    all
}

/// The paths of a file that begin with `crate`, `super`, `self` or a module of its own.
fn paths(module: &Module, code: &str, all: &BTreeMap<Module, String>) -> Vec<Path_> {
    let absolute = |written: Module| -> Option<Module> {
        let mut rest = written.as_slice();
        let mut base = module.clone();
        match rest.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "super" | "self" => {
                while let Some(first) = rest.first().filter(|n| *n == "super" || *n == "self") {
                    if first == "super" {
                        base.pop();
                    }
                    rest = &rest[1..];
                }
            }
            own => {
                let child = [module.as_slice(), &[own.to_owned()]].concat();
                all.contains_key(&child).then_some(())?;
            }
        }
        base.extend(rest.iter().filter(|name| *name != "self").cloned());
        Some(base)
    };
    let mut found = Vec::new();
    let mut uses = Vec::new();
    for (at, _) in words(code).filter(|(_, word)| *word == "use") {
        let Some(end) = code[at..].find(';') else { continue };
        let before = code[..at].trim_end();
        let passed_on = before.ends_with("pub") || before.ends_with(')');
        uses.push(at..at + end);
        let named = expanded(&[], &code[at + "use".len()..at + end]).into_iter().filter_map(&absolute);
        found.extend(named.map(|full| Path_ { at, full, passed_on }));
    }
    // Paths in the code itself.
    let written = |(at, word): (usize, &str)| -> Option<Path_> {
        let inside = code[..at].ends_with("::") || uses.iter().any(|range| range.contains(&at));
        if inside || !code[at + word.len()..].starts_with("::") {
            return None;
        }
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let path = code[at..].split(|c| !is_path(c)).next()?;
        let full = absolute(path.split("::").filter(|n| !n.is_empty()).map(str::to_owned).collect())?;
        Some(Path_ { at, full, passed_on: false })
    };
    found.extend(words(code).filter_map(written));
    found
}

/// The file that a path leads to, through what other files pass on.
fn target(
    full: &Module,
    passed_on: &BTreeMap<Module, Module>,
    all: &BTreeMap<Module, String>,
) -> Option<Module> {
    let mut full = full.clone();
    for _ in 0..8 {
        let file = (0..=full.len()).rev().map(|n| full[..n].to_vec()).find(|m| all.contains_key(m))?;
        let Some(name) = full.get(file.len()) else { return Some(file) };
        match passed_on.get(&[file.as_slice(), std::slice::from_ref(name)].concat()) {
            Some(other) => full = [other.as_slice(), &full[file.len() + 1..]].concat(),
            None => return Some(file),
        }
    }
    None
}

#[test]
fn no_arrow_between_rooms_runs_up_the_list_of_the_library() {
    let (rooms, all) = (rooms(), modules());
    let height = |room: &String| rooms.iter().position(|r| r == room);
    let mut up = Vec::new();
    for (module, code) in &all {
        let here = height(&module[0]).unwrap_or_else(|| panic!("{module:?} is in no room of lib.rs"));
        for path in paths(module, code, &all) {
            let there = path.full.first().and_then(height);
            if there.is_some_and(|there| there > here) {
                let line = line(code, path.at);
                up.push(format!("{}, line {line}: {}", module.join("/"), path.full.join("::")));
            }
        }
    }
    assert!(up.is_empty(), "arrows that run up the list of host/src/lib.rs:\n{}", up.join("\n"));
}

#[test]
fn files_of_a_room_know_each_other_in_one_direction() {
    let all = modules();
    let written: BTreeMap<&Module, Vec<Path_>> =
        all.iter().map(|(m, code)| (m, paths(m, code, &all))).collect();
    let mut passed_on = BTreeMap::new();
    for (module, paths) in &written {
        for path in paths.iter().filter(|path| path.passed_on) {
            if let Some(name) = path.full.last() {
                passed_on.insert([module.as_slice(), std::slice::from_ref(name)].concat(), path.full.clone());
            }
        }
    }
    // A module and the modules inside it are read together: the parent offers its types and calls its children.
    let family = |a: &Module, b: &Module| a.starts_with(b) || b.starts_with(a);
    let known =
        |a: &str, b: &str| PAIRS.iter().position(|(x, y, _)| (*x, *y) == (a, b) || (*x, *y) == (b, a));
    // Of each pair, which of the two knows the other.
    let mut seen: [BTreeSet<String>; PAIRS.len()] = Default::default();
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, paths) in &written {
        for path in paths.iter().filter(|path| !path.passed_on) {
            let Some(file) = target(&path.full, &passed_on, &all) else { continue };
            let (from, to) = (module.join("/"), file.join("/"));
            match known(&from, &to) {
                Some(pair) => drop(seen[pair].insert(from)),
                None if family(module, &file) => {}
                None => drop(knows.entry(from).or_default().insert(to)),
            }
        }
    }
    let mut circles = BTreeSet::new();
    for start in knows.keys() {
        if let Some(mut circle) = circle(start, &knows) {
            let least = (0..circle.len()).min_by_key(|i| &circle[*i]).unwrap_or(0);
            circle.rotate_left(least);
            circles.insert(circle.join(" -> "));
        }
    }
    let circles: Vec<String> = circles.into_iter().collect();
    assert!(
        circles.is_empty(),
        "files that know each other in a circle:\n{}\nput what both need into a file of its own, or name the pair in \
         tests/tests/house/arrows.rs with a reason",
        circles.join("\n")
    );
    let stale: Vec<_> = PAIRS.iter().zip(&seen).filter(|(_, s)| s.len() < 2).map(|(pair, _)| pair).collect();
    assert!(stale.is_empty(), "these are no circles any more and need no reason: {stale:?}");
}

/// The shortest way from a file back to itself.
fn circle(start: &str, knows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut queue = std::collections::VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = queue.pop_front() {
        for next in way.last().and_then(|last| knows.get(last)).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                queue.push_back([way.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}
