//! The file that `labels` of a manifest names.

use super::{Mistake, text::text};

/// Most bytes of a file of labels. A worker holds the labels of its models in memory.
pub const LABELS_BYTES_MAX: usize = 4 << 20;
/// Most mistakes that are named for one file.
const MISTAKES_MAX: usize = 100;

/// One label for each line, in the order of the output. Lines end with LF or CRLF. Blank lines at the end are left out.
///
/// # Errors
/// Each blank line before the last label, by its number: it would give a class an empty name, or shift the labels. Or the
/// file has no label, is not UTF-8, or is too long.
pub fn read_labels(bytes: &[u8]) -> Result<Vec<String>, Vec<Mistake>> {
    let mistake = |detail: String| Mistake {
        field: "labels".into(),
        detail,
    };
    if bytes.len() > LABELS_BYTES_MAX {
        let detail = format!("the file has more than {LABELS_BYTES_MAX} bytes");
        return Err(vec![mistake(detail)]);
    }
    let text = text(bytes).map_err(|detail| vec![mistake(format!("the file: {detail}"))])?;
    let mut labels: Vec<&str> = text.lines().collect();
    while labels.pop_if(|last| last.trim().is_empty()).is_some() {}
    if labels.is_empty() {
        return Err(vec![mistake("the file has no label".into())]);
    }
    let blank = labels
        .iter()
        .enumerate()
        .filter(|(_, label)| label.trim().is_empty());
    let blank: Vec<_> = blank
        .map(|(index, _)| mistake(format!("line {} of the file is blank", index + 1)))
        .take(MISTAKES_MAX)
        .collect();
    if !blank.is_empty() {
        return Err(blank);
    }
    Ok(labels.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::read_labels;

    fn refused(bytes: &[u8]) -> Vec<String> {
        let mistakes = read_labels(bytes).expect_err("refused").into_iter();
        mistakes.map(|mistake| mistake.to_string()).collect()
    }

    #[test]
    fn labels_are_lines_whatever_the_editor_that_wrote_them() {
        for text in [
            "tabby cat\ndog",
            "tabby cat\ndog\n",
            "tabby cat\r\ndog\r\n\r\n \n\n",
            "\u{feff}tabby cat\r\ndog",
        ] {
            assert_eq!(
                read_labels(text.as_bytes()),
                Ok(vec!["tabby cat".into(), "dog".into()])
            );
        }
    }

    #[test]
    fn a_blank_line_between_labels_is_named_by_its_number() {
        let mistakes = refused(b"\ncat\r\n\r\ndog\n\n");
        let expected = [
            "labels: line 1 of the file is blank",
            "labels: line 3 of the file is blank",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn a_file_that_is_no_list_of_labels_is_refused() {
        assert_eq!(refused(b"\n \n"), ["labels: the file has no label"]);
        assert!(refused(b"\xff\xfec\0")[0].contains("UTF-16"));
        assert!(refused(b"cat\nd\xe9j\xe0 vu\n")[0].contains("line 2 is not UTF-8"));
    }
}
