//! How to reach a bucket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

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
