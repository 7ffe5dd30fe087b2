//! Where the store is: Amazon S3, or an endpoint that a variable or a profile names.

use std::fmt;

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

/// An endpoint, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub url: String,
    setting: &'static str,
}

impl Endpoint {
    /// The endpoint that the SDK would use: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the `services` section of the profile,
    /// its `endpoint_url`. `None` means Amazon S3.
    pub fn configured(shared: &SdkConfig) -> Option<Self> {
        let key = ServiceConfigKey::builder()
            .service_id("S3")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .expect("all three names are given");
        let of_s3 = shared.service_config().and_then(|all| all.load_config(key));
        let url = of_s3.or_else(|| shared.endpoint_url().map(str::to_owned))?;
        if url.trim().is_empty() {
            return None;
        }
        let is_from = |name| std::env::var(name).is_ok_and(|value| value == url);
        let setting = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
            .into_iter()
            .find(|name| is_from(*name))
            .unwrap_or("the endpoint_url of the AWS profile");
        let url = with_slash(url);
        Some(Self { url, setting })
    }
}

/// The SDK appends the bucket to the path as it is: `/s3` would become `/s3bucket`.
fn with_slash(url: String) -> String {
    let path = url.split_once("://").map_or("", |(_, rest)| rest);
    if path.contains('/') && !path.ends_with('/') {
        url + "/"
    } else {
        url
    }
}

/// Where requests go, for the operator: endpoint and bucket, and the setting of each.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub bucket: String,
    pub endpoint: Option<Endpoint>,
    pub region: String,
}

impl Place {
    /// The URL of the endpoint; for Amazon S3 the region.
    pub fn endpoint(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.url.clone(),
            None => format!("Amazon S3 in {}", self.region),
        }
    }

    /// The settings that name the place.
    pub fn settings(&self) -> String {
        let endpoint = self.endpoint.as_ref().map(|endpoint| endpoint.setting);
        let endpoint = endpoint.unwrap_or("AWS_ENDPOINT_URL_S3 (not set) and AWS_REGION");
        format!("DARKROOM_S3_BUCKET and {endpoint}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket `{}` at {}", self.bucket, self.endpoint())
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Place, with_slash};

    #[test]
    fn a_path_of_an_endpoint_ends_with_a_slash() {
        for (given, want) in [
            ("http://store:9000", "http://store:9000"),
            ("http://store:9000/", "http://store:9000/"),
            ("https://gate/s3", "https://gate/s3/"),
            ("https://gate/a/s3/", "https://gate/a/s3/"),
        ] {
            assert_eq!(with_slash(given.into()), want);
        }
    }

    #[test]
    fn a_place_names_its_settings() {
        let mut place = Place {
            bucket: "photos".into(),
            endpoint: None,
            region: "eu-west-1".into(),
        };
        assert_eq!(
            place.to_string(),
            "bucket `photos` at Amazon S3 in eu-west-1"
        );
        assert!(place.settings().contains("AWS_REGION"));
        place.endpoint = Some(Endpoint {
            url: "http://store:9000".into(),
            setting: "AWS_ENDPOINT_URL",
        });
        assert_eq!(place.to_string(), "bucket `photos` at http://store:9000");
        assert_eq!(place.settings(), "DARKROOM_S3_BUCKET and AWS_ENDPOINT_URL");
    }
}
