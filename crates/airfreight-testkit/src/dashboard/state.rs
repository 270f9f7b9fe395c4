//! What the cluster holds.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::job::{Job, JobScript, Word};
use super::runner::Runner;

/// A package that was uploaded.
#[derive(Clone, Debug)]
pub struct Package {
    /// The last part of its `gcs://` URI.
    pub name: String,
    /// The zip.
    pub content: Bytes,
    /// How often it was asked for, which pins it for ten minutes each time.
    pub pins: u32,
    /// How often it was uploaded.
    pub uploads: u32,
}

/// What the cluster holds.
#[derive(Debug)]
pub(super) struct State {
    pub(super) session_name: String,
    pub(super) jobs: Vec<Job>,
    pub(super) packages: BTreeMap<String, Package>,
    pub(super) files: BTreeMap<String, Bytes>,
    pub(super) runner: Runner,
    /// What jobs do that somebody submits.
    pub(super) template: JobScript,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            session_name: session_name(),
            jobs: Vec::new(),
            packages: BTreeMap::new(),
            files: BTreeMap::new(),
            runner: Runner::default(),
            template: JobScript::default(),
        }
    }

    pub(super) fn replace(&mut self) {
        let template = self.template.clone();
        let runner = Runner::like(&self.runner);
        *self = Self { runner, template, ..Self::new() };
    }

    pub(super) fn add(&mut self, script: JobScript) {
        self.jobs.retain(|job| job.script.id != script.id);
        self.jobs.push(Job::new(script));
    }

    /// By submission id, else by Ray's own id.
    pub(super) fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.script.id == id || job.script.job_id.as_deref() == Some(id))
    }

    pub(super) fn job_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.script.id == id || job.script.job_id.as_deref() == Some(id))
    }

    pub(super) fn append(&mut self, id: &str, text: &str) -> bool {
        self.job_mut(id).map(|job| job.append(text)).is_some()
    }

    pub(super) fn set_status(&mut self, id: &str, status: Word) -> bool {
        self.job_mut(id).map(|job| job.set_status(status, Duration::ZERO)).is_some()
    }
}

fn session_name() -> String {
    format!("session_2026-11-21_08-12-57_{:06}_{}", fastrand::u32(0..1_000_000), fastrand::u32(100..100_000))
}
