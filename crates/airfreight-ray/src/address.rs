//! The many spellings of a cluster's address.

use std::net::Ipv6Addr;

use http::Uri;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use crate::{RayError, Result};

/// The dashboard's port, unless somebody chose another.
const DASHBOARD_PORT: u16 = 8265;

/// Ports of the same head node on which no dashboard listens.
const OTHER_PORTS: [(u16, &str); 2] = [
    (10001, "10001 is the port of Ray Client, which Jobs don't use; the dashboard's is mostly 8265"),
    (6379, "6379 is the port of Ray's own services; the dashboard's is mostly 8265"),
];

/// Where a cluster's dashboard is.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `http://host:port/prefix`, without a slash at its end and without credentials.
    pub(crate) base: String,
    /// `http://host:port`.
    pub(crate) origin: Uri,
    /// `/prefix`, or nothing.
    pub(crate) prefix: String,
    /// The credentials that stood in it.
    pub(crate) basic: Option<(String, SecretString)>,
}

impl Address {
    /// Reads `http(s)://host[:port][/prefix]`, `host[:port]` (the port is 8265 then) and `anyscale://…` (which is
    /// https).
    pub(crate) fn parse(given: &str) -> Result<Self> {
        let refuse =
            |reason: &str| RayError::Address { address: without_credentials(given.trim()), reason: reason.to_owned() };
        let text = given.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None if text.is_empty() => return Err(refuse("it is empty")),
            None if text == "auto" || text == "local" => {
                return Err(refuse("it stands for a Ray of the same machine, which only Ray itself can find"));
            }
            None => (String::new(), text),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if rest[authority.len()..].contains('@') {
            return Err(refuse("what is special in its login or password must be percent-encoded"));
        }
        let url = match scheme.as_str() {
            "http" | "https" => format!("{scheme}://{rest}"),
            "anyscale" => format!("https://{rest}"),
            "" => with_default_port(rest),
            "ray" => return Err(refuse("ray:// is for Ray Client, which Jobs don't use; the dashboard speaks http")),
            _ => return Err(refuse("it is neither http nor https")),
        };
        let mut url = Url::parse(&url).map_err(|source| refuse(&source.to_string()))?;
        // A browser's address bar shows the dashboard's page behind a `#`.
        url.set_fragment(None);
        if url.query().is_some() {
            return Err(refuse("it has a query; what a proxy wants goes into headers or cookies"));
        }
        if let Some((_, reason)) = OTHER_PORTS.iter().find(|(port, _)| url.port() == Some(*port)) {
            return Err(refuse(reason));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let basic = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decoded(url.username()), SecretString::from(decoded(url.password().unwrap_or_default()))));
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refuse("it names no host"))?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let origin = format!("{}://{host}{port}", url.scheme());
        let mut prefix = url.path().trim_end_matches('/');
        for tail in ["/api/jobs", "/api"] {
            prefix = prefix.strip_suffix(tail).unwrap_or(prefix);
        }
        let base = format!("{origin}{prefix}");
        let origin = origin.parse().map_err(|source: http::uri::InvalidUri| refuse(&source.to_string()))?;
        Ok(Self { base, origin, prefix: prefix.to_owned(), basic })
    }
}

/// `host[:port][/prefix]`, which has no scheme.
fn with_default_port(rest: &str) -> String {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.parse::<Ipv6Addr>().is_ok() {
        let credentials = &authority[..authority.len() - host.len()];
        return format!("http://{credentials}[{host}]:{DASHBOARD_PORT}{path}");
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if has_port && !host.ends_with(':') {
        format!("http://{rest}")
    } else {
        format!("http://{}:{DASHBOARD_PORT}{path}", authority.trim_end_matches(':'))
    }
}

/// An address for logs and errors. A password may hold a slash or a hash that nobody encoded, so whatever comes before
/// the last `@` is left out.
pub(crate) fn without_credentials(address: &str) -> String {
    let Some((before, after)) = address.rsplit_once('@') else { return address.to_owned() };
    let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    format!("{scheme}…@{after}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn usual_spellings_lead_to_the_dashboard() {
        for (given, base) in [
            ("http://ray-head:8265", "http://ray-head:8265"),
            (" http://ray-head:8265/ ", "http://ray-head:8265"),
            ("https://ray.example.com", "https://ray.example.com"),
            ("https://ray.example.com/team/a//", "https://ray.example.com/team/a"),
            ("HTTP://Ray-Head:80", "http://ray-head"),
            ("ray-head", "http://ray-head:8265"),
            ("ray-head:9000", "http://ray-head:9000"),
            ("ray-head:80", "http://ray-head"),
            ("ray-head/prefix", "http://ray-head:8265/prefix"),
            ("127.0.0.1", "http://127.0.0.1:8265"),
            ("::1", "http://[::1]:8265"),
            ("[::1]:8000", "http://[::1]:8000"),
            ("http://[::1]:8265/", "http://[::1]:8265"),
            ("http://ray-head:8265/#/jobs", "http://ray-head:8265"),
            ("http://ray-head:8265/api/jobs/", "http://ray-head:8265"),
            ("anyscale://console.example.com/session", "https://console.example.com/session"),
        ] {
            assert_eq!(Address::parse(given).unwrap().base, base, "{given}");
        }
    }

    #[test]
    fn what_cannot_be_a_dashboard_is_refused_with_the_reason() {
        for (given, words) in [
            ("", "empty"),
            ("auto", "same machine"),
            ("ray://ray-head:10001", "Ray Client"),
            ("ray-head:10001", "Ray Client"),
            ("http://ray-head:10001", "Ray Client"),
            ("ray-head:6379", "own services"),
            ("grpc://ray-head", "neither http nor https"),
            ("http://", "host"),
            ("http://ray-head:99999", "port"),
            ("http://ray-head?token=x", "query"),
            ("http://ray head", "invalid"),
        ] {
            let error = Address::parse(given).unwrap_err().to_string();
            assert!(error.contains(words), "{given}: {error}");
        }
    }

    #[test]
    fn credentials_leave_the_address() {
        let address = Address::parse("https://me:p%40ss@ray.example.com/a").unwrap();
        assert_eq!(address.base, "https://ray.example.com/a");
        let (login, password) = address.basic.unwrap();
        assert_eq!((login.as_str(), password.expose_secret()), ("me", "p@ss"));
        assert_eq!(Address::parse("me:secret@ray-head").unwrap().base, "http://ray-head:8265");
    }

    proptest! {
        #[test]
        fn no_credential_is_shown(password in "[a-zA-Z0-9/#?:@]{6,20}", scheme in "(http://|https://|ray://|ftp://|)") {
            let given = format!("{scheme}user:{password}@ray-head:99999");
            let error = Address::parse(&given).unwrap_err().to_string();
            prop_assert!(!error.contains(&password), "{error}");
        }

        #[test]
        fn anything_is_read_or_refused(given in "\\PC*") {
            drop(Address::parse(&given));
        }
    }
}
