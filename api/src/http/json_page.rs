//! Pages of lists that are bounded in bytes.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// The items of a page. Each is written as JSON at once: the page then has the size of the response, and no larger one.
#[derive(Debug)]
pub(crate) struct JsonPage {
    items: Vec<Box<RawValue>>,
    bytes: usize,
    bytes_max: usize,
}

impl JsonPage {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub fn push(&mut self, item: &impl Serialize) {
        let item = to_raw_value(item).expect("JSON-able");
        self.bytes += item.get().len();
        self.items.push(item);
    }

    /// Whether the page has as many bytes as it may. The last item may have passed the limit: a page has at least one item.
    pub fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn into_items(self) -> Vec<Box<RawValue>> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::JsonPage;

    #[test]
    fn a_page_ends_with_the_item_that_passes_the_limit() {
        let mut page = JsonPage::new(10);
        page.push(&json!({"a": 1}));
        assert!(!page.is_full());
        page.push(&json!("a long item"));
        assert!(page.is_full());
        assert_eq!(page.len(), 2);
        let written = serde_json::to_string(&page.into_items()).expect("JSON");
        assert_eq!(written, r#"[{"a":1},"a long item"]"#);
        let mut large = JsonPage::new(0);
        large.push(&json!(1));
        assert_eq!((large.is_full(), large.len()), (true, 1));
    }
}
