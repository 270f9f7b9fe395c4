//! What the user, or whoever runs the command, wants in the middle of a job.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;
use crate::output::progress;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Ctrl-C at a terminal, for the first time: perhaps.
    Ask,
    /// Stop the job.
    Stop,
    /// Leave it running and go.
    Leave,
}

/// SIGINT, SIGTERM and SIGQUIT, which don't end the command any more.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    /// Whether somebody is there who can be asked.
    can_ask: bool,
    asked: bool,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            can_ask: io::stderr().is_terminal(),
            asked: false,
        })
    }

    /// The next wish. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.quit.recv() => Wish::Leave,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => {
                let ask = self.can_ask && !self.asked;
                self.asked = true;
                if ask { Wish::Ask } else { Wish::Stop }
            }
        }
    }

    /// Returns at any of them. Safe to cancel.
    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.quit.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the answer to a submission, which must not get lost: without it nobody knows whether there is a job.
    /// The second signal gives it up all the same.
    pub(crate) async fn hold<T, E>(&mut self, submitting: impl Future<Output = Result<T, E>>) -> Result<T, CliError>
    where
        CliError: From<E>,
    {
        let mut submitting = std::pin::pin!(submitting);
        let mut warned = false;
        loop {
            tokio::select! {
                biased;
                submitted = &mut submitting => return Ok(submitted?),
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                _ = self.quit.recv() => {}
            }
            if warned {
                return Err(CliError::Unanswered);
            }
            warned = true;
            progress("the submission is under way; once more to leave without its answer");
        }
    }
}
