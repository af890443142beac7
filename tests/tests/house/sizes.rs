//! A function does one thing and a file answers one question: neither outgrows a screen or a sitting.

use crate::source::{code, line, root, rust_files, shipped, words};

/// Most lines of a function, and of a file's code that ships.
const FUNCTION: usize = 90;
const FILE: usize = 450;

/// Files that are longer, and why.
const KEPT: [(&str, &str); 2] = [
    ("plugin-api/src/abi/ops.rs", "one trait: a method for each operation of the table"),
    ("plugin-api/src/tensor.rs", "one type: a method for each operation that an author calls"),
];

/// Where a function's body ends, by its braces; `None` for a declaration without a body.
fn end(code: &str, from: usize) -> Option<usize> {
    let mut brackets = 0usize;
    let mut braces = 0usize;
    let bytes = code.as_bytes();
    for (i, c) in code[from..].char_indices() {
        let at = from + i;
        match c {
            // A character of its own, for example '{'.
            _ if at > 0 && bytes[at - 1] == b'\'' && bytes.get(at + 1) == Some(&b'\'') => {}
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Name, line and length of every function with a body.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let all: Vec<(usize, &str)> = words(code).collect();
    let named =
        all.windows(2).filter(|pair| pair[0].1 == "fn" && code[pair[0].0 + 2..pair[1].0].trim().is_empty());
    let measured = named.filter_map(|pair| {
        let from = line(code, pair[0].0);
        let to = line(code, end(code, pair[0].0)?);
        Some((pair[1].1.to_owned(), from, to - from + 1))
    });
    measured.collect()
}

#[test]
fn no_function_that_ships_is_longer_than_a_screen_and_no_file_answers_several_questions() {
    let (mut long, mut seen) = (Vec::new(), Vec::new());
    for folder in ["host", "plugin-api", "registry", "plugins"] {
        for path in rust_files(&root().join(folder)) {
            let name = path.strip_prefix(root()).expect("a file of the checkout").display().to_string();
            if name.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches") {
                continue;
            }
            let code = code(&path);
            let code = shipped(&code);
            let lines = code.trim_end().lines().count();
            let kept = KEPT.iter().any(|(file, _)| *file == name);
            if lines > FILE {
                match kept {
                    true => seen.push(name.clone()),
                    false => long.push(format!("{name}: {lines} lines, {FILE} at most")),
                }
            }
            let functions = functions(code).into_iter().filter(|(_, _, lines)| *lines > FUNCTION);
            long.extend(functions.map(|(function, at, lines)| {
                format!("{name}, line {at}: `{function}` has {lines} lines, {FUNCTION} at most")
            }));
        }
    }
    assert!(long.is_empty(), "split by question:\n{}", long.join("\n"));
    let stale: Vec<_> = KEPT.iter().filter(|(file, _)| !seen.iter().any(|s| s == file)).collect();
    assert!(stale.is_empty(), "these are short enough and need no reason: {stale:?}");
}

#[test]
fn a_functions_length_is_counted_from_its_name_to_its_last_brace() {
    let code =
        "fn a(x: [u8; 3]) -> u8 {\n  if x { 1 } else {\n 2 }\n}\ntrait T { fn b(); }\nlet f: fn(u8) = a;\n";
    assert_eq!(functions(code), [("a".to_owned(), 1, 4)]);
}
