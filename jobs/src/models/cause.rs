/// Most characters of a cause that is kept with a version.
const CAUSE_CHARS_MAX: usize = 2000;

/// The first lines of an error text, for a column of 2000 characters: whole lines if one ends within the limit. NUL, which Postgres
/// refuses, is left out.
pub(super) fn first_lines(text: &str) -> String {
    let text = text.trim().chars().filter(|char| *char != '\0');
    let mut text: Vec<char> = text.take(CAUSE_CHARS_MAX + 1).collect();
    if text.len() > CAUSE_CHARS_MAX {
        let last_end = text.iter().rposition(|char| *char == '\n');
        text.truncate(last_end.unwrap_or(CAUSE_CHARS_MAX));
    }
    text.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::first_lines;

    #[test]
    fn a_long_cause_keeps_its_first_whole_lines() {
        assert_eq!(first_lines("  short\0er \n"), "shorter");
        let line = "é".repeat(999);
        let cause = first_lines(&format!("{line}\n{line}\n{line}"));
        assert_eq!(cause, format!("{line}\n{line}"));
        assert_eq!(first_lines(&"é".repeat(3000)).chars().count(), 2000);
    }
}
