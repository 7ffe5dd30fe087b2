//! What a failed request means: the store is away, or an operator must change a setting.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::{ObjectStore, StoreError};

impl ObjectStore {
    /// The error of a request. What the store refuses for good is named with the settings to check. Either text names the place.
    pub(super) fn failure<E>(&self, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let place = &self.settings.place;
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let code = error.code();
        // The text of a denial names accounts and roles, and /readyz needs no key.
        let message = error.message().filter(|_| code != Some("AccessDenied"));
        if let Some(advice) = no_credentials(error).or_else(|| advice(code, status, &self.bucket)) {
            let answer = answer(code, status, message).unwrap_or_default();
            return StoreError::Refused(format!("{advice}{answer}; {place}"));
        }
        // An SDK error that the store's answer caused says only "unhandled error".
        let cause = match answer(code, status, message) {
            Some(answer) => format!("the request failed{answer}"),
            None => crate::telemetry::chain(error),
        };
        StoreError::Unavailable(format!("{cause}; {place}"))
    }
}

/// What the answer of the store says, in brackets; `None` without an answer.
fn answer(code: Option<&str>, status: Option<u16>, message: Option<&str>) -> Option<String> {
    let status = status?;
    let message = message.map(|message| format!(": {message}"));
    let message = message.unwrap_or_default();
    Some(match code {
        Some(code) => format!(" ({code}, status {status}{message})"),
        None => format!(" (status {status}{message})"),
    })
}

/// The advice for a process that has no source of credentials.
fn no_credentials(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    let cause = loop {
        let error = next?;
        if let Some(cause) = error.downcast_ref::<CredentialsError>() {
            break cause;
        }
        next = error.source();
    };
    match cause {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            let why = crate::telemetry::chain(cause);
            Some(format!(
                "there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE ({why})"
            ))
        }
        // Their source may be away for a while.
        _ => None,
    }
}

/// What the operator has to check; `None` if a later try may help. `code` is missing where the response has no body.
fn advice(code: Option<&str>, status: Option<u16>, bucket: &str) -> Option<String> {
    Some(match (code, status) {
        (
            Some(
                "SignatureDoesNotMatch"
                | "InvalidAccessKeyId"
                | "InvalidToken"
                | "ExpiredToken"
                | "InvalidSecurity"
                | "NotSignedUp",
            ),
            _,
        ) => "S3 refuses the credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            .to_owned(),
        (Some("NoSuchBucket" | "InvalidBucketName"), _) => {
            format!("S3 has no bucket `{bucket}`: check DARKROOM_S3_BUCKET")
        }
        (
            Some(
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
            ),
            _,
        )
        | (None, Some(301 | 307)) => {
            format!("the bucket `{bucket}` is in another region: check AWS_REGION")
        }
        (Some("RequestTimeTooSkewed"), _) => {
            "S3 refuses the time of the request: check the clock of this machine".to_owned()
        }
        (
            Some(
                "KMS.DisabledException"
                | "KMS.NotFoundException"
                | "KMS.InvalidKeyUsageException"
                | "KMS.KMSInvalidStateException"
                | "InvalidEncryptionAlgorithmError",
            ),
            _,
        ) => "S3 cannot encrypt with the key: check DARKROOM_S3_ENCRYPTION and DARKROOM_S3_KMS_KEY"
            .to_owned(),
        (Some("AccessDenied" | "AllAccessDisabled" | "AccountProblem"), _)
        | (None, Some(401 | 403)) => format!(
            "S3 denies the request: check the rights of the credentials on bucket `{bucket}` (docs/s3.md)"
        ),
        (Some("NotImplemented" | "MethodNotAllowed"), _) | (None, Some(405 | 501)) => {
            "the store does not know this kind of request: check that the endpoint is one of S3, or try DARKROOM_S3_CHECKSUMS=off"
                .to_owned()
        }
        (Some("InvalidRequest" | "InvalidArgument"), _) => {
            "the store does not accept this kind of request: DARKROOM_S3_CHECKSUMS and DARKROOM_S3_ENCRYPTION change it"
                .to_owned()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{advice, answer};

    #[test]
    fn a_refusal_names_the_setting_to_check() {
        for (code, status, setting) in [
            (Some("SignatureDoesNotMatch"), 403, "AWS_SECRET_ACCESS_KEY"),
            (Some("InvalidAccessKeyId"), 403, "AWS_ACCESS_KEY_ID"),
            (Some("NoSuchBucket"), 404, "no bucket `photos`"),
            (Some("PermanentRedirect"), 301, "AWS_REGION"),
            (Some("AuthorizationHeaderMalformed"), 400, "AWS_REGION"),
            (None, 301, "AWS_REGION"),
            (Some("RequestTimeTooSkewed"), 403, "the clock"),
            (Some("AccessDenied"), 403, "rights"),
            (None, 403, "rights"),
            (Some("NotImplemented"), 501, "DARKROOM_S3_CHECKSUMS"),
            (Some("InvalidRequest"), 400, "DARKROOM_S3_CHECKSUMS"),
            (Some("KMS.DisabledException"), 400, "DARKROOM_S3_KMS_KEY"),
        ] {
            let advice = advice(code, Some(status), "photos").unwrap_or_default();
            assert!(advice.contains(setting), "{code:?} {status}: {advice}");
        }
    }

    #[test]
    fn an_error_quotes_the_answer_of_the_store() {
        let said = answer(Some("SlowDown"), Some(503), Some("too many"));
        assert_eq!(said.as_deref(), Some(" (SlowDown, status 503: too many)"));
        assert_eq!(
            answer(None, Some(418), None).as_deref(),
            Some(" (status 418)")
        );
        assert_eq!(answer(None, None, None), None);
    }

    #[test]
    fn a_store_that_is_away_or_refuses_one_body_is_no_refusal() {
        for (code, status) in [
            (None, None),
            (Some("InternalError"), Some(500)),
            (Some("SlowDown"), Some(503)),
            (Some("BadDigest"), Some(400)),
            (Some("XAmzContentSHA256Mismatch"), Some(400)),
            (Some("RequestTimeout"), Some(400)),
            (Some("KMS.ThrottlingException"), Some(400)),
        ] {
            assert_eq!(advice(code, status, "photos"), None);
        }
    }
}
