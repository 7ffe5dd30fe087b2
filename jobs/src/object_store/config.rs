//! The settings of the bucket: flags, their environment variables, and the manual of both (`--help`).

use aws_sdk_s3::types::ServerSideEncryption;
use clap::{Args, ValueEnum};

/// Which bucket, and how objects are put there. Endpoint, region and credentials come from the usual `AWS_*` variables,
/// profiles or the machine's role (docs/s3.md).
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Object store (S3)")]
pub struct StoreConfig {
    /// Bucket of images, models and large results
    #[arg(long, env = "DARKROOM_S3_BUCKET", default_value = "darkroom")]
    pub s3_bucket: String,
    /// Make the bucket if it is missing (for local stacks)
    #[arg(long, env = "DARKROOM_S3_CREATE_BUCKET")]
    pub s3_create_bucket: bool,
    /// Longest time of one request with its retries, in milliseconds
    #[arg(long, env = "DARKROOM_S3_TIMEOUT_MS", default_value_t = 30_000)]
    pub s3_timeout_ms: u64,
    /// How the store checks the bytes of an upload. `off` is for stores that refuse checksum headers: it signs the digest of
    /// the bytes instead, and nothing checks the bytes of a signed upload until a job names them
    #[arg(long, env = "DARKROOM_S3_CHECKSUMS", value_enum, default_value_t)]
    pub s3_checksums: Checksums,
    /// Encryption that each upload asks for [default: as the bucket is set]
    #[arg(long, env = "DARKROOM_S3_ENCRYPTION", value_enum)]
    pub s3_encryption: Option<Encryption>,
    /// KMS key of each upload: its id, ARN or alias. Asks for `aws:kms` unless `--s3-encryption` says `aws:kms:dsse`. The
    /// credentials need kms:GenerateDataKey to put and kms:Decrypt to read
    #[arg(long, env = "DARKROOM_S3_KMS_KEY", value_name = "KEY")]
    pub s3_kms_key: Option<String>,
}

/// How the store checks the bytes of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Checksums {
    /// Each put carries `x-amz-checksum-sha256`
    #[default]
    Sha256,
    /// No checksum header
    Off,
}

/// Encryption by the store, by the names that S3 has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encryption {
    /// Keys of the store
    #[value(name = "AES256")]
    Aes256,
    /// Keys of the key management service
    #[value(name = "aws:kms")]
    Kms,
    /// Two layers, by keys of the key management service
    #[value(name = "aws:kms:dsse")]
    KmsDsse,
}

impl StoreConfig {
    /// The settings for this bucket, all others as without flags.
    pub fn of_bucket(bucket: &str) -> Self {
        Self {
            s3_bucket: bucket.to_owned(),
            s3_create_bucket: false,
            s3_timeout_ms: 30_000,
            s3_checksums: Checksums::default(),
            s3_encryption: None,
            s3_kms_key: None,
        }
    }

    /// The encryption to ask for. A KMS key with `AES256` is a contradiction, which S3 refuses.
    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        let wanted = self
            .s3_encryption
            .or_else(|| self.s3_kms_key.as_ref().map(|_| Encryption::Kms))?;
        Some(match wanted {
            Encryption::Aes256 => ServerSideEncryption::Aes256,
            Encryption::Kms => ServerSideEncryption::AwsKms,
            Encryption::KmsDsse => ServerSideEncryption::AwsKmsDsse,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::{Checksums, ServerSideEncryption, StoreConfig};

    fn parsed(args: &[&str]) -> StoreConfig {
        let command = StoreConfig::augment_args(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(args).expect("valid");
        StoreConfig::from_arg_matches(&matches).expect("complete")
    }

    #[test]
    fn a_kms_key_asks_for_kms() {
        let config = parsed(&["--s3-kms-key", "alias/darkroom"]);
        assert_eq!(config.encryption(), Some(ServerSideEncryption::AwsKms));
        let config = parsed(&["--s3-kms-key", "k", "--s3-encryption", "aws:kms:dsse"]);
        assert_eq!(config.encryption(), Some(ServerSideEncryption::AwsKmsDsse));
        assert_eq!(parsed(&[]).encryption(), None);
    }

    #[test]
    fn checksums_are_on_unless_switched_off() {
        assert_eq!(parsed(&[]).s3_checksums, Checksums::Sha256);
        assert_eq!(
            parsed(&["--s3-checksums", "off"]).s3_checksums,
            Checksums::Off
        );
    }
}
