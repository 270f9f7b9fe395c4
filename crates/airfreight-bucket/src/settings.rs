//! How to reach a bucket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

/// How to reach a bucket, and as whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bucket, and what every key begins with.
    pub url: String,
    /// Options in the spelling of the `object_store` crate, such as `aws_access_key_id`; what they hold may be secret.
    pub options: BTreeMap<String, SecretString>,
    /// Whether the usual variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`) fill in what the options leave open.
    pub environment: bool,
    /// `false` accepts any certificate.
    pub verify: bool,
    /// A PEM file with the authorities to trust besides the system's.
    pub authorities: Option<PathBuf>,
    /// An HTTP proxy; by default what the environment says.
    pub proxy: Option<String>,
    /// For how long what fails in passing (cuts, throttling, server errors) is tried again.
    pub patience: Duration,
}

impl Settings {
    /// With credentials from the environment.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: BTreeMap::new(),
            environment: true,
            verify: true,
            authorities: None,
            proxy: None,
            patience: Duration::from_mins(2),
        }
    }
}

/// What Airflow's side says of a connection, in JSON.
#[derive(Deserialize)]
struct Access {
    url: String,
    options: BTreeMap<String, String>,
    environment: bool,
    verify: Verify,
    proxy: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Verify {
    Whether(bool),
    Authorities(PathBuf),
}

impl Settings {
    /// Reads a bucket with its credentials as `airfreight.checkpoint.place.Access` writes it; `None` when it is
    /// something else, of which nothing is repeated.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let Access { url, options, environment, verify, proxy } = serde_json::from_str(text).ok()?;
        let (verify, authorities) = match verify {
            Verify::Whether(verify) => (verify, None),
            Verify::Authorities(path) => (true, Some(path)),
        };
        let options = options.into_iter().map(|(name, text)| (name, text.into())).collect();
        Some(Self { options, environment, verify, authorities, proxy, ..Self::new(url) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_says_is_read_and_not_shown() {
        let text = r#"{"url": "s3://b", "options": {"aws_secret_access_key": "hunter2"}, "environment": false,
            "verify": "/etc/ca.pem", "proxy": null}"#;
        let settings = Settings::from_json(text).unwrap();
        assert_eq!(settings.authorities, Some(PathBuf::from("/etc/ca.pem")));
        assert!(settings.verify && !settings.environment && settings.options.len() == 1);
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(!Settings::from_json(&text.replace("\"/etc/ca.pem\"", "false")).unwrap().verify);
        assert!(Settings::from_json("{}").is_none());
    }
}
