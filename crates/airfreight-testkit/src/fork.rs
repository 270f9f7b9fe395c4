//! `fork()`, the testkit's only unsafe code.

#![allow(unsafe_code, reason = "a test of what a store does across fork() has to fork")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

/// A forked child, reaped when this is dropped.
#[derive(Debug)]
pub struct Forked(Option<Pid>);

/// Runs `body` in a forked child, which ends with `_exit`: 0 for `true`, else 1. As an Airflow task does, it runs no
/// destructor of what it inherited.
///
/// # Errors
/// When the system has no room for another process.
pub fn fork(body: impl FnOnce() -> bool) -> std::io::Result<Forked> {
    // SAFETY: the callers are programs of one thread, so the child inherits no lock of another one.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked(Some(child))),
        ForkResult::Child => {
            let good = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
            // SAFETY: ends this process without running anything.
            unsafe { nix::libc::_exit(i32::from(!good)) }
        }
    }
}

impl Forked {
    /// Kills the child with SIGKILL; it may have ended before.
    pub fn kill(&self) {
        if let Some(pid) = self.0 {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Whether the child has ended, and how: `Err` when it found something wrong.
    ///
    /// # Errors
    /// The child's end, where it is neither a good one nor SIGKILL.
    pub fn ended(&mut self) -> Result<bool, String> {
        self.reap(Some(WaitPidFlag::WNOHANG))
    }

    /// Waits for the child's end.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub fn wait(mut self) -> Result<(), String> {
        self.reap(None).map(|_| ())
    }

    fn reap(&mut self, flags: Option<WaitPidFlag>) -> Result<bool, String> {
        let Some(pid) = self.0 else { return Ok(true) };
        let status = waitpid(pid, flags);
        if status != Ok(WaitStatus::StillAlive) {
            self.0 = None;
        }
        match status {
            Ok(WaitStatus::StillAlive) => Ok(false),
            Ok(WaitStatus::Exited(_, 0) | WaitStatus::Signaled(_, Signal::SIGKILL, _)) => Ok(true),
            other => Err(format!("a forked child ended badly: {other:?}")),
        }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.kill();
            let _ = self.reap(None);
        }
    }
}
