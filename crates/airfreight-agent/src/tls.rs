//! TLS of the server: certificates that may be renewed while it runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use airfreight_http::{TlsError, authorities, certificates, private_key};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tracing::{error, info};

/// With which certificate the agent answers, and whose it wants to see: PEM files.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Its certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Clients must have a certificate that one of these authorities has signed.
    pub client_authorities: Option<PathBuf>,
}

/// Accepts TLS connections, by the files as they are now.
pub(crate) struct Acceptor {
    files: ServerTls,
    known: Mutex<(Vec<Option<SystemTime>>, TlsAcceptor)>,
}

impl Acceptor {
    pub(crate) fn new(files: ServerTls) -> Result<Self, TlsError> {
        let known = Mutex::new((files.times(), files.read()?));
        Ok(Self { files, known })
    }

    pub(crate) fn current(&self) -> TlsAcceptor {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let times = self.files.times();
        if times != known.0 {
            known.0 = times;
            match self.files.read() {
                Ok(acceptor) => {
                    info!(path = %self.files.certificate.display(), "read the certificate again");
                    known.1 = acceptor;
                }
                // Certificate and key are replaced one after the other.
                Err(error) => error!(%error, "going on with the certificate from before"),
            }
        }
        known.1.clone()
    }
}

impl ServerTls {
    fn read(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let internal = |source| TlsError::Internal { source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(internal)?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| TlsError::file("CA bundle", path, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates("certificate", &self.certificate)?;
        let key = private_key("key", &self.key)?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|source| TlsError::file("key", &self.key, format!("it doesn't fit the certificate: {source}")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn times(&self) -> Vec<Option<SystemTime>> {
        let time = |path: &Path| fs_err::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let files = [Some(&self.certificate), Some(&self.key), self.client_authorities.as_ref()];
        files.into_iter().flatten().map(|path| time(path)).collect()
    }
}
