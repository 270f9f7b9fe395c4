//! Worker processes, what they tell, and their violent ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::Event;

/// Hears of all workers' events in one place.
#[derive(Debug)]
pub struct Supervisor {
    sender: Sender<(u64, Event)>,
    events: Receiver<(u64, Event)>,
    started: u64,
}

/// A worker process; killed when this is dropped.
#[derive(Debug)]
pub struct Worker {
    /// Tells this worker's events from those of others.
    pub number: u64,
    child: Child,
    /// Ends with the last process that holds the pipe: forked children of a killed worker speak on.
    listener: Option<JoinHandle<()>>,
}

impl Default for Supervisor {
    fn default() -> Self {
        let (sender, events) = channel();
        Self { sender, events, started: 0 }
    }
}

impl Supervisor {
    /// Starts a worker, whose standard output is its events.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn start(&mut self, mut command: Command) -> std::io::Result<Worker> {
        let number = self.started;
        self.started += 1;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let sender = self.sender.clone();
        let listener = child.stdout.take().map(|output| {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // The last line of a killed process may be cut only if it was longer than a pipe takes at once.
                    let event = line.parse().unwrap_or_else(Event::Failed);
                    if sender.send((number, event)).is_err() {
                        return;
                    }
                }
            })
        });
        Ok(Worker { number, child, listener })
    }

    /// Everything that was told since the last call.
    pub fn events(&self) -> impl Iterator<Item = (u64, Event)> {
        self.events.try_iter()
    }

    /// Everything that is still told, until the last process that could is gone. Kill all workers before.
    pub fn rest(self) -> impl Iterator<Item = (u64, Event)> {
        drop(self.sender);
        self.events.into_iter()
    }

    /// The next event, whenever it comes; `None` when it takes longer than `timeout`.
    #[must_use]
    pub fn next(&self, timeout: std::time::Duration) -> Option<(u64, Event)> {
        self.events.recv_timeout(timeout).ok()
    }
}

impl Worker {
    /// How the worker ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The worker's process id.
    #[must_use]
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Kills the worker with SIGKILL and returns how it ended, which may have been on its own just before.
    ///
    /// # Errors
    /// When the process can't be waited for.
    pub fn kill(mut self) -> std::io::Result<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait()
    }

    /// Waits until the worker has ended, and all that it forked, so that everything it told has been heard.
    ///
    /// # Errors
    /// When the process can't be waited for.
    pub fn join(mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait()?;
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        Ok(status)
    }

    /// Kills the worker, then as [`Self::join`].
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn kill_and_join(mut self) -> std::io::Result<ExitStatus> {
        let _ = self.child.kill();
        self.join()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
