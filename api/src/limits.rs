//! Who calls, and how much: API keys, request rates, quotas of owners, and when clients should come back.

pub(crate) mod access_log;
pub(crate) mod auth;
pub(crate) mod keyring;
pub(crate) mod open_requests;
pub(crate) mod quotas;
pub(crate) mod rates;
pub(crate) mod readiness;
pub(crate) mod retry_after;
mod wrong_keys;
