//! A job's log as it grows, until the job is over.

use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use airfreight_ray::{Client, Event, Follow, Job, RayError, Watcher};

use super::signals::{Signals, Wish};
use crate::error::CliError;
use crate::output::{Output, progress};

/// How long a head node may take to come back.
const PATIENCE: Duration = Duration::from_mins(5);
/// Until somebody loses patience: a job that waits for resources can be stopped once it has them.
const STOP_LIMIT: Duration = Duration::from_hours(24 * 365);

/// Which job, and how.
pub(super) struct Following<'a> {
    pub(super) id: &'a str,
    /// The session that it was submitted to.
    pub(super) session: Option<String>,
    /// Whether to say how the job gets on, besides its log.
    pub(super) talks: bool,
}

/// Shows the log up to its end and answers the job as it is then. With `signals` the job can be stopped.
pub(super) async fn follow(
    client: &Client,
    following: &Following<'_>,
    mut signals: Option<&mut Signals>,
    output: &mut Output<'_>,
) -> Result<Job, CliError> {
    let id = following.id;
    let patient = client.with_patience(PATIENCE);
    let watcher = Watcher::new(&patient, PATIENCE);
    let watch = watcher.watch(Follow { session: following.session.clone(), ..Follow::new(id) });
    let mut stopping: Pin<Box<dyn Future<Output = Result<Job, RayError>>>> = Box::pin(std::future::pending());
    let mut stops = false;
    let mut deaf = false;
    loop {
        let wish = async {
            match &mut signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = watch.next() => event.map_err(CliError::Followed)?,
            stopped = &mut stopping => {
                stopped?;
                // The watch says the rest.
                stopping = Box::pin(std::future::pending());
                continue;
            }
            wish = pin!(wish) => {
                match wish {
                    Wish::Ask => progress(format_args!(
                        "\njob {id} still runs: Ctrl-C again stops it, Ctrl-\\ leaves it running"
                    )),
                    Wish::Stop if !stops => {
                        progress(format_args!("stopping job {id}; once more to leave it as it is"));
                        stops = true;
                        stopping = Box::pin(patient.stop_and_wait(id, STOP_LIMIT));
                    }
                    Wish::Stop | Wish::Leave => return Err(CliError::Left { id: id.to_owned() }),
                }
                continue;
            }
        };
        match event {
            Event::Lines { lines, .. } if !deaf => match show(&lines, output) {
                // Nobody reads the log any more; a job's end still counts.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && signals.is_some() => deaf = true,
                other => other?,
            },
            Event::Repeats { reason } => progress(format_args!("lines from here on may repeat: {reason}")),
            Event::Status { job } if following.talks && !job.status().is_terminal() => {
                progress(format_args!("job {id} is {}", job.status()));
            }
            Event::Unreachable { silence, error } => progress(format_args!(
                "{} has not answered for {} s, still trying: {error}",
                client.address(),
                silence.as_secs()
            )),
            Event::Gone { replaced } => return Err(CliError::Gone { id: id.to_owned(), replaced }),
            Event::Ended { job, log_error } => {
                if let Some(error) = log_error {
                    progress(format_args!("the log is incomplete: {error}"));
                }
                return Ok(job);
            }
            _ => {}
        }
    }
}

fn show(lines: &[String], output: &mut Output<'_>) -> io::Result<()> {
    for line in lines {
        output.log(format!("{line}\n").as_bytes())?;
    }
    output.flush()
}
