//! Signatures by <https://www.standardwebhooks.com>.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Secret;

/// Prefix of a secret; the key follows in base64.
pub(super) const PREFIX: &str = "whsec_";

/// The header `webhook-signature` of a message: one signature for each secret, so that a receiver may know either.
///
/// `timestamp`: seconds since 1970, as in the header `webhook-timestamp`.
pub fn sign(secrets: &[Secret], id: &str, timestamp: i64, body: &str) -> String {
    let message = format!("{id}.{timestamp}.{body}");
    let signatures = secrets.iter().map(|secret| {
        let key = secret.expose().strip_prefix(PREFIX).unwrap_or_default();
        let key = STANDARD.decode(key).unwrap_or_default();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        mac.update(message.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::sign;
    use crate::Secret;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        // The example of the specification's reference libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = r#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = sign(std::slice::from_ref(&secret), id, 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = sign(&[secret.clone(), secret], id, 1_614_265_330, body);
        assert_eq!(both, format!("{signature} {signature}"));
    }
}
