//! What a failed request means: the store is away, or an operator must change a setting.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::{ObjectStore, StoreError};

impl ObjectStore {
    /// The error of a request. Credentials, region and bucket that the store refuses are named, with the settings to check.
    pub(super) fn failure<E>(&self, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let code = error.code();
        if let Some(advice) = advice(code, status, &self.bucket) {
            return StoreError::Refused(advice);
        }
        let cause = crate::telemetry::chain(error);
        // This may concern one object or one kind of request alone: the key may be good for all others.
        StoreError::Unavailable(if is_denied(code, status) {
            format!(
                "S3 denies the request: check the rights of AWS_ACCESS_KEY_ID on bucket `{}`: {cause}",
                self.bucket
            )
        } else {
            cause
        })
    }
}

/// What the operator has to check; `None` if a later try may help. `code` is missing where the response has no body.
fn advice(code: Option<&str>, status: Option<u16>, bucket: &str) -> Option<String> {
    let advice = match (code, status) {
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
        _ => return None,
    };
    Some(match (code, status) {
        (Some(code), _) => format!("{advice} ({code})"),
        (None, Some(status)) => format!("{advice} (status {status})"),
        (None, None) => advice,
    })
}

fn is_denied(code: Option<&str>, status: Option<u16>) -> bool {
    matches!(
        (code, status),
        (Some("AccessDenied"), _) | (None, Some(401 | 403))
    )
}

#[cfg(test)]
mod tests {
    use super::advice;

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
        ] {
            let advice = advice(code, Some(status), "photos").unwrap_or_default();
            assert!(advice.contains(setting), "{code:?} {status}: {advice}");
            let reason = code.map_or(status.to_string(), Into::into);
            assert!(advice.contains(&reason), "{advice}");
        }
    }

    #[test]
    fn a_store_that_is_away_or_denies_one_request_is_no_refusal() {
        for (code, status) in [
            (None, None),
            (Some("InternalError"), Some(500)),
            (Some("SlowDown"), Some(503)),
            (Some("BadDigest"), Some(400)),
            (Some("RequestTimeout"), Some(400)),
            (Some("AccessDenied"), Some(403)),
        ] {
            assert_eq!(advice(code, status, "photos"), None);
        }
    }
}
