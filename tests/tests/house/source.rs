//! Source files as the rules read them: without comments, strings and inline test modules.

use std::path::{Path, PathBuf};

/// The checkout's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout").to_owned()
}

/// Every `.rs` file below `folder`, sorted.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A file's code: comments and the contents of strings become spaces, so that line numbers stay.
pub fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    blanked(&text)
}

/// The part before `#[cfg(test)] mod … {`: what ships.
pub fn shipped(code: &str) -> &str {
    let inline = |at: &usize| {
        let module = code[*at + "#[cfg(test)]".len()..].trim_start();
        module.starts_with("mod ") && module[..module.find([';', '{']).map_or(0, |i| i + 1)].ends_with('{')
    };
    let first = code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(inline);
    &code[..first.unwrap_or(code.len())]
}

fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes[i..].starts_with(b"//") => find(bytes, i, b"\n"),
            b'/' if bytes[i..].starts_with(b"/*") => find(bytes, i, b"*/") + 2,
            b'"' => string_end(bytes, i),
            b'r' if raw_hashes(&bytes[i + 1..]).is_some() && !is_word(bytes, i) => {
                let hashes = raw_hashes(&bytes[i + 1..]).unwrap_or(0);
                let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
                find(bytes, i + hashes + 2, &close) + close.len()
            }
            // A character that could be taken for the start of a string; a lifetime has no closing quote.
            b'\'' if bytes[i + 1..].starts_with(b"\"'") => i + 3,
            b'\'' if bytes[i + 1..].starts_with(b"\\") => find(bytes, i + 3, b"'") + 1,
            _ => {
                i += 1;
                continue;
            }
        };
        let end = end.min(bytes.len());
        for byte in &mut out[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(what.len()).position(|w| w == what).map_or(bytes.len(), |at| from + at)
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// How many `#` stand before the quote of a raw string, where one begins here.
fn raw_hashes(bytes: &[u8]) -> Option<usize> {
    let hashes = bytes.iter().take_while(|b| **b == b'#').count();
    (bytes.get(hashes) == Some(&b'"')).then_some(hashes)
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// The names of a piece of code, each with what stands before and after it.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.split(move |c| !is_word(c))
        .filter(|w| !w.is_empty())
        .map(move |word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// The line of a place in a text, from 1.
pub fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[test]
fn comments_and_strings_are_no_code_and_lines_stay() {
    let text = "a /* crate::x */ \"crate::\\\"y\" // crate::z\nr#\"struct \"Desk\"\"# '\"' b 'c' d";
    let code = blanked(text);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "'c'", "d"]);
    assert_eq!(code.len(), text.len());
    assert_eq!(line(&code, code.find('d').unwrap()), 2);
    let code = "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod more {\nfn c() {}\n}";
    assert!(shipped(code).contains("fn b") && !shipped(code).contains("fn c"));
}
