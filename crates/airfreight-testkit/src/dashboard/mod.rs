//! A Ray dashboard without Ray: the Jobs API with its quirks, jobs that follow a script, and faults on demand.
//!
//! It answers as Ray 2.60 does, or as an older one: same paths, bodies, statuses and error texts, including the odd
//! ones. What it is told comes by [`Dashboard`]'s methods or, from another process, by HTTP (`control`).

mod answer;
mod api;
mod body;
mod control;
mod fault;
mod files;
mod job;
mod requests;
mod runner;
mod serve;
mod state;
mod text;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use fault::{Fault, Server};
pub use job::{JobScript, Word};
pub use requests::{Arrived, Traffic};
pub use runner::RunnerScript;
pub use state::Package;

use serve::Shared;

/// Which Ray to be, and how slow.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port of the dashboard on 127.0.0.1; 0 for any.
    pub port: u16,
    /// The port of the node's agent, which serves log files by range; 0 for any.
    pub agent_port: u16,
    /// Whether jobs name the agent's real address. Otherwise nobody listens there, as seen from outside of a cluster.
    pub agent_reachable: bool,
    /// The Ray to be, from 2.9 on.
    pub ray_version: String,
    /// The token that requests need.
    pub token: Option<String>,
    /// Login and password, `login:password`, of a proxy before the dashboard.
    pub basic: Option<String>,
    /// Whether that proxy leaves its login in the request, which Ray then takes for a wrong token.
    pub basic_passes: bool,
    /// What a list costs for each job: Ray needs 0.4 ms.
    pub list_ms_per_job: f64,
    /// What any other call costs: Ray needs 4 ms for one job.
    pub call_ms: f64,
    /// How many calls are served at once; the others wait. A real dashboard freezes at 100.
    pub in_flight_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            agent_port: 0,
            agent_reachable: true,
            ray_version: "2.60.0".into(),
            token: None,
            basic: None,
            basic_passes: false,
            list_ms_per_job: 0.0,
            call_ms: 0.0,
            in_flight_max: 100,
        }
    }
}

/// A dashboard that listens; dropping it closes its ports and connections.
pub struct Dashboard {
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

impl Dashboard {
    /// Listens on 127.0.0.1 and serves on the runtime that this is called on.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let dashboard = listen(options.port).await?;
        let agent = listen(options.agent_port).await?;
        let shared = Arc::new(Shared::new(options, dashboard.local_addr()?, agent.local_addr()?));
        let mut this = Self { shared, listeners: Vec::new() };
        this.listen(dashboard, Server::Dashboard);
        this.listen(agent, Server::Agent);
        Ok(this)
    }

    fn listen(&mut self, listener: TcpListener, server: Server) {
        self.listeners.push(tokio::spawn(serve::accept(Arc::clone(&self.shared), listener, server)));
    }

    /// Where it is: `http://127.0.0.1:…`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://{}", self.shared.dashboard)
    }

    /// The dashboard's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.dashboard.port()
    }

    /// The agent's port.
    #[must_use]
    pub fn agent_port(&self) -> u16 {
        self.shared.agent.port()
    }

    /// Closes both ports and all connections at once, as a head node that crashes; [`Dashboard::resume`] opens them.
    pub async fn crash(&mut self) {
        for listener in self.listeners.drain(..) {
            listener.abort();
            let _ = listener.await;
        }
        self.shared.hang_up();
    }

    /// Listens again on the same ports after [`Dashboard::crash`]. The cluster remembers its jobs:
    /// [`Dashboard::replace_cluster`] makes it forget.
    ///
    /// # Errors
    /// Somebody else has taken a port meanwhile.
    pub async fn resume(&mut self) -> std::io::Result<()> {
        let dashboard = listen(self.shared.dashboard.port()).await?;
        let agent = listen(self.shared.agent.port()).await?;
        self.listen(dashboard, Server::Dashboard);
        self.listen(agent, Server::Agent);
        Ok(())
    }

    /// Adds a job that begins its script now, in place of one with the same id.
    ///
    /// # Panics
    /// The script has no id.
    pub fn add_job(&self, script: JobScript) {
        assert!(!script.id.is_empty(), "a job needs an id");
        self.shared.state().add(script);
    }

    /// Adds `count` jobs `{prefix}0`, `{prefix}1`, … that all follow one script.
    pub fn add_jobs(&self, prefix: &str, count: usize, script: &JobScript) {
        let mut state = self.shared.state();
        for number in 0..count {
            state.add(JobScript { id: format!("{prefix}{number}"), ..script.clone() });
        }
    }

    /// What every job that is submitted from now on does.
    pub fn script_submissions(&self, script: JobScript) {
        self.shared.state().template = script;
    }

    /// Appends to a job's log. Not for jobs whose log grows by itself.
    ///
    /// # Panics
    /// There is no such job.
    pub fn append(&self, id: &str, text: &str) {
        assert!(self.shared.state().append(id, text), "there is no job {id}");
    }

    /// Takes a job to a status from now on, whatever its script says.
    ///
    /// # Panics
    /// There is no such job.
    pub fn set_status(&self, id: &str, status: Word) {
        assert!(self.shared.state().set_status(id, status), "there is no job {id}");
    }

    /// How runners are that begin from now on.
    pub fn script_runner(&self, script: RunnerScript) {
        self.shared.state().runner.script = script;
    }

    /// Ends the runner as SIGKILL does; its job goes on, and what its owners hold stays.
    pub fn kill_runner(&self) {
        runner::kill(&self.shared);
    }

    /// Lets the runner begin another life, as Ray does with an actor that died: another generation, port and token.
    pub fn revive_runner(&self, id: &str) {
        runner::revive(&self.shared, id.to_owned());
    }

    /// How often a runner has begun.
    #[must_use]
    pub fn runner_lives(&self) -> u32 {
        self.shared.state().runner.lives
    }

    /// Ends a call of the runner's with this status.
    pub fn end_call(&self, id: &str, status: &str) {
        runner::end_call(&self.shared, id, status);
    }

    /// The body with which a job was submitted; `None` if nobody did.
    #[must_use]
    pub fn submission(&self, id: &str) -> Option<serde_json::Value> {
        self.shared.state().job(id)?.submission.clone()
    }

    /// The ids of all jobs, in the order of their creation.
    #[must_use]
    pub fn job_ids(&self) -> Vec<String> {
        self.shared.state().jobs.iter().map(|job| job.script.id.clone()).collect()
    }

    /// A file below the session's log directory of the only node.
    pub fn add_file(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.shared.state().files.insert(name.to_owned(), content.into().into());
    }

    /// The packages that were uploaded.
    #[must_use]
    pub fn packages(&self) -> Vec<Package> {
        self.shared.state().packages.values().cloned().collect()
    }

    /// Forgets a package, as Ray does when its last job has ended.
    pub fn forget_package(&self, name: &str) {
        self.shared.state().packages.remove(name);
    }

    /// Another cluster at the same address: no jobs, no packages, another session name.
    pub fn replace_cluster(&self) {
        self.shared.state().replace();
    }

    /// The session's name, also where the Ray that this pretends to be doesn't tell it.
    #[must_use]
    pub fn session_name(&self) -> String {
        self.shared.state().session_name.clone()
    }

    /// Lets requests fail in future, after the faults that were added before.
    ///
    /// # Panics
    /// The fault's path is no regular expression.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults().add(fault).expect("the path is a regular expression");
    }

    /// Lets everything succeed again; what hangs goes on hanging.
    pub fn mend(&self) {
        self.shared.faults().clear();
    }

    /// What has arrived so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared.requests().traffic()
    }

    /// Forgets what has arrived, and counts open connections from here on.
    pub fn forget_traffic(&self) {
        self.shared.requests().forget();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
        self.shared.hang_up();
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await
}
