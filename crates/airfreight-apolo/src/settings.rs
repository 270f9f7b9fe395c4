//! How to reach the platform, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use airfreight_http::Trust;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{ApoloError, Result};

/// The platform's API, unless somebody runs it elsewhere.
pub const DEFAULT_URL: &str = "https://api.apolo.us/api/v1";

/// How to reach the platform, and as whom. `Debug` shows no secret.
#[derive(Clone)]
pub struct Settings {
    /// Where the API is, with `/api/v1`.
    pub api_url: String,
    /// The raw token.
    pub token: SecretString,
    /// The cluster; by default the first that the token opens.
    pub cluster: Option<String>,
    /// The organisation; by default the cluster's first.
    pub org: Option<String>,
    /// The project; by default the first one there.
    pub project: Option<String>,
    /// Which certificates are trusted.
    pub verify: Trust,
    /// The proxy to use instead of what the environment says.
    pub proxy: Option<String>,
    /// For a call as a whole.
    pub timeout: Duration,
    /// How long what doesn't answer is asked again.
    pub patience: Duration,
}

/// What `apolo service-account create` prints, and what jobs get in `APOLO_PASSED_CONFIG`.
#[derive(Deserialize)]
struct Passed {
    token: String,
    cluster: Option<String>,
    url: Option<String>,
    org_name: Option<String>,
    project_name: Option<String>,
}

impl Settings {
    /// Settings for a token: a raw one, or the platform's passed config, which also says where and what for.
    ///
    /// # Errors
    /// - [`ApoloError::Setting`]: it is empty.
    pub fn new(token: &str) -> Result<Self> {
        // What is pasted may have been wrapped.
        let given: String = token.split_whitespace().collect();
        if given.is_empty() {
            return Err(ApoloError::Setting { setting: "token", reason: "it is empty".into() });
        }
        let passed = BASE64_STANDARD.decode(&given).ok().and_then(|json| serde_json::from_slice::<Passed>(&json).ok());
        let passed =
            passed.unwrap_or(Passed { token: given, cluster: None, url: None, org_name: None, project_name: None });
        Ok(Self {
            api_url: passed.url.unwrap_or_else(|| DEFAULT_URL.to_owned()),
            token: passed.token.into(),
            cluster: passed.cluster,
            org: passed.org_name,
            project: passed.project_name,
            verify: Trust::System,
            proxy: None,
            timeout: Duration::from_secs(30),
            patience: Duration::from_mins(5),
        })
    }

    /// Trusts what the system trusts and the authorities in this file.
    #[must_use]
    pub fn trusting(mut self, bundle: PathBuf) -> Self {
        self.verify = Trust::SystemAnd(bundle);
        self
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.api_url == other.api_url
            && self.token.expose_secret() == other.token.expose_secret()
            && self.cluster == other.cluster
            && self.org == other.org
            && self.project == other.project
            && self.verify == other.verify
            && self.proxy == other.proxy
            && self.timeout == other.timeout
            && self.patience == other.patience
    }
}

impl Eq for Settings {}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("api_url", &without_credentials(&self.api_url))
            .field("token", &"…")
            .field("cluster", &self.cluster)
            .field("org", &self.org)
            .field("project", &self.project)
            .field("verify", &self.verify)
            .field("proxy", &self.proxy.as_deref().map(without_credentials))
            .field("timeout", &self.timeout)
            .field("patience", &self.patience)
            .finish()
    }
}

/// An address for logs and errors.
pub(crate) fn without_credentials(address: &str) -> String {
    let Some((before, after)) = address.rsplit_once('@') else { return address.to_owned() };
    let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    format!("{scheme}…@{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_config_says_where_and_what_for() {
        let json = r#"{"token": "t", "cluster": "c", "url": "https://a/api/v1", "org_name": "o", "project_name": "p"}"#;
        let settings = Settings::new(&format!(" {}\n", BASE64_STANDARD.encode(json))).unwrap();
        assert_eq!(settings.token.expose_secret(), "t");
        assert_eq!(settings.api_url, "https://a/api/v1");
        assert_eq!(
            [settings.cluster, settings.org, settings.project].map(Option::unwrap),
            ["c", "o", "p"].map(String::from)
        );
    }

    #[test]
    fn anything_else_is_a_token_and_is_never_shown() {
        let settings = Settings::new("abc.def").unwrap();
        assert_eq!((settings.token.expose_secret(), settings.api_url.as_str()), ("abc.def", DEFAULT_URL));
        assert!(!format!("{settings:?}").contains("abc"));
        assert!(Settings::new("  ").is_err());
    }
}
