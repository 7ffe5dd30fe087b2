//! Webhooks: endpoints, deliveries, and their signatures.
//!
//! The database writes a delivery in the transaction of its event (`migrations/0008_webhooks.sql`). A process claims a delivery
//! under a short lease before it sends it, and `lease_no` fences the result.

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
    claim::{ClaimLimits, Delivery, Destination, DueDeliveries, ScanPosition, claim},
    endpoints::{Endpoint, create_endpoint, delete_endpoint, disable_endpoint, endpoints},
    ids::{DeliveryId, EndpointId},
    list::{DeliveryAttempt, DeliveryFilter, DeliveryView, list},
    prune::prune_deliveries,
    redeliver::redeliver,
    secrets::{
        OwnerSecret, PREVIOUS_SECRETS_MAX, Rotation, new_secret, owner_secret, rotate_secret,
    },
    settle::{AttemptResult, DeliveryOutcome, settle},
    signature::sign,
};
pub use wire::DeliveryStatus;
