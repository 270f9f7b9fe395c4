//! What one process has: a runtime, and for each cluster a client and a watcher.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use airfreight_cluster::{ClusterError, Clusters};
use airfreight_core::ErrorKind;
use airfreight_ray::{Client, Runner, RunnerOptions, Settings, Watcher};
use bytes::Bytes;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::error;
use crate::kube::Way;

/// More clusters, or sets of credentials, than any process talks to; beyond it the oldest is forgotten.
const CLUSTERS_MAX: usize = 64;

/// A kubeconfig is read again after so long: its certificates may have been renewed.
const KUBECONFIG_LASTS: Duration = Duration::from_mins(5);

/// The state of one process, made with its first call.
pub(crate) struct Process {
    pid: u32,
    pub(crate) runtime: Runtime,
    clusters: Mutex<Vec<(Settings, Cluster)>>,
    platforms: Mutex<Vec<(airfreight_apolo::Settings, airfreight_apolo::Client)>>,
    runners: Mutex<Vec<Known>>,
    kubes: Mutex<Vec<(Way, Instant, Clusters)>>,
}

/// A runner, and what tells it from others.
struct Known {
    settings: Settings,
    options: RunnerOptions,
    package: Bytes,
    runner: Runner,
}

/// What all clients with equal arguments share.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) watcher: Watcher,
}

/// Locked only by threads that are attached to Python, and never while they let go of it. Who forks is attached, so
/// nobody can hold it then, and it is free in the child.
static PROCESS: Mutex<Option<&Process>> = Mutex::new(None);

/// This process's state.
///
/// What a process has inherited by `fork()` is left alone for ever: its threads are gone, and to drop its sockets would
/// meddle with the parent's, whose poll set the child shares.
pub(crate) fn process(py: Python<'_>) -> PyResult<&'static Process> {
    current().map_err(|source| error::new(py, ErrorKind::Unavailable, &format!("cannot start threads: {source}"), None))
}

/// Whether this process has a client of Apolo's for these settings, which then are good.
pub(crate) fn knows_platform(settings: &airfreight_apolo::Settings) -> bool {
    let current = *PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    current.filter(|process| process.pid == std::process::id()).is_some_and(|process| {
        let platforms = process.platforms.lock().unwrap_or_else(PoisonError::into_inner);
        platforms.iter().any(|(known, _)| known == settings)
    })
}

fn current() -> io::Result<&'static Process> {
    let pid = std::process::id();
    let mut current = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    match *current {
        Some(process) if process.pid == pid => Ok(process),
        _ => {
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .max_blocking_threads(8)
                .thread_name("airfreight")
                .enable_all()
                .build()?;
            let process = Process {
                pid,
                runtime,
                clusters: Mutex::default(),
                platforms: Mutex::default(),
                runners: Mutex::default(),
                kubes: Mutex::default(),
            };
            Ok(*current.insert(Box::leak(Box::new(process))))
        }
    }
}

impl Process {
    /// The client and watcher for these settings, shared by everybody in the process who has the same.
    pub(crate) fn cluster(&'static self, py: Python<'_>, settings: &Settings) -> PyResult<Cluster> {
        if let Some(cluster) = self.find(settings) {
            return Ok(cluster);
        }
        let client = Client::new(settings.clone()).map_err(|error| error::from_ray(py, &error))?;
        let _context = self.runtime.enter();
        let cluster = Cluster { watcher: Watcher::new(&client, settings.patience), client };
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if clusters.len() == CLUSTERS_MAX {
            clusters.remove(0);
        }
        clusters.push((settings.clone(), cluster.clone()));
        Ok(cluster)
    }

    /// Apolo's client for these settings, shared by everybody in the process who has the same.
    pub(crate) fn platform(
        &'static self,
        py: Python<'_>,
        settings: &airfreight_apolo::Settings,
    ) -> PyResult<airfreight_apolo::Client> {
        let mut platforms = self.platforms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = platforms.iter().find(|(known, _)| known == settings) {
            return Ok(client.clone());
        }
        let made = airfreight_apolo::Client::new(settings.clone());
        let client = match made {
            Ok(client) => client,
            Err(error) => {
                drop(platforms);
                return Err(error::from_apolo(py, &error));
            }
        };
        if platforms.len() == CLUSTERS_MAX {
            platforms.remove(0);
        }
        platforms.push((settings.clone(), client.clone()));
        Ok(client)
    }

    /// The client of an API server, shared by everybody in the process who goes the same way.
    pub(crate) async fn kube(&'static self, way: Way) -> Result<Clusters, ClusterError> {
        if let Some(clusters) = self.find_kube(&way) {
            return Ok(clusters);
        }
        let clusters = Clusters::connect(&way.access()).await?;
        let mut kubes = self.kubes.lock().unwrap_or_else(PoisonError::into_inner);
        kubes.retain(|(known, read_at, _)| *known != way && read_at.elapsed() < KUBECONFIG_LASTS);
        if kubes.len() == CLUSTERS_MAX {
            kubes.remove(0);
        }
        kubes.push((way, Instant::now(), clusters.clone()));
        Ok(clusters)
    }

    fn find_kube(&self, way: &Way) -> Option<Clusters> {
        let kubes = self.kubes.lock().unwrap_or_else(PoisonError::into_inner);
        kubes
            .iter()
            .find(|(known, read_at, _)| known == way && read_at.elapsed() < KUBECONFIG_LASTS)
            .map(|(_, _, clusters)| clusters.clone())
    }

    /// The runner that this package makes on a cluster, with what the process knows of the ways to it.
    pub(crate) fn runner(
        &'static self,
        py: Python<'_>,
        settings: &Settings,
        package: &[u8],
        options: &RunnerOptions,
    ) -> PyResult<Runner> {
        {
            let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
            let is_same =
                |known: &&Known| known.settings == *settings && known.options == *options && known.package == package;
            if let Some(known) = runners.iter().find(is_same) {
                return Ok(known.runner.clone());
            }
        }
        let client = self.cluster(py, settings)?.client;
        let package = Bytes::copy_from_slice(package);
        let runner = Runner::new(&client, package.clone(), options.clone());
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        if runners.len() == CLUSTERS_MAX {
            runners.remove(0);
        }
        let known = Known { settings: settings.clone(), options: options.clone(), package, runner: runner.clone() };
        runners.push(known);
        Ok(runner)
    }

    fn find(&self, settings: &Settings) -> Option<Cluster> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.iter().find(|(known, _)| known == settings).map(|(_, cluster)| cluster.clone())
    }
}
