//! A Kubernetes API server without Kubernetes, for tests and measurements in other languages.
//!
//! Its first line says where it listens and how to get in: `{"port": 34567, "kubeconfig": "/tmp/…/kubeconfig"}`. It ends
//! with the process that started it. For tests in Python:
//!
//! ```python
//! server = subprocess.Popen([binary, "--kubeconfig", tmp_path / "kubeconfig", "--dashboard", "127.0.0.1:8265"], stdout=PIPE)
//! address = json.loads(server.stdout.readline())
//! ```
//!
//! Clusters begin as `--script` says, or as the annotation `test/script` on one of them does: `healthy`, `recovers`,
//! `image-pull`, `unschedulable`, `quota`, `crash-loop`, `never-ready`, `unseen`. The kubeconfig's namespace is `demo`;
//! any other is there as well. `--dashboard` is where forwarded ports lead (say, a Ray dashboard without Ray, from this
//! same package), `--load-balancer` the address that heads' services are given.
//!
//! While it runs it listens to `http://127.0.0.1:<port>/_control…`, in JSON: restarts, watches that are cut or
//! forgotten (410), 429 and 5xx, expired tokens, refused rights, objects that somebody else writes. All calls are listed
//! in `airfreight_testkit`'s `kube/control.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use airfreight_testkit::kube::{KubeOptions, KubeServer, Script};
use clap::Parser;
use nix::sys::prctl;
use nix::sys::signal::Signal;

#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// Where to write the kubeconfig; by default a file in the system's folder for temporary ones, which stays there
    #[arg(long)]
    kubeconfig: Option<PathBuf>,

    /// What becomes of clusters
    #[arg(long, value_enum, default_value = "healthy")]
    script: Script,

    /// Milliseconds between two things that happen to a cluster
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,

    /// Where forwarded ports lead, whatever their number: address:port
    #[arg(long)]
    dashboard: Option<SocketAddr>,

    /// Give heads a load balancer's address, with the dashboard behind this address:port
    #[arg(long)]
    load_balancer: Option<SocketAddr>,

    /// Refuse who doesn't know this token, which stands in the kubeconfig
    #[arg(long)]
    token: Option<String>,

    /// Refuse a verb on a resource: `create:pods/portforward`; may be given again
    #[arg(long, value_parser = refusal)]
    deny: Vec<(String, String)>,

    /// Know no objects of KubeRay's
    #[arg(long)]
    no_operator: bool,
}

fn refusal(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once(':').ok_or("a verb and a resource are needed: `list:pods`")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        eprintln!("cannot end with the process that started this");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve(arguments)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot serve: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the line that says where it listens")]
async fn serve(arguments: Arguments) -> std::io::Result<()> {
    let server = KubeServer::start(KubeOptions {
        port: arguments.port,
        token: arguments.token,
        has_operator: !arguments.no_operator,
        namespaces: None,
        dashboard: arguments.dashboard,
        load_balancer: arguments.load_balancer,
        plot: arguments.script.plot(Duration::from_millis(arguments.pause_ms)),
    })
    .await?;
    for (verb, resource) in &arguments.deny {
        server.deny(verb, resource);
    }
    let kubeconfig = arguments
        .kubeconfig
        .unwrap_or_else(|| std::env::temp_dir().join(format!("airfreight-kubeconfig-{}", server.port())));
    fs_err::write(&kubeconfig, server.kubeconfig())?;
    println!("{}", serde_json::json!({"port": server.port(), "kubeconfig": kubeconfig}));
    std::future::pending().await
}
