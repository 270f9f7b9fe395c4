//! Goal: a dashboard is reached through TLS and proxies as the connection says, and what is wrong with either is said.
//! Method: a TLS end and a tunnel of our own before the fake dashboard, with certificates made for the test.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use airfreight_core::ErrorKind;
use airfreight_http::TlsError;
use airfreight_ray::{Client, Identity, RayError, Settings, Trust};
use airfreight_testkit::dashboard::{Dashboard, Options};
use fs_err as fs;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{settings, start};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// An authority and what it has signed, as files.
struct Pki {
    folder: tempfile::TempDir,
    server: ServerConfig,
    demanding: ServerConfig,
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
            (certificate, key)
        };
        let (certificate, key) = signed("client");
        fs::write(folder.path().join("client.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("client.key"), key.serialize_pem()).unwrap();
        fs::write(folder.path().join("both.pem"), certificate.pem() + &key.serialize_pem()).unwrap();
        let (certificate, key) = signed("127.0.0.1");
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
        let chain = vec![certificate.der().clone()];
        let key = || PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder = || {
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap()
        };
        let server = builder().with_no_client_auth().with_single_cert(chain.clone(), key()).unwrap();
        let demanding = builder().with_client_cert_verifier(verifier).with_single_cert(chain, key()).unwrap();
        Self { folder, server, demanding }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The address of a TLS end before a dashboard.
async fn behind_tls(dashboard: &Dashboard, config: &ServerConfig) -> String {
    let (acceptor, port) = (TlsAcceptor::from(Arc::new(config.clone())), dashboard.port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut inner = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                drop(copy_bidirectional(&mut stream, &mut inner).await);
            });
        }
    });
    address
}

/// The address of a proxy that makes tunnels for those who know the login.
async fn tunnel() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_line(&mut head).await.unwrap();
                }
                let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
                if !head.to_ascii_lowercase().contains("proxy-authorization: basic ") {
                    stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
                    return;
                }
                let mut inner = TcpStream::connect(target).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                drop(copy_bidirectional(&mut stream, &mut inner).await);
            });
        }
    });
    address
}

/// The address of a SOCKS 5 proxy (RFC 1928) that asks for a login (RFC 1929) and knows the name `ray.invalid`.
async fn socks(dashboard: &Dashboard) -> String {
    let port = dashboard.port();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let methods = read_block(&mut stream, 1).await;
                assert!(methods.contains(&2), "no login is offered: {methods:?}");
                stream.write_all(&[5, 2]).await.unwrap();
                let login = read_block(&mut stream, 1).await;
                let password = read_block(&mut stream, 0).await;
                let known = (login.as_slice(), password.as_slice()) == (b"me", b"pass");
                stream.write_all(&[1, u8::from(!known)]).await.unwrap();
                if !known {
                    return;
                }
                let mut request = [0; 4];
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(request, [5, 1, 0, 3], "connect to a name");
                assert_eq!(read_block(&mut stream, 0).await, b"ray.invalid");
                stream.read_u16().await.unwrap();
                let mut inner = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
                drop(copy_bidirectional(&mut stream, &mut inner).await);
            });
        }
    });
    address
}

/// Bytes behind their number, after `skipped` others.
async fn read_block(stream: &mut TcpStream, skipped: usize) -> Vec<u8> {
    stream.read_exact(&mut vec![0; skipped]).await.unwrap();
    let mut block = vec![0; usize::from(stream.read_u8().await.unwrap())];
    stream.read_exact(&mut block).await.unwrap();
    block
}

async fn version(settings: Settings) -> Result<String, RayError> {
    Ok(Client::new(settings)?.cluster().await?.ray_version)
}

#[tokio::test]
async fn certificates_are_checked_as_the_connection_says() {
    let (dashboard, _) = start(Options::default()).await;
    let pki = Pki::new();
    let address = behind_tls(&dashboard, &pki.server).await;
    let with = |verify| Settings { address: address.clone(), verify, ..settings(&dashboard) };
    assert_eq!(version(with(Trust::Bundle(pki.at("ca.pem")))).await.unwrap(), "2.60.0");
    assert_eq!(version(with(Trust::Bundle(pki.folder.path().into()))).await.unwrap(), "2.60.0", "a directory");
    assert_eq!(version(with(Trust::Anyone)).await.unwrap(), "2.60.0");
    for verify in [Trust::System, Trust::Bundle(pki.at("client.pem"))] {
        let error = version(with(verify)).await.unwrap_err();
        assert!(matches!(error, RayError::Untrusted { .. }) && error.kind() == ErrorKind::Invalid, "{error:?}");
        assert!(error.hint().unwrap().contains("verify"));
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_wants_it() {
    let (dashboard, _) = start(Options::default()).await;
    let pki = Pki::new();
    let address = behind_tls(&dashboard, &pki.demanding).await;
    let with = |files: Option<(&str, &str)>| Settings {
        address: address.clone(),
        verify: Trust::Bundle(pki.at("ca.pem")),
        client_certificate: files
            .map(|(certificate, key)| Identity { certificate: pki.at(certificate), key: pki.at(key) }),
        ..settings(&dashboard)
    };
    assert_eq!(version(with(Some(("client.pem", "client.key")))).await.unwrap(), "2.60.0");
    assert_eq!(version(with(Some(("both.pem", "both.pem")))).await.unwrap(), "2.60.0");
    let error = version(with(None)).await.unwrap_err();
    assert!(matches!(error, RayError::Untrusted { .. }), "{error:?}");
    assert!(airfreight_core::chain(&error).contains("CertificateRequired"), "{error:?}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_before_anything_is_sent() {
    let pki = Pki::new();
    fs::write(pki.at("garbled.pem"), "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n").unwrap();
    fs::write(pki.at("empty.pem"), "nothing").unwrap();
    fs::create_dir(pki.at("none")).unwrap();
    let https = Settings::new("https://ray.example.com");
    let refused = |settings: Settings, name: &str| {
        let error = Client::new(settings).unwrap_err();
        let RayError::Certificate(TlsError::File { path, .. }) = &error else { panic!("{error:?}") };
        assert_eq!(*path, pki.at(name));
        assert_eq!(error.kind(), ErrorKind::Invalid);
    };
    for name in ["missing.pem", "garbled.pem", "empty.pem", "none"] {
        refused(Settings { verify: Trust::Bundle(pki.at(name)), ..https.clone() }, name);
    }
    for (certificate, key, name) in [
        ("missing.pem", "client.key", "missing.pem"),
        ("client.pem", "missing.key", "missing.key"),
        ("client.pem", "client.pem", "client.pem"),
        ("ca.pem", "client.key", "client.key"),
    ] {
        let client_certificate = Some(Identity { certificate: pki.at(certificate), key: pki.at(key) });
        refused(Settings { client_certificate, verify: Trust::Anyone, ..https.clone() }, name);
    }
}

#[tokio::test]
async fn the_wrong_scheme_is_found_out() {
    let (dashboard, _) = start(Options::default()).await;
    let pki = Pki::new();
    let tls = behind_tls(&dashboard, &pki.server).await;
    let quick = Settings { patience: Duration::ZERO, ..settings(&dashboard) };
    let address = dashboard.address().replace("http://", "https://");
    let error = version(Settings { address, verify: Trust::Anyone, ..quick.clone() }).await.unwrap_err();
    assert!(matches!(error, RayError::Untrusted { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("http://"));
    let error = version(Settings { address: tls.replace("https://", "http://"), ..quick }).await.unwrap_err();
    assert!(matches!(error, RayError::Unreadable { .. } | RayError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_proxy_is_told_the_whole_address() {
    let (proxy, _) = start(Options::default()).await;
    let through = Settings {
        address: "http://ray.invalid:8265/team".into(),
        proxy: Some(proxy.address().replace("http://", "http://me:pa55word@")),
        patience: Duration::ZERO,
        ..settings(&proxy)
    };
    assert!(!format!("{through:?}").contains("pa55word"));
    drop(version(through).await);
    let request = proxy.traffic().requests.remove(0);
    assert_eq!(request.headers["host"], "ray.invalid:8265");
    assert_eq!(request.headers["proxy-authorization"], "Basic bWU6cGE1NXdvcmQ=");
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let (dashboard, _) = start(Options::default()).await;
    let pki = Pki::new();
    let (address, tunnel) = (behind_tls(&dashboard, &pki.server).await, tunnel().await);
    let through = |proxy: String| Settings {
        address: address.clone(),
        verify: Trust::Bundle(pki.at("ca.pem")),
        proxy: Some(proxy),
        token: Some("T0ken".into()),
        ..settings(&dashboard)
    };
    assert_eq!(version(through(format!("http://me:pass@{tunnel}"))).await.unwrap(), "2.60.0");
    let headers = &dashboard.traffic().requests[0].headers;
    assert!(!headers.contains_key("proxy-authorization"), "it is for the proxy alone");
    assert_eq!(headers["authorization"], "Bearer T0ken");
    let error = version(through(format!("http://{tunnel}"))).await.unwrap_err();
    assert!(matches!(error, RayError::Denied { status: 407, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("proxy's URL"));
}

#[tokio::test]
async fn names_are_left_to_a_socks_proxy() {
    let (dashboard, _) = start(Options::default()).await;
    let proxy = socks(&dashboard).await;
    let through = |login: &str| Settings {
        address: "http://ray.invalid:8265".into(),
        proxy: Some(format!("socks5h://{login}@{proxy}")),
        patience: Duration::ZERO,
        ..settings(&dashboard)
    };
    assert_eq!(version(through("me:pass")).await.unwrap(), "2.60.0");
    assert!(version(through("me:wrong")).await.is_err());
}

#[test]
fn a_proxy_that_is_none_is_refused_without_its_password() {
    let wrong = Settings { proxy: Some("ftp://me:pa55word@host".into()), ..Settings::new("ray-head") };
    let error = Client::new(wrong).unwrap_err();
    assert!(matches!(error, RayError::Setting { setting: "proxy", .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("pa55word"));
}
