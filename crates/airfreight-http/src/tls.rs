//! Whom we trust, and who we are.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use rustls_platform_verifier::Verifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, SignatureScheme};

use crate::{TlsError, causes};

const BUNDLE: &str = "CA bundle";

/// Which servers' certificates are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those that the system trusts.
    #[default]
    System,
    /// Those, and what the authorities in this PEM file, or directory of such files, have signed.
    SystemAnd(PathBuf),
    /// Only what the authorities in this PEM file, or directory of such files, have signed.
    Bundle(PathBuf),
    /// Any. Whoever sits between can read and change everything.
    Anyone,
}

/// With which certificate we answer servers that ask for one: PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Our certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Reads the certificates and makes of them how a client speaks TLS: HTTP/1.1 over 1.2 or 1.3.
///
/// # Errors
/// [`TlsError::File`] for what can't be read or holds no certificate or key; [`TlsError::System`].
pub fn config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let internal = |source: RustlsError| TlsError::Internal { source };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(internal)?;
    let system = |more: Vec<CertificateDer<'static>>, provider| {
        Verifier::new_with_extra_roots(more, provider).map(Arc::new).map_err(|source| TlsError::System { source })
    };
    let builder = match trust {
        Trust::System => builder.dangerous().with_custom_certificate_verifier(system(Vec::new(), provider)?),
        Trust::SystemAnd(path) => {
            builder.dangerous().with_custom_certificate_verifier(system(authorities(path)?, provider)?)
        }
        Trust::Bundle(path) => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(authorities(path)?);
            if store.is_empty() {
                return Err(TlsError::file(BUNDLE, path, "there is no authority's certificate in it"));
            }
            builder.with_root_certificates(store)
        }
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = certificates("client certificate", certificate)?;
            let secret = private_key("client key", key)?;
            builder.with_client_auth_cert(chain, secret).map_err(|source| {
                TlsError::file("client key", key, format!("it doesn't fit the certificate: {source}"))
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether TLS is what failed: no certificate becomes better by waiting.
#[must_use]
pub fn is_tls(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<RustlsError>() || cause.is::<InvalidDnsNameError>() || cause.is::<TlsError>())
}

/// The authorities of a bundle, or of all files in a directory of certificates.
///
/// # Errors
/// [`TlsError::File`] for what can't be read or holds none.
pub fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if !path.is_dir() {
        return certificates(BUNDLE, path);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| TlsError::file(BUNDLE, path, source.to_string()))? {
        let file = entry.map_err(|source| TlsError::file(BUNDLE, path, source.to_string()))?.path();
        if file.is_file() {
            // A directory of certificates may hold other files, too.
            found.extend(certificates(BUNDLE, &file).unwrap_or_default());
        }
    }
    if found.is_empty() { Err(TlsError::file(BUNDLE, path, "there is no certificate in it")) } else { Ok(found) }
}

/// The certificates in a PEM file.
///
/// # Errors
/// [`TlsError::File`] for what can't be read or holds none.
pub fn certificates(role: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(role, path)?)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::file(role, path, format!("it isn't PEM: {source}")))?;
    if found.is_empty() { Err(TlsError::file(role, path, "there is no certificate in it")) } else { Ok(found) }
}

/// The private key in a PEM file.
///
/// # Errors
/// [`TlsError::File`] for what can't be read or holds none.
pub fn private_key(role: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(role, path)?)
        .map_err(|_| TlsError::file(role, path, "there is no private key in it"))
}

fn read(role: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    // The path stands in the message already.
    #[expect(clippy::disallowed_methods, reason = "our own message names the path")]
    std::fs::read(path).map_err(|source| TlsError::file(role, path, source.to_string()))
}

/// Trusts whoever answers, as `verify = false` asks for. That the peer holds its certificate's key is still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
