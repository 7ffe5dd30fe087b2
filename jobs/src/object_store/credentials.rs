//! Remembers when the credentials of this process expire: a URL that they sign is valid no longer.

use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use chrono::{DateTime, Utc};

/// When the newest credentials expire; `None` inside if they do not, or if there were none yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Expiry(Arc<Mutex<Option<DateTime<Utc>>>>);

impl Expiry {
    pub fn get(&self) -> Option<DateTime<Utc>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: Option<DateTime<Utc>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// Passes on the credentials of another provider, and notes their expiry.
#[derive(Debug)]
pub(super) struct NotingExpiry {
    pub inner: SharedCredentialsProvider,
    pub expiry: Expiry,
}

impl ProvideCredentials for NotingExpiry {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let credentials = self.inner.provide_credentials().await?;
            self.expiry
                .set(credentials.expiry().map(DateTime::<Utc>::from));
            Ok(credentials)
        })
    }
}
