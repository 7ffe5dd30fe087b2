//! Signs an upload over a digest that is known already, so that its bytes are not hashed a second time.

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut,
    },
    error::BoxError,
};

use crate::Sha256Digest;

/// Sends the SHA-256 of the body as `x-amz-content-sha256`. Stores that know no checksum headers check this one.
#[derive(Debug)]
pub(super) struct SignedDigest(pub Sha256Digest);

impl Intercept for SignedDigest {
    fn name(&self) -> &'static str {
        "SignedDigest"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let signed = PayloadSigningOverride::Precomputed(self.0.hex());
        config.interceptor_state().store_put(signed);
        Ok(())
    }
}
