//! Computes one page of a listing: keys in order, grouped by their common prefix if there is a delimiter. No I/O.

use super::object_file::Description;

/// One page of a listing.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Description>,
    pub(crate) prefixes: Vec<String>,
    /// The last key or prefix of this page, if a next page follows.
    pub(crate) next: Option<String>,
}

/// Returns the first `limit` objects and common prefixes after `after`.
///
/// `all` is sorted by key, and all its keys start with `prefix`.
pub(crate) fn page(
    all: Vec<Description>,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> Page {
    let mut page = Page::default();
    let mut last = None;
    for object in all {
        let common_prefix = delimiter.and_then(|delimiter| {
            let rest = &object.key[prefix.len()..];
            let end = rest.find(delimiter)? + delimiter.len();
            Some(object.key[..prefix.len() + end].to_owned())
        });
        let name = common_prefix.as_ref().unwrap_or(&object.key);
        let seen = after.is_some_and(|after| name.as_str() <= after);
        if seen || (common_prefix.is_some() && page.prefixes.last() == common_prefix.as_ref()) {
            continue;
        }
        if page.objects.len() + page.prefixes.len() == limit {
            page.next = last;
            break;
        }
        last = Some(name.clone());
        match common_prefix {
            Some(common_prefix) => page.prefixes.push(common_prefix),
            None => page.objects.push(object),
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(keys: &[&str], delimiter: Option<&str>, after: Option<&str>) -> String {
        let object = |key: &&str| Description {
            key: (*key).into(),
            size_bytes: 0,
            sha256: String::new(),
            content_type: None,
            metadata: std::collections::BTreeMap::new(),
            written_at_us: 0,
        };
        let page = page(keys.iter().map(object).collect(), "", delimiter, after, 2);
        let keys: Vec<_> = page.objects.into_iter().map(|object| object.key).collect();
        format!(
            "{} | {} | {}",
            keys.join(" "),
            page.prefixes.join(" "),
            page.next.as_deref().unwrap_or("end")
        )
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        assert_eq!(page_of(&["a", "b", "c"], None, None), "a b |  | b");
        assert_eq!(page_of(&["a", "b", "c"], None, Some("b")), "c |  | end");
        assert_eq!(page_of(&["a", "b"], None, None), "a b |  | end");
    }

    #[test]
    fn keys_fold_at_the_delimiter() {
        assert_eq!(
            page_of(&["a/1", "a/2", "b", "c/1"], Some("/"), None),
            "b | a/ | b"
        );
        assert_eq!(
            page_of(&["a/1", "a/2", "b", "c/1"], Some("/"), Some("b")),
            " | c/ | end"
        );
    }
}
