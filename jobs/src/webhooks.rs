//! Webhooks: who is told what happened, with which signature, and what came of it.
//!
//! Deliveries are written by the database, in the transaction of their event (`migrations/0014_webhooks.sql`). Whoever
//! sends them claims them under a short lease, and `lease_no` fences what it says came of them.

mod claim;
mod endpoints;
mod ids;
mod list;
mod prune;
mod redeliver;
mod secrets;
mod settle;
mod signature;

pub use self::{
    claim::{Delivery, HostLoad, claim},
    endpoints::{Endpoint, create_endpoint, delete_endpoint, disable_endpoint, endpoints},
    ids::{DeliveryId, EndpointId},
    list::{DeliveryAttempt, DeliveryFilter, DeliveryStatus, DeliveryView, list},
    prune::prune_deliveries,
    redeliver::redeliver,
    secrets::{OwnerSecret, new_secret, owner_secret, rotate_secret},
    settle::{AttemptResult, DeliveryOutcome, settle},
    signature::sign,
};
