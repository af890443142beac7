//! A table's cells as spreadsheets and statistics programs write them: separated by comma, semicolon or tab, in UTF-8 or
//! UTF-16, with the rows that a spreadsheet leaves empty.
//!
//! Every reader of tables begins here, so that what is understood, and the line that a message names, are the same
//! everywhere.

use crate::data::table::Problem;
use csv::StringRecord;
use std::path::Path;

/// Separators that are understood; the header decides.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// One row with at least one filled cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetRow {
    /// Line of the file on which it begins, the first being 1.
    pub line: u64,
    /// As many cells as the header has, without surrounding blanks.
    pub cells: StringRecord,
}

/// A header and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// Names of the columns.
    pub header: StringRecord,
    /// Line of the header.
    pub header_line: u64,
    /// Rows with as many cells as the header; empty ones are left out.
    pub rows: Vec<SheetRow>,
    /// What separates the cells.
    separator: u8,
}

impl Sheet {
    /// Reads a file. Rows of another length are named in `problems` and left out; `None` where there is no header.
    pub fn open(path: &Path, problems: &mut Vec<Problem>) -> Option<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes, problems),
            Err(e) => {
                problems.push(Problem { line: None, what: format!("cannot be read: {e}") });
                None
            }
        }
    }

    /// As [`Sheet::open`], of a file's bytes.
    pub fn parse(bytes: &[u8], problems: &mut Vec<Problem>) -> Option<Self> {
        let text = match decode(bytes) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        // A spreadsheet's own way to name the separator: a first line `sep=;`.
        let named = text.strip_prefix("sep=").and_then(|rest| {
            let separator = *rest.as_bytes().first().filter(|c| c.is_ascii())?;
            rest[1..].starts_with(['\r', '\n']).then_some(separator)
        });
        let from = if named.is_some() { 5 } else { 0 };
        let separator =
            named.unwrap_or_else(|| separator(text.lines().find(|l| !l.trim().is_empty()).unwrap_or("")));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .trim(csv::Trim::All)
            .flexible(true)
            .has_headers(false)
            .from_reader(&text.as_bytes()[from..]);
        let mut lines = Lines { text: text.as_bytes(), at: 0, line: 1 };
        let (mut header, mut rows): (Option<(u64, StringRecord)>, Vec<SheetRow>) = (None, Vec::new());
        for record in reader.records() {
            let mut cells = match record {
                Ok(cells) => cells,
                Err(e) => {
                    let line = e.position().map(|p| lines.of(from + p.byte() as usize));
                    problems.push(Problem { line, what: format!("not CSV: {e}") });
                    continue;
                }
            };
            let line = lines.of(from + cells.position().map_or(0, |p| p.byte() as usize));
            if cells.iter().all(str::is_empty) {
                continue;
            }
            let Some((_, header)) = &header else {
                header = Some((line, cells));
                continue;
            };
            let (columns, found) = (header.len(), cells.len());
            if found > columns && cells.iter().skip(columns).all(str::is_empty) {
                cells.truncate(columns);
            }
            if cells.len() == columns {
                rows.push(SheetRow { line, cells });
            } else {
                let what = format!("{found} fields where the header has {columns}");
                problems.push(Problem { line: Some(line), what });
            }
        }
        let Some((header_line, header)) = header else {
            problems.push(Problem {
                line: None,
                what: "is empty; expected a header and one line per case".into(),
            });
            return None;
        };
        Some(Self { header, header_line, rows, separator })
    }

    /// A number; where the separator is no comma, a comma may be the decimal point.
    pub fn number(&self, cell: &str) -> Option<f64> {
        match self.separator {
            b',' => cell.parse().ok(),
            _ => cell.replacen(',', ".", 1).parse().ok(),
        }
    }

    /// The names of the columns, as a message shows them, with the cause where a separator was not understood.
    pub fn found(&self) -> String {
        let names = self.header.iter().collect::<Vec<_>>().join(",");
        let other = ['|', ':', ' '].into_iter().find(|&c| self.header.len() == 1 && names.contains(c));
        match other {
            Some(other) => format!(
                "`{names}`, one column: its names seem to be separated by `{other}`; expected a comma, a semicolon or a tab"
            ),
            None => format!("`{names}`"),
        }
    }
}

/// Text of a table: UTF-8, or UTF-16 as spreadsheets save "Unicode text", without its byte order mark.
fn decode(bytes: &[u8]) -> Result<String, Problem> {
    let refuse = |line: Option<u64>, what: &str| Err(Problem { line, what: what.to_owned() });
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return refuse(None, "is a spreadsheet's workbook and no text; save it as CSV (UTF-8)");
    }
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).collect::<Result<String, _>>().ok()
    };
    // Without a mark, text has a zero in every other byte of its first letters.
    let zeros = |from: usize| bytes.len() > 3 && bytes.iter().take(16).skip(from).step_by(2).all(|b| *b == 0);
    let utf16 = match bytes {
        [0xff, 0xfe, text @ ..] => Some(wide(text, u16::from_le_bytes)),
        [0xfe, 0xff, text @ ..] => Some(wide(text, u16::from_be_bytes)),
        _ if zeros(1) => Some(wide(bytes, u16::from_le_bytes)),
        _ if zeros(0) => Some(wide(bytes, u16::from_be_bytes)),
        _ => None,
    };
    match utf16 {
        Some(Some(text)) => return Ok(text),
        Some(None) => return refuse(None, "begins as UTF-16 and is none; save it as CSV (UTF-8)"),
        None => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(e) => {
            let line = Lines { text: bytes, at: 0, line: 1 }.of(e.valid_up_to());
            refuse(Some(line), "has a letter that is not UTF-8; save the table as CSV (UTF-8)")
        }
    }
}

/// The separator under which the header has a column `case`; else the one that occurs, comma first.
fn separator(header: &str) -> u8 {
    let has_case = |s: &u8| {
        let cells: Vec<&str> = header.split(char::from(*s)).map(|c| c.trim().trim_matches('"')).collect();
        cells.len() > 1 && cells.contains(&"case")
    };
    let occurs = |s: &u8| header.contains(char::from(*s));
    let found = SEPARATORS.into_iter().find(has_case).or_else(|| SEPARATORS.into_iter().find(occurs));
    found.unwrap_or(b',')
}

/// Counts lines up to a place in the text. The csv crate's own count is one too low after `\r\n`, whose `\n` it has not
/// yet read where a record begins, and does not see empty lines.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the first letter at or after byte `place`, which never goes back.
    fn of(&mut self, place: usize) -> u64 {
        let is_break = |byte: Option<&u8>| matches!(byte, Some(b'\r' | b'\n'));
        while self.at < place.min(self.text.len()) || is_break(self.text.get(self.at)) {
            match (self.text[self.at], self.text.get(self.at + 1)) {
                (b'\r', Some(b'\n')) => {}
                (b'\r' | b'\n', _) => self.line += 1,
                _ => {}
            }
            self.at += 1;
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Sheet, Vec<Problem>) {
        let mut problems = Vec::new();
        (Sheet::parse(bytes, &mut problems).unwrap(), problems)
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn semicolons_tabs_and_utf16_give_the_cells_of_a_comma_table() {
        let comma = read("case,image,á\na,a.nii,1\n".as_bytes()).0;
        let tab = "case\timage\tá\r\na\ta.nii\t1\r\n";
        let marked = [vec![0xff, 0xfe], utf16(tab)].concat();
        let others = [
            "\u{feff}case;image;á\na;a.nii;1\n".as_bytes().to_vec(),
            tab.as_bytes().to_vec(),
            marked,
            utf16(tab),
            "sep=;\ncase;image;á\na;a.nii;1\n".as_bytes().to_vec(),
        ];
        for other in others {
            let (found, problems) = read(&other);
            assert_eq!((&found.header, &found.rows[0].cells), (&comma.header, &comma.rows[0].cells));
            assert!(problems.is_empty(), "{problems:?}");
        }
    }

    #[test]
    fn empty_rows_and_empty_cells_behind_the_header_are_left_out() {
        let (found, problems) = read(b"case,a\n,\nx,1,,\n\n,,,\ny,0\n,\n");
        assert_eq!(found.rows.iter().map(|r| r.line).collect::<Vec<_>>(), [3, 6]);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn lines_are_counted_as_an_editor_counts_them() {
        for (text, lines) in [
            ("case,a\r\nx,1\r\ny,0\r\n", [2, 3]),
            ("case,a\n\nx,1\n\n\ny,0\n", [3, 6]),
            ("case,a\r\n\"x\r\nx\",1\r\ny,0", [2, 4]),
            ("case,a\rx,1\ry,0", [2, 3]),
        ] {
            let found: Vec<u64> = read(text.as_bytes()).0.rows.iter().map(|r| r.line).collect();
            assert_eq!(found, lines, "{text:?}");
        }
        let (_, problems) = read(b"case,a\r\nx,1\r\ny,0,1\r\n");
        assert_eq!(problems[0], Problem { line: Some(3), what: "3 fields where the header has 2".into() });
    }

    #[test]
    fn a_comma_is_a_decimal_point_only_where_it_separates_nothing() {
        assert_eq!(read(b"case;p\na;0,25\n").0.number("0,25"), Some(0.25));
        assert_eq!(read(b"case,p\na,1\n").0.number("0,25"), None);
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_cause() {
        let refused = |bytes: &[u8]| {
            let mut problems = Vec::new();
            assert!(Sheet::parse(bytes, &mut problems).is_none());
            problems.remove(0)
        };
        assert!(
            refused(b"PK\x03\x04...").what.contains("a spreadsheet's workbook and no text; save it as CSV")
        );
        let latin = refused(b"case,a\r\nM\xfcller,1\r\n");
        assert!(latin.line == Some(2) && latin.what.contains("not UTF-8"), "{latin:?}");
        assert!(refused(b"").what.contains("is empty"));
        assert!(read(b"case|a|p_a\n").0.found().contains("separated by `|`; expected a comma"));
    }
}
