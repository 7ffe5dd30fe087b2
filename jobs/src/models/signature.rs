//! Signed versions: a deployment that trusts some keys of minisign takes no version without a signature by one of these.
//!
//! A model is code that workers run. With a signature, an API key of the scope `admin` is not enough to bring new code in.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use minisign_verify::{PublicKey, Signature};

use super::{ModelVersion, NewVersion};

/// A signature has four short lines. Its comments are free text.
const SIGNATURE_BYTES_MAX: usize = 4_000;
/// First line of a statement: a signature of anything else cannot be taken for one of a version.
const STATEMENT_TITLE: &str = "darkroom model version";

/// Whose versions may be pushed and run.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Signed models")]
pub struct SigningConfig {
    /// Public keys of minisign, separated by commas: a version must have a signature by one of these
    ///
    /// The API refuses a push without one, and a worker does not load such a version. Without keys every version is taken. The key is the second line of `minisign.pub` (docs/models.md, "Signed versions").
    #[arg(
        long,
        env = "DARKROOM_MODEL_PUBLIC_KEYS",
        value_name = "KEYS",
        value_delimiter = ','
    )]
    pub model_public_keys: Vec<ModelPublicKey>,
}

/// A public key of minisign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPublicKey {
    key: PublicKey,
    id: u64,
}

/// A signature of this very version by a trusted key. Only [`SigningConfig::check`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedSignature {
    text: String,
    signed_by: String,
}

/// Why a version may not be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "only signed versions are taken here: sign what `darkroom models statement DIR` prints with minisign, and push with `--signature`"
    )]
    Missing,
    #[error("this is no signature of minisign: give the content of the `.minisig` file")]
    Unreadable,
    #[error("the signature is by a key that is not trusted here")]
    OtherKey,
    #[error(
        "the signature does not fit this version: it is one of another manifest or of other files"
    )]
    Wrong,
}

impl SignatureError {
    /// The error for machines.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "invalid",
            Self::OtherKey => "not_trusted",
            Self::Wrong => "wrong_signature",
        }
    }
}

/// The text that is signed. It names the version by its content.
pub fn statement(version: &NewVersion) -> String {
    format!(
        "{STATEMENT_TITLE}\n{}\n{}\n",
        version.manifest.name, version.digest
    )
}

impl SigningConfig {
    /// Checks the signature of a version; `None` if no key is configured.
    ///
    /// # Errors
    /// Keys are configured, and there is no signature by one of them.
    pub fn check(
        &self,
        version: &NewVersion,
        signature: Option<&str>,
    ) -> Result<Option<CheckedSignature>, SignatureError> {
        if self.model_public_keys.is_empty() {
            return Ok(None);
        }
        let signature = signature.ok_or(SignatureError::Missing)?;
        self.check_statement(&statement(version), signature)
            .map(Some)
    }

    /// Checks a registered version before its code runs: also one that was written past every push.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`SignatureError::Wrong`] if the version was registered under another name.
    pub fn check_version(&self, version: &ModelVersion) -> Result<(), SignatureError> {
        if self.model_public_keys.is_empty() {
            return Ok(());
        }
        if version.name != version.manifest.name {
            return Err(SignatureError::Wrong);
        }
        let content = NewVersion::new(version.manifest.clone(), version.files.clone());
        self.check(&content, version.signature.as_deref()).map(drop)
    }

    fn check_statement(
        &self,
        statement: &str,
        text: &str,
    ) -> Result<CheckedSignature, SignatureError> {
        if text.len() > SIGNATURE_BYTES_MAX || text.contains('\0') {
            return Err(SignatureError::Unreadable);
        }
        let signature = Signature::decode(text).map_err(|_| SignatureError::Unreadable)?;
        let mut error = SignatureError::OtherKey;
        for ModelPublicKey { key, id } in &self.model_public_keys {
            // Legacy signatures sign the text instead of its hash. For a text this short both are as good.
            match key.verify(statement.as_bytes(), &signature, true) {
                Ok(()) => {
                    return Ok(CheckedSignature {
                        text: text.to_owned(),
                        signed_by: format!("{id:016X}"),
                    });
                }
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(_) => error = SignatureError::Wrong,
            }
        }
        Err(error)
    }
}

impl CheckedSignature {
    /// The signature as it was sent.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Id of the key, as minisign prints it.
    pub fn signed_by(&self) -> &str {
        &self.signed_by
    }
}

/// The text is no public key of minisign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("want the second line of `minisign.pub`: 56 characters that begin with `RW`")]
pub struct NotAPublicKey;

impl FromStr for ModelPublicKey {
    type Err = NotAPublicKey;

    fn from_str(text: &str) -> Result<Self, NotAPublicKey> {
        let text = text.trim();
        let key = PublicKey::from_base64(text).map_err(|_| NotAPublicKey)?;
        // Two bytes name the algorithm, the next eight are the id.
        let bytes = STANDARD.decode(text).map_err(|_| NotAPublicKey)?;
        let id = bytes.get(2..10).and_then(|id| id.try_into().ok());
        let id = u64::from_le_bytes(id.ok_or(NotAPublicKey)?);
        Ok(Self { key, id })
    }
}

impl fmt::Display for ModelPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::{SignatureError, SigningConfig};

    // Made by minisign 0.11.
    const STATEMENT: &str = "darkroom model version\nbright-box\n\
        sha256:9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c\n";
    const KEY: &str = "RWTlDXZwsfZnT2fnwBDH9FJxBurCqy1DAfcXLg6EZX7aAQSWw7vegzVu";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RUTlDXZwsfZnTyvvcu6SxAZea6gJd8seW090lAjS2FY1bRj+QMv9UZNG2j8D+5Sa6sZK8u8XP3FNozuRN6ssD73WeMYKlvFDNQc=\n\
        trusted comment: reviewed\n\
        E7of63AR3OBmJw68RG2BkAZYs4BhW+QbeS4aUd9e/eSY4Zb+JuBkFwHv4u2Y8eP+cYchZnt5PnWgkVJUYrwvAg==\n";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key\n\
        RWTlDXZwsfZnT8lDl3ytFLwlF/MFfoaXtsQGFqMWcZ0dGRxUgx8wSnjGLpY7j6iHiKCvIPM7qq527buqQGvkNbyo/jzBbLV6lAs=\n\
        trusted comment: reviewed\n\
        bhA7ofOa3gm4tDEsx/mwbHbc7xl1FXfMFL/7sxFnas1xwiPy8fk6OJZ/QT2CW/tRho7LuSkI9W3So5RD5kI5Bg==\n";
    const OTHER_KEY: &str = "RWRgm0T7cdmECUqytwnOG3vTYZmw+8bi9ur87EYSnyD0jp0qOoWkmfup";

    fn trusting(keys: &[&str]) -> SigningConfig {
        let keys = keys.iter().map(|key| key.parse().expect("a key"));
        SigningConfig {
            model_public_keys: keys.collect(),
        }
    }

    #[test]
    fn a_signature_of_minisign_is_taken_and_names_its_key() {
        let config = trusting(&[OTHER_KEY, KEY]);
        for signature in [SIGNATURE, LEGACY] {
            let checked = config.check_statement(STATEMENT, signature);
            let checked = checked.expect("signed by the second key");
            assert_eq!(checked.signed_by(), "4F67F6B170760DE5");
            assert_eq!(checked.text(), signature);
        }
    }

    #[test]
    fn a_signature_by_another_key_or_of_another_text_is_refused() {
        let config = trusting(&[KEY]);
        let check = |statement: &str, signature: &str| {
            config.check_statement(statement, signature).map(|_| ())
        };
        let other = STATEMENT.replace("9a", "9b");
        assert_eq!(check(&other, SIGNATURE), Err(SignatureError::Wrong));
        let renamed = STATEMENT.replace("bright", "dark");
        assert_eq!(check(&renamed, LEGACY), Err(SignatureError::Wrong));
        let comment = SIGNATURE.replace("reviewed", "approved");
        assert_eq!(check(STATEMENT, &comment), Err(SignatureError::Wrong));
        let of_other_key = trusting(&[OTHER_KEY]).check_statement(STATEMENT, SIGNATURE);
        assert_eq!(of_other_key, Err(SignatureError::OtherKey));
        for nonsense in ["", "x", &SIGNATURE[..100], &"\n".repeat(5_000), "\0"] {
            assert_eq!(check(STATEMENT, nonsense), Err(SignatureError::Unreadable));
        }
    }

    #[test]
    fn what_is_no_key_of_minisign_is_refused() {
        for nonsense in [
            "",
            "RWT",
            "minisign.pub",
            &KEY[..55],
            &KEY.replace("RWT", "AAA"),
        ] {
            assert!(
                nonsense.parse::<super::ModelPublicKey>().is_err(),
                "{nonsense}"
            );
        }
    }
}
