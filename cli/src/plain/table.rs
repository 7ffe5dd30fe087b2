/// Aligns columns by spaces; the last one is left ragged.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_align_and_short_rows_are_fine() {
        let rows = [vec!["a", "bb", "c"], vec!["aaa", "…"]];
        let rows = rows.map(|row| row.into_iter().map(ToOwned::to_owned).collect());
        assert_eq!(aligned(&rows), "a    bb  c\naaa  …");
    }
}
