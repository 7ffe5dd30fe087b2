//! Certificate authorities that the client of S3 trusts beside those of the system.

use std::path::Path;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
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

/// The bytes of a file of certificates. The SDK would panic at a certificate that cannot be read.
fn read_bundle(path: &Path) -> Result<Vec<u8>, StoreError> {
    let pem = std::fs::read(path).map_err(|error| error.to_string());
    let checked = pem.and_then(|pem| check_bundle(&pem).map(|()| pem));
    checked.map_err(|why| StoreError::Refused(format!("{VARIABLE}: {}: {why}", path.display())))
}

fn check_bundle(pem: &[u8]) -> Result<(), String> {
    let mut found = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        found.add(certificate).map_err(|error| error.to_string())?;
    }
    if found.is_empty() {
        return Err("no certificate in PEM format".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_bundle, read_bundle};

    #[test]
    fn a_bundle_that_cannot_be_used_is_refused_before_the_first_connection() {
        let missing = read_bundle(Path::new("/nonexistent/ca.pem")).unwrap_err();
        let said = missing.to_string();
        assert!(
            said.contains("AWS_CA_BUNDLE: /nonexistent/ca.pem"),
            "{said}"
        );
        let no_certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        for pem in ["", "hello", no_certificate] {
            assert!(check_bundle(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
