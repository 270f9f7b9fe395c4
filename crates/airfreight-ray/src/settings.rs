//! How to reach a cluster.

use std::fmt;
use std::time::Duration;

use airfreight_http::{Identity, Trust};
use secrecy::{ExposeSecret, SecretString};

/// How to reach a cluster. `Debug` shows no secret: also headers and cookies are secrets.
#[derive(Clone)]
pub struct Settings {
    /// The dashboard's address in any of the usual spellings; credentials in it are taken over as [`Settings::basic`].
    pub address: String,
    /// Ray's token.
    pub token: Option<SecretString>,
    /// Login and password for a proxy before the cluster.
    pub basic: Option<(String, SecretString)>,
    /// More headers for each request to the cluster.
    pub headers: Vec<(String, SecretString)>,
    /// Cookies for each request to the cluster.
    pub cookies: Vec<(String, SecretString)>,
    /// Which certificates are trusted.
    pub verify: Trust,
    /// Our own certificate and its key; they may be in one file.
    pub client_certificate: Option<Identity>,
    /// The proxy to use instead of what the environment says.
    pub proxy: Option<String>,
    /// For a small call as a whole, for connecting, and for each silence within a long answer.
    pub timeout: Duration,
    /// How long an unreachable cluster is tried again before [`crate::RayError::Unavailable`].
    pub patience: Duration,
}

impl Settings {
    /// Settings for a cluster without authentication at `address`.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            token: None,
            basic: None,
            headers: Vec::new(),
            cookies: Vec::new(),
            verify: Trust::System,
            client_certificate: None,
            proxy: None,
            timeout: Duration::from_secs(30),
            patience: Duration::from_mins(5),
        }
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        fn shown(pairs: &[(String, SecretString)]) -> Vec<(&str, &str)> {
            pairs.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect()
        }
        fn secret(token: Option<&SecretString>) -> Option<&str> {
            token.map(ExposeSecret::expose_secret)
        }
        self.address == other.address
            && secret(self.token.as_ref()) == secret(other.token.as_ref())
            && shown(self.basic.as_slice()) == shown(other.basic.as_slice())
            && shown(&self.headers) == shown(&other.headers)
            && shown(&self.cookies) == shown(&other.cookies)
            && self.verify == other.verify
            && self.client_certificate == other.client_certificate
            && self.proxy == other.proxy
            && self.timeout == other.timeout
            && self.patience == other.patience
    }
}

impl Eq for Settings {}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, SecretString)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("Settings")
            .field("address", &crate::address::without_credentials(&self.address))
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("basic", &self.basic.as_ref().map(|_| "…"))
            .field("headers", &names(&self.headers))
            .field("cookies", &names(&self.cookies))
            .field("verify", &self.verify)
            .field("client_certificate", &self.client_certificate)
            .field("proxy", &self.proxy.as_deref().map(crate::address::without_credentials))
            .field("timeout", &self.timeout)
            .field("patience", &self.patience)
            .finish()
    }
}
