//! Makes the client of the bucket, by the settings of Darkroom and of AWS.

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{RequestChecksumCalculation, ResponseChecksumValidation},
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use futures_util::future::BoxFuture;

use super::{
    ObjectStore, Settings, StoreConfig, StoreError,
    credentials::{Expiry, NotingExpiry},
    endpoint::{Endpoint, Place},
    trust,
};

/// A connection that was idle for so long is not used again: a half-open one would cost a time-out. Stores close idle
/// connections after a similar time.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

const DEFAULT_REGION: &str = "us-east-1";

impl ObjectStore {
    /// Reads the settings. Sends no request to the store.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: `AWS_CA_BUNDLE` names a file that cannot be used.
    pub fn connect(config: &StoreConfig) -> BoxFuture<'_, Result<Self, StoreError>> {
        Box::pin(async move {
            let http = aws_smithy_http_client::Builder::new()
                .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
                .tls_context(trust::tls_context()?)
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .build_https();
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(3))
                .operation_timeout(Duration::from_millis(config.s3_timeout_ms))
                .build();
            let shared = aws_config::defaults(BehaviorVersion::latest())
                .http_client(http)
                .timeout_config(timeouts)
                .retry_config(RetryConfig::standard().with_max_attempts(3))
                .load()
                .await;
            let region = shared.region().cloned();
            let region = region.unwrap_or(Region::from_static(DEFAULT_REGION));
            let place = Place {
                bucket: config.s3_bucket.clone(),
                endpoint: Endpoint::configured(&shared),
                region: region.to_string(),
            };
            let expiry = Expiry::default();
            let mut s3 = aws_sdk_s3::config::Builder::from(&shared)
                // Every put carries its SHA-256, which the store checks; the SDK's own CRC would be a second pass.
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
                // Host names of buckets need wildcard DNS, which self-hosted stores seldom have.
                .force_path_style(place.endpoint.is_some())
                .region(region);
            s3.set_endpoint_url(place.endpoint.as_ref().map(|endpoint| endpoint.url.clone()));
            if let Some(inner) = shared.credentials_provider() {
                let expiry = expiry.clone();
                s3 = s3.credentials_provider(NotingExpiry { inner, expiry });
            }
            Ok(Self {
                client: Client::from_conf(s3.build()),
                bucket: config.s3_bucket.clone(),
                settings: Arc::new(Settings {
                    place,
                    checksums: config.s3_checksums,
                    encryption: config.encryption(),
                    kms_key: config.s3_kms_key.clone(),
                    expiry,
                    verifies_checksums: true.into(),
                }),
            })
        })
    }
}
