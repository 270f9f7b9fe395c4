//! Goal: over TLS an agent and its clients know whom they talk to, also after certificates were renewed. Method: an
//! authority of the test's own, and real agents.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::path::PathBuf;

use airfreight_agent::{Access, Options, ServerTls, Tokens};
use airfreight_client::{Agent, ClientError, Fetched, Identity, Progress, Settings};
use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::Store;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

const TOKEN: &str = "the-token-of-those-who-read";

/// An authority, what it has signed, and two hosts.
struct Scene {
    folder: tempfile::TempDir,
    here: Store,
    name: ObjectName,
    url: String,
}

impl Scene {
    /// Writes `<name>.pem`, and `<name>.key`, signed by a new authority in `<name>-ca.pem`.
    fn sign(folder: &tempfile::TempDir, name: &str) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let write = |file: String, text: String| fs_err::write(folder.path().join(file), text).unwrap();
        write(format!("{name}-ca.pem"), ca.pem());
        write(format!("{name}.pem"), certificate.pem());
        write(format!("{name}.key"), key.serialize_pem());
    }

    async fn start(is_demanding: bool) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        Self::sign(&folder, "agent");
        Self::sign(&folder, "worker");
        let store = |name: &str| {
            let path = |what: &str| Some(folder.path().join(name).join(what));
            let options = airfreight_store::Options {
                path: path("store"),
                spill_path: path("spill"),
                capacity_bytes: Some(64 << 20),
                ..airfreight_store::Options::default()
            };
            Store::open(&options).unwrap()
        };
        let (there, here) = (store("there"), store("here"));
        let name = there.create().unwrap().seal(&[&vec![7; 5 << 20]], "{}").unwrap();
        let at = |file: &str| folder.path().join(file);
        let tls = ServerTls {
            certificate: at("agent.pem"),
            key: at("agent.key"),
            client_authorities: is_demanding.then(|| at("worker-ca.pem")),
        };
        let read = Tokens { file: None, text: Some(("a test".into(), TOKEN.to_owned().into())) };
        let options = Options {
            listen: vec!["127.0.0.1:0".into()],
            access: Access { read, ..Access::default() },
            tls: Some(tls),
            ..Options::default()
        };
        let agent = airfreight_agent::Agent::bind(there, &options).await.unwrap();
        let url = format!("https://localhost:{}", agent.addresses()[0].port());
        tokio::spawn(agent.run(std::future::pending()));
        Self { folder, here, name, url }
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn settings(&self) -> Settings {
        Settings {
            token: Some(TOKEN.to_owned().into()),
            authorities: Some(self.at("agent-ca.pem")),
            doubt: std::time::Duration::ZERO,
            ..Settings::new(&self.url)
        }
    }

    async fn fetch(&self, settings: Settings) -> Result<Fetched, ClientError> {
        self.here.delete(self.name).unwrap();
        Agent::new(settings)?.fetch(&self.here, self.name, &Progress::default()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_trusts_its_authority_and_nobody_else() {
    let scene = Scene::start(false).await;
    assert!(matches!(scene.fetch(scene.settings()).await.unwrap(), Fetched::Moved { .. }));
    for (scene_name, other) in [
        ("another authority", Settings { authorities: Some(scene.at("worker-ca.pem")), ..scene.settings() }),
        ("the system's", Settings { authorities: None, ..scene.settings() }),
        ("another name", Settings { url: scene.url.replace("localhost", "127.0.0.1"), ..scene.settings() }),
    ] {
        let error = scene.fetch(other).await.unwrap_err();
        assert!(matches!(error, ClientError::Untrusted { .. }), "{scene_name}: {error:?}");
        assert!(error.hint().unwrap().contains("agent_ca_file"));
    }
    let plain = Settings { url: scene.url.replace("https", "http"), ..scene.settings() };
    assert_eq!(scene.fetch(plain).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let missing = Settings { authorities: Some(scene.at("nothing.pem")), ..scene.settings() };
    assert_eq!(scene.fetch(missing).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_demands_certificates_lets_in_its_own_workers() {
    let scene = Scene::start(true).await;
    let identity = |name: &str| {
        let (certificate, key) = (scene.at(&format!("{name}.pem")), scene.at(&format!("{name}.key")));
        Some(Identity { certificate, key })
    };
    let with = |identity| scene.fetch(Settings { identity, ..scene.settings() });
    assert!(with(identity("worker")).await.is_ok());
    assert!(with(identity("agent")).await.is_err(), "another authority's");
    assert!(with(None).await.is_err(), "none");
    // A certificate is no token.
    let tokenless = Settings { token: None, identity: identity("worker"), ..scene.settings() };
    assert_eq!(scene.fetch(tokenless).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_starting_again() {
    let scene = Scene::start(false).await;
    scene.fetch(scene.settings()).await.unwrap();
    // Half of a renewal changes nothing, ...
    let old = fs_err::read(scene.at("agent-ca.pem")).unwrap();
    fs_err::write(scene.at("old-ca.pem"), old).unwrap();
    let old = Settings { authorities: Some(scene.at("old-ca.pem")), ..scene.settings() };
    fs_err::write(scene.at("agent.key"), "").unwrap();
    scene.fetch(old.clone()).await.unwrap();
    // ... all of it does.
    Scene::sign(&scene.folder, "agent");
    scene.fetch(scene.settings()).await.unwrap();
    assert!(matches!(scene.fetch(old).await.unwrap_err(), ClientError::Untrusted { .. }));
}
