//! Tables in Markdown.

/// The cells of every table in `page` whose header starts with these columns.
pub fn rows(page: &str, header: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        let Some(cells) = cells(line) else {
            is_inside = false;
            continue;
        };
        if cells.iter().map(String::as_str).eq(header.iter().copied()) {
            is_inside = true;
        } else if is_inside && !cells.iter().all(|cell| cell.chars().all(|c| c == '-' || c == ':'))
        {
            assert_eq!(cells.len(), header.len(), "a row has another number of cells: {line}");
            found.push(cells);
        }
    }
    found
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
}

#[test]
fn rows_of_a_table_are_found_by_its_header() {
    let page = "| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n|---|\n| 3 |\n";
    assert_eq!(rows(page, &["a", "b"]), [["1", "2"]]);
    assert_eq!(rows(page, &["c"]), [["3"]]);
}
