//! Whom we trust, and who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use rustls_platform_verifier::Verifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme};

use crate::settings::Verify;
use crate::{RayError, Result};

/// Reads the certificates that `verify` and `own` name.
pub(crate) fn config(verify: &Verify, own: Option<&(PathBuf, PathBuf)>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let internal = |source: TlsError| RayError::Internal { what: format!("cannot set TLS up: {source}") };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(internal)?;
    let builder = match verify {
        Verify::System => {
            let verifier = Verifier::new(provider).map_err(|source| RayError::Setting {
                setting: "verify",
                reason: format!("the system's certificates can't be read: {source}"),
            })?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Verify::Off => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        Verify::Bundle(path) => builder.with_root_certificates(authorities(path)?),
    };
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("client certificate", certificate)?;
            let secret = PrivateKeyDer::from_pem_slice(&read("client key", key)?)
                .map_err(|_| unusable("client key", key, "there is no private key in it"))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|source| unusable("client key", key, &format!("it doesn't fit the certificate: {source}")))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities of a bundle, or of all files in a directory of certificates.
fn authorities(path: &Path) -> Result<RootCertStore> {
    const ROLE: &str = "CA bundle";
    let mut store = RootCertStore::empty();
    let files = if path.is_dir() {
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(|source| unusable(ROLE, path, &source.to_string()))? {
            let file = entry.map_err(|source| unusable(ROLE, path, &source.to_string()))?.path();
            if file.is_file() {
                files.push(file);
            }
        }
        files
    } else {
        vec![path.to_owned()]
    };
    for file in files {
        match certificates(ROLE, &file) {
            Ok(found) => drop(store.add_parsable_certificates(found)),
            // A directory of certificates may hold other files, too.
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    if store.is_empty() {
        return Err(unusable(ROLE, path, "there is no certificate in it"));
    }
    Ok(store)
}

fn certificates(role: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(role, path)?)
        .collect::<Result<_, _>>()
        .map_err(|source| unusable(role, path, &format!("it isn't PEM: {source}")))?;
    if found.is_empty() {
        return Err(unusable(role, path, "there is no certificate in it"));
    }
    Ok(found)
}

fn read(role: &'static str, path: &Path) -> Result<Vec<u8>> {
    // The path stands in the message already.
    #[expect(clippy::disallowed_methods, reason = "our own message names the path")]
    std::fs::read(path).map_err(|source| unusable(role, path, &source.to_string()))
}

fn unusable(role: &'static str, path: &Path, reason: &str) -> RayError {
    RayError::Certificate { role, path: path.to_owned(), reason: reason.to_owned() }
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
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
