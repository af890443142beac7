//! Small tables of text, and sizes for people.

/// Rows with their columns aligned to the left, two spaces apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(text, &width)| format!("{text:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `("name", value)` pairs as a table; those without a value are left out.
pub(super) fn facts<const N: usize>(facts: [(&str, String); N]) -> String {
    let rows = facts.into_iter().filter(|(_, value)| !value.is_empty());
    table(&rows.map(|(name, value)| vec![name.to_owned(), value]).collect::<Vec<_>>())
}

/// `84.2 MB`
pub(super) fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} kB", b / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_without_trailing_spaces() {
        let rows = [["a", "bb", "c"], ["aaa", "b", ""]].map(|r| r.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "a    bb  c\naaa  b");
        assert_eq!(size(88_250_000), "88.2 MB");
    }
}
