//! Where a bucket is, in the spellings that people use.

use std::fmt;
use std::path::PathBuf;

use object_store::path::Path;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::{BucketError, Result};

/// What would be read as something else than a part of a URL's path.
const NOT_IN_PATHS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// Whose storage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Provider {
    /// Amazon S3, and everything that speaks its protocol: `s3://`, `s3a://`.
    S3,
    /// Google Cloud Storage: `gs://`, `gcs://`.
    Gcs,
    /// Azure Blob Storage and Data Lake: `az://`, `azure://`, `abfs://`, `abfss://`, `wasb://`, `wasbs://`.
    Azure,
    /// A directory, on a file system that outlives the host: `file://`.
    File,
}

impl Provider {
    /// How this release spells it in URLs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
            Self::File => "file",
        }
    }
}

/// A bucket, and the part of it that is ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// Whose storage it is.
    pub provider: Provider,
    /// The bucket, Azure's container; empty for a directory.
    pub container: String,
    /// Azure's storage account, where the URL names it.
    pub account: Option<String>,
    /// What every key begins with; for a directory all of its path.
    pub prefix: String,
}

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`BucketError::Url`]: another scheme, no bucket, or something in it that belongs elsewhere.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: &str| BucketError::Url { url: without_credentials(text), reason: reason.to_owned() };
        let url = Url::parse(text.trim()).map_err(|source| refuse(&source.to_string()))?;
        let provider = match url.scheme() {
            "s3" | "s3a" => Provider::S3,
            "gs" | "gcs" => Provider::Gcs,
            "az" | "azure" | "abfs" | "abfss" | "wasb" | "wasbs" => Provider::Azure,
            "file" => Provider::File,
            other => return Err(refuse(&format!("`{other}` is none of s3, gs, az, abfs and file"))),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it has a `?` or `#`; options belong into the connection"));
        }
        if url.password().is_some() || (!url.username().is_empty() && provider != Provider::Azure) {
            return Err(refuse("it holds a user or password; credentials belong into the connection"));
        }
        let decoded = percent_decode_str(url.path())
            .decode_utf8()
            .map_err(|_| refuse("its path is not UTF-8"))?
            .trim_matches('/')
            .to_owned();
        let host = url.host_str().unwrap_or_default();
        if provider == Provider::File {
            if !host.is_empty() || decoded.is_empty() {
                return Err(refuse("a directory is spelled file:///absolute/path"));
            }
            return Ok(Self { provider, container: String::new(), account: None, prefix: decoded });
        }
        // `abfss://container@account.dfs.core.windows.net/prefix`, as Hadoop has it.
        let (container, account) = match url.username() {
            "" => (host, None),
            container => (container, host.split('.').next().map(ToOwned::to_owned)),
        };
        if container.is_empty() {
            return Err(refuse("it names no bucket"));
        }
        if url.port().is_some() {
            return Err(refuse("it names a port; a server of your own is the connection's endpoint_url"));
        }
        Path::parse(&decoded).map_err(|_| refuse("its path holds an empty part, `.` or `..`"))?;
        Ok(Self { provider, container: container.to_owned(), account, prefix: decoded })
    }

    /// The directory of a [`Provider::File`].
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/{}", self.prefix))
    }

    /// The whole key of an object of ours, as the storage sees it.
    pub(crate) fn path(&self, key: &str) -> Result<Path> {
        let whole = match (self.provider, self.prefix.as_str()) {
            (Provider::File, _) | (_, "") => key.to_owned(),
            (_, prefix) => format!("{prefix}/{key}"),
        };
        Path::parse(whole).map_err(|source| BucketError::Url { url: self.url(key), reason: source.to_string() })
    }

    /// The part of a whole key that follows the prefix.
    pub(crate) fn key_of(&self, path: &Path) -> String {
        let whole = path.as_ref();
        match (self.provider, self.prefix.as_str()) {
            (Provider::File, _) | (_, "") => whole,
            (_, prefix) => whole.strip_prefix(prefix).unwrap_or(whole).trim_start_matches('/'),
        }
        .to_owned()
    }

    /// The bucket itself, without what its keys begin with.
    #[must_use]
    pub fn bucket_url(&self) -> String {
        match self.provider {
            Provider::File => self.to_string(),
            _ => Self { prefix: String::new(), ..self.clone() }.to_string(),
        }
    }

    /// The URL of an object of ours, for people.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        if key.is_empty() { self.to_string() } else { format!("{self}/{key}") }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.provider.scheme();
        match &self.account {
            Some(account) => write!(f, "abfss://{}@{account}.dfs.core.windows.net", self.container)?,
            None => write!(f, "{scheme}://{}", self.container)?,
        }
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", utf8_percent_encode(&self.prefix, NOT_IN_PATHS)) }
    }
}

/// What may be shown of a URL that may not be one.
fn without_credentials(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Provider, String, Option<String>, String) {
        let Location { provider, container, account, prefix } = Location::parse(text).unwrap();
        (provider, container, account, prefix)
    }

    #[test]
    fn every_spelling_is_read() {
        let plain = |provider, prefix: &str| (provider, "models".to_owned(), None, prefix.to_owned());
        assert_eq!(parsed("s3://models"), plain(Provider::S3, ""));
        assert_eq!(parsed("s3a://models/air/freight/"), plain(Provider::S3, "air/freight"));
        assert_eq!(parsed("gs://models/a%20b"), plain(Provider::Gcs, "a b"));
        assert_eq!(parsed("az://models/x"), plain(Provider::Azure, "x"));
        assert_eq!(
            parsed("abfss://models@acme.dfs.core.windows.net/x"),
            (Provider::Azure, "models".to_owned(), Some("acme".to_owned()), "x".to_owned())
        );
        assert_eq!(parsed("file:///mnt/shared"), (Provider::File, String::new(), None, "mnt/shared".to_owned()));
    }

    #[test]
    fn what_is_no_bucket_is_refused_without_showing_a_password() {
        for text in [
            "models",
            "http://models/x",
            "s3:///x",
            "file://host/x",
            "file:///",
            "s3://me:hunter2@models/x",
            "s3://models/x?key=hunter2",
            "s3://models:9000/x",
            "gs://models/a//b",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(matches!(error, BucketError::Url { .. }), "{text}");
        }
    }

    #[test]
    fn a_key_and_its_path_are_each_others_opposite() {
        for url in ["s3://models", "s3://models/air/freight", "gs://models/a%20b%25c", "file:///mnt/shared"] {
            let location = Location::parse(url).unwrap();
            let path = location.path("dag/run%3A1/x").unwrap();
            assert_eq!(location.key_of(&path), "dag/run%3A1/x");
            assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
        }
    }
}
