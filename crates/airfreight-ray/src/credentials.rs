//! What each request to a cluster carries to be let in.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::address::Address;
use crate::{RayError, Result, Sent, Settings};

/// Ray before 2.54 answers a request without one with 500; and one that says Mozilla is taken for a browser's.
pub(crate) const OUR_USER_AGENT: &str = concat!("airfreight/", env!("CARGO_PKG_VERSION"));
/// Where Ray looks for its token when `Authorization` is missing.
const RAY_AUTHORIZATION: HeaderName = HeaderName::from_static("x-ray-authorization");
/// What belongs to the connection, not to its user.
const OURS: [&str; 6] = ["connection", "content-length", "transfer-encoding", "te", "upgrade", "content-type"];

/// The headers of every request. Not `Debug`: all of it is secret.
pub(crate) struct Credentials {
    headers: HeaderMap,
    for_agents: HeaderMap,
    sent: Sent,
    secrets: Vec<SecretString>,
}

impl Credentials {
    pub(crate) fn new(settings: &Settings, address: &Address) -> Result<Self> {
        let mut secrets = Vec::new();
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let name: HeaderName =
                name.trim().parse().map_err(|_| unusable("headers", "a name isn't one of HTTP's"))?;
            let word = name.as_str();
            if OURS.contains(&word) {
                return Err(unusable("headers", &format!("`{word}` belongs to the connection itself")));
            }
            if word == "origin" || word == "referer" || word.starts_with("sec-fetch-") {
                return Err(unusable(
                    "headers",
                    &format!("with `{word}` Ray takes us for a browser, and browsers may not submit"),
                ));
            }
            headers.insert(name.clone(), secret_header("headers", word, value.expose_secret())?);
            secrets.push(value.clone());
        }
        if !settings.cookies.is_empty() {
            let pairs: Vec<_> =
                settings.cookies.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect();
            headers.insert(COOKIE, secret_header("cookies", "cookie", &pairs.join("; "))?);
            secrets.extend(settings.cookies.iter().map(|(_, value)| value.clone()));
        }
        // Without this header Ray 2.9 to 2.51 fails; another one may be what a proxy asks for.
        if headers.get(USER_AGENT).is_none_or(|value| value.as_bytes().windows(7).any(|word| word == b"Mozilla")) {
            headers.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
        }
        let token = settings.token.as_ref().map(|token| token.expose_secret().trim()).filter(|token| !token.is_empty());
        let bearer = token
            .map(|token| {
                let token = token.strip_prefix("Bearer ").unwrap_or(token);
                secrets.push(SecretString::from(token));
                secret_header("token", "token", &format!("Bearer {token}"))
            })
            .transpose()?;
        let basic = settings.basic.as_ref().or(address.basic.as_ref());
        let sent = match (basic, &bearer) {
            (Some((login, password)), _) => {
                let encoded = BASE64_STANDARD.encode(format!("{login}:{}", password.expose_secret()));
                headers.insert(AUTHORIZATION, secret_header("login", "login", &format!("Basic {encoded}"))?);
                secrets.push(password.clone());
                secrets.push(encoded.into());
                if let Some(bearer) = &bearer {
                    headers.insert(RAY_AUTHORIZATION, bearer.clone());
                    Sent::BasicAndToken
                } else {
                    Sent::Basic
                }
            }
            (None, Some(bearer)) => {
                headers.insert(AUTHORIZATION, bearer.clone());
                Sent::Token
            }
            (None, None) if headers.contains_key(AUTHORIZATION) || headers.contains_key(RAY_AUTHORIZATION) => {
                Sent::Token
            }
            (None, None) => Sent::Nothing,
        };
        // What is meant for a proxy is none of a node's business.
        let mut for_agents = HeaderMap::new();
        for_agents.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
        if let Some(bearer) = bearer {
            for_agents.insert(AUTHORIZATION, bearer);
        } else if let Some(value) = headers.get(RAY_AUTHORIZATION) {
            for_agents.insert(RAY_AUTHORIZATION, value.clone());
        } else if let (Sent::Token, Some(value)) = (sent, headers.get(AUTHORIZATION)) {
            for_agents.insert(AUTHORIZATION, value.clone());
        }
        Ok(Self { headers, for_agents, sent, secrets })
    }

    /// For the dashboard.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// For the nodes' agents.
    pub(crate) fn for_agents(&self) -> &HeaderMap {
        &self.for_agents
    }

    pub(crate) fn sent(&self) -> Sent {
        self.sent
    }

    /// A server may repeat what it was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets
            .iter()
            .map(ExposeSecret::expose_secret)
            .filter(|secret| secret.len() >= 4)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

fn secret_header(setting: &'static str, name: &str, value: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| unusable(setting, &format!("the value of `{name}` has characters that HTTP does not allow")))?;
    value.set_sensitive(true);
    Ok(value)
}

fn unusable(setting: &'static str, reason: &str) -> RayError {
    RayError::Setting { setting, reason: reason.to_owned() }
}
