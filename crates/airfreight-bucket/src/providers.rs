//! One client for each kind of storage, with its options, credentials and limits of patience.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use secrecy::ExposeSecret as _;

use crate::connect::Connector;
use crate::location::{Location, Provider};
use crate::{BucketError, Result, Settings};

/// A client, and what signs URLs where the storage has such.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) signer: Option<Arc<dyn Signer>>,
    /// Uploads in parts that another process can abort, given their id.
    pub(crate) multipart: Option<Arc<dyn MultipartStore>>,
    /// Whether it can be told to replace nothing.
    pub(crate) conditional: bool,
}

pub(crate) fn open(location: &Location, settings: &Settings) -> Result<Opened> {
    match location.provider {
        Provider::S3 => s3(location, settings),
        Provider::Gcs => gcs(location, settings),
        Provider::Azure => azure(location, settings),
        Provider::File => file(location),
    }
}

fn s3(location: &Location, settings: &Settings) -> Result<Opened> {
    let base = if settings.environment { AmazonS3Builder::from_env() } else { AmazonS3Builder::new() };
    let builder = configure(location, settings, base, AmazonS3Builder::with_config)?;
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key));
    let is_plain = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let conditional =
        builder.get_config_value(&AmazonS3ConfigKey::ConditionalPut).is_none_or(|mode| mode != "disabled");
    // Asks with every read for the checksum that S3 keeps; to be signed, it must be there before the client sees it.
    let asking =
        HeaderMap::from_iter([(HeaderName::from_static("x-amz-checksum-mode"), HeaderValue::from_static("ENABLED"))]);
    let store = builder
        .with_bucket_name(&location.container)
        .with_allow_http(is_plain)
        // Every part carries its CRC-64/NVME, which the server compares; a SHA-256 besides would cost more than sending.
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_unsigned_payload(true)
        .with_client_options(ClientOptions::new().with_default_headers(asking).with_allow_http(is_plain))
        .with_retry(retry(settings))
        .with_http_connector(Connector::new(settings, conditional)?)
        .build();
    cloud(location, store, conditional)
}

fn gcs(location: &Location, settings: &Settings) -> Result<Opened> {
    let base =
        if settings.environment { GoogleCloudStorageBuilder::from_env() } else { GoogleCloudStorageBuilder::new() };
    let store = configure(location, settings, base, GoogleCloudStorageBuilder::with_config)?
        .with_bucket_name(&location.container)
        .with_retry(retry(settings))
        .with_http_connector(Connector::new(settings, false)?)
        .build();
    cloud(location, store, true)
}

fn azure(location: &Location, settings: &Settings) -> Result<Opened> {
    let base = if settings.environment { MicrosoftAzureBuilder::from_env() } else { MicrosoftAzureBuilder::new() };
    let mut builder = configure(location, settings, base, MicrosoftAzureBuilder::with_config)?;
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    if let Some(account) = &location.account {
        builder = builder.with_account(account);
    }
    let store = builder
        .with_container_name(&location.container)
        .with_retry(retry(settings))
        .with_http_connector(Connector::new(settings, false)?)
        .build();
    cloud(location, store, true)
}

fn file(location: &Location) -> Result<Opened> {
    let path = location.directory();
    let failed = |source| BucketError::File { action: "make the directory", path: path.clone(), source };
    fs_err::create_dir_all(&path).map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&path)
        .map_err(|error| BucketError::from_storage("open", &location.to_string(), location, &error))?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(Opened { store: Arc::new(store), signer: None, multipart: None, conditional: true })
}

fn cloud<S: ObjectStore + Signer + MultipartStore>(
    location: &Location,
    built: object_store::Result<S>,
    conditional: bool,
) -> Result<Opened> {
    let store = Arc::new(built.map_err(|error| refused(location, &error.to_string()))?);
    let (multipart, signer) = (Arc::<S>::clone(&store), Arc::<S>::clone(&store));
    Ok(Opened { store, signer: Some(signer), multipart: Some(multipart), conditional })
}

/// Gives every option to the builder, under the names that the crate has for them.
fn configure<B, K: FromStr<Err: Debug>>(
    location: &Location,
    settings: &Settings,
    builder: B,
    set: impl Fn(B, K, String) -> B,
) -> Result<B> {
    settings.options.iter().try_fold(builder, |builder, (name, value)| {
        let key = K::from_str(name)
            .map_err(|_| refused(location, &format!("{} has no option `{name}`", location.provider.scheme())))?;
        Ok(set(builder, key, value.expose_secret().to_owned()))
    })
}

fn refused(location: &Location, reason: &str) -> BucketError {
    let reason = reason.strip_prefix("Generic ").unwrap_or(reason).to_owned();
    BucketError::Option { bucket: location.to_string(), reason }
}

/// Cuts, throttling and server errors are tried again, less and less often.
fn retry(settings: &Settings) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(15),
            base: 2.0,
        },
        max_retries: usize::MAX,
        retry_timeout: settings.patience,
    }
}
