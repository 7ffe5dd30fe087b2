//! API keys `dk_<id>_<secret>`: shown once when they are made, stored as a hash.

mod create;
mod limits;
mod list;
mod note_uses;
mod revoke;
mod verify;

pub use self::{
    create::{CreatedKey, NewKey, create, is_owner},
    limits::KeyLimits,
    list::{KeyView, list},
    note_uses::note_uses,
    revoke::revoke,
    verify::{RefusedKey, WhyRefused, verify},
};
pub use wire::Scope;

/// What every key begins with.
pub const PREFIX: &str = "dk_";

/// The caller that a valid key identifies.
#[derive(Debug, Clone)]
pub struct Caller {
    pub key_id: String,
    pub owner: String,
    pub scopes: Vec<Scope>,
    pub limits: KeyLimits,
}

impl Caller {
    /// A key that submits and reads may do what `webhooks` allows: it sees all results of its owner in any case.
    pub fn may(&self, scope: Scope) -> bool {
        let has = |scope| self.scopes.contains(&scope);
        has(scope) || scope == Scope::Webhooks && has(Scope::Submit) && has(Scope::Read)
    }
}
