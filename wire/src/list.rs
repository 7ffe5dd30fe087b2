use serde::{Deserialize, Serialize};

use crate::Object;

/// A list that comes whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct List<T> {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "list"))]
    pub object: Object,
    pub data: Vec<T>,
}

/// One page of a list, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "list"))]
    pub object: Object,
    pub data: Vec<T>,
    /// Send it back as `cursor` for the next page; empty on the last page.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    pub fn new(data: Vec<T>) -> Self {
        Self {
            object: Object::List,
            data,
        }
    }
}

impl<T> Page<T> {
    pub fn new(data: Vec<T>, next_cursor: Option<String>) -> Self {
        Self {
            object: Object::List,
            data,
            next_cursor,
        }
    }
}
