//! Certificate authorities that the client of S3 trusts beside those of the system.

use std::path::Path;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::StoreError;

const VARIABLE: &str = "AWS_CA_BUNDLE";

/// Trusts the system's authorities (or those of `SSL_CERT_FILE`), and those of `AWS_CA_BUNDLE`.
///
/// # Errors
/// [`StoreError::Refused`]: the file of `AWS_CA_BUNDLE` cannot be used.
pub(super) fn tls_context() -> Result<TlsContext, StoreError> {
    let mut trusted = TrustStore::default();
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        trusted.add_pem_certificate(read_bundle(Path::new(&path))?);
    }
    let context = TlsContext::builder().with_trust_store(trusted).build();
    context.map_err(|error| StoreError::Refused(format!("TLS cannot be set up: {error}")))
}

/// The certificates of a file, in PEM format.
fn read_bundle(path: &Path) -> Result<String, StoreError> {
    let pem = std::fs::read(path).map_err(|error| error.to_string());
    let usable = pem.and_then(|pem| usable_certificates(&pem));
    usable.map_err(|why| StoreError::Refused(format!("{VARIABLE}: {}: {why}", path.display())))
}

/// The certificates that TLS can use. The SDK would panic at any other, and bundles of whole systems have some that are too old.
fn usable_certificates(pem: &[u8]) -> Result<String, String> {
    let (mut usable, mut skipped) = (String::new(), 0);
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        match RootCertStore::empty().add(certificate.clone()) {
            Ok(()) => push_pem(&mut usable, &certificate),
            Err(_) => skipped += 1,
        }
    }
    if usable.is_empty() {
        return Err("no certificate in PEM format that can be used".into());
    }
    if skipped > 0 {
        tracing::debug!(skipped, "{VARIABLE} has certificates that cannot be used");
    }
    Ok(usable)
}

fn push_pem(pem: &mut String, certificate: &[u8]) {
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    // Base64 in lines of 64 characters.
    for line in certificate.chunks(48) {
        pem.push_str(&STANDARD.encode(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{read_bundle, usable_certificates};

    #[test]
    fn a_bundle_that_cannot_be_used_is_refused_before_the_first_connection() {
        let missing = read_bundle(Path::new("/nonexistent/ca.pem")).expect_err("no file");
        let said = missing.to_string();
        assert!(
            said.contains("AWS_CA_BUNDLE: /nonexistent/ca.pem"),
            "{said}"
        );
        let no_certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        for pem in ["", "hello", no_certificate] {
            assert!(usable_certificates(pem.as_bytes()).is_err(), "{pem}");
        }
    }

    /// A certificate of an authority, made for this test.
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBlDCCATmgAwIBAgIUanJd+CoLWysZWNvDyntoCwKqZfcwCgYIKoZIzj0EAwIw
HjEcMBoGA1UEAwwTQXV0aG9yaXR5IG9mIGEgdGVzdDAgFw0yNjExMzAyMTA0NDNa
GA8yMTI2MTEwNjIxMDQ0M1owHjEcMBoGA1UEAwwTQXV0aG9yaXR5IG9mIGEgdGVz
dDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABD8tWF+Ff2dX9zph0tnAXXEuGI5k
hkdmdEk4ZySidNzsc4oTY8CXP/E1UL1z38VgnWzPLkiR3LjsKPdrHH0THOSjUzBR
MB0GA1UdDgQWBBRwKv8Uv4ouw7+LQU3gtN8e81n3xTAfBgNVHSMEGDAWgBRwKv8U
v4ouw7+LQU3gtN8e81n3xTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kA
MEYCIQDDfOLTGLMb5IC2Plz8MHnDqt1CbxFwHzhXmGn9Bf4zQgIhAIy1qalcp+eP
GBwRBHaPIDPN+0Hc8ZMVzoRfOLvo6j79
-----END CERTIFICATE-----
";

    #[test]
    fn a_bundle_keeps_its_usable_certificates_and_drops_the_other_ones() {
        let other = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let bundle = format!("# comment\n{other}{AUTHORITY}{other}");
        let kept = usable_certificates(bundle.as_bytes()).expect("one");
        assert_eq!(kept.trim(), AUTHORITY.trim());
    }
}
