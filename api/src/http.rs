//! What every route needs of HTTP: errors, request bodies and forms, headers, pages of lists, long polling.

pub(crate) mod base64_text;
pub(crate) mod body;
pub(crate) mod body_budget;
mod connection;
pub(crate) mod error;
pub(crate) mod headers;
pub(crate) mod json;
pub(crate) mod json_page;
mod lingering;
pub(crate) mod listen;
pub(crate) mod multipart;
pub(crate) mod paging;
pub(crate) mod request;
mod request_body;
pub(crate) mod trace;
pub(crate) mod upgrade_offers;
pub(crate) mod waiting;
