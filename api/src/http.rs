//! What every route needs of HTTP: errors, request bodies, headers, pages of lists, long polling.

pub(crate) mod body;
mod connection;
pub(crate) mod error;
pub(crate) mod headers;
pub(crate) mod json;
mod lingering;
pub(crate) mod listen;
pub(crate) mod paging;
pub(crate) mod request;
mod request_body;
pub(crate) mod trace;
pub(crate) mod upgrade_offers;
pub(crate) mod waiting;
