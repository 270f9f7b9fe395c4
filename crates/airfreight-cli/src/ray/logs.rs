//! A log that is there already.

use std::io;

use airfreight_ray::{Client, Lines, LogStream, RayError, is_control};

use super::arguments::LogsOptions;
use super::find;
use crate::error::CliError;
use crate::output::Output;

/// A line that is longer comes in pieces.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Shows what a job has written so far.
pub(super) async fn show(options: &LogsOptions, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let Some(mut stream) = open(options, client).await? else { return Ok(()) };
    let mut people = ForPeople::default();
    while let Some(chunk) = stream.chunk().await? {
        people.feed(&chunk, |line| output.log(line))?;
    }
    people.finish(|line| output.log(line))?;
    Ok(())
}

/// From the file where there is one: the Jobs API makes the head hold the whole log three times.
async fn open(options: &LogsOptions, client: &Client) -> Result<Option<LogStream>, CliError> {
    let job = find(client, &options.id).await?;
    let lines = options.tail.map_or(Lines::All, Lines::Last);
    if let (Some(node), Some(name)) = (job.driver_node_id(), job.log_name()) {
        match client.log_file(node, &name, lines).await {
            // The node may be gone while the head still has something to say.
            Err(RayError::NotFound { .. }) => {}
            other => return Ok(Some(other?)),
        }
    }
    if lines == Lines::All { Ok(Some(client.log_whole(&options.id).await?)) } else { Ok(None) }
}

/// Passes on a log's lines, except those that airfreight's driver wrote for airfreight.
#[derive(Default)]
struct ForPeople {
    /// The line so far.
    held: Vec<u8>,
    /// A piece of the line was passed on, or it is for airfreight: so does the rest of it.
    decided: Option<bool>,
}

impl ForPeople {
    fn feed(&mut self, chunk: &[u8], mut pass: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.held.len() > LINE_BYTES_MAX {
                self.pass(&mut pass)?;
            }
            if piece.ends_with(b"\n") {
                self.decided = None;
            }
        }
        Ok(())
    }

    fn finish(&mut self, pass: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.held.is_empty() { Ok(()) } else { self.pass(pass) }
    }

    fn pass(&mut self, mut pass: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let for_people = *self.decided.get_or_insert_with(|| !is_control(&self.held));
        let held = std::mem::take(&mut self.held);
        if for_people { pass(&held) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn control_lines_are_left_out_however_the_log_is_cut() {
        let endless = "x".repeat(3 * LINE_BYTES_MAX);
        let log = format!("one\n\x1eairfreight {endless}\n\n{endless}\n\x1eairfreight n {{}}\r\nlast");
        let expected = format!("one\n\n{endless}\nlast");
        for size in [1, 7, 4096, LINE_BYTES_MAX + 1, log.len()] {
            let mut people = ForPeople::default();
            let mut shown = Vec::new();
            for chunk in log.as_bytes().chunks(size) {
                people.feed(chunk, |line| shown.write_all(line)).unwrap();
            }
            people.finish(|line| shown.write_all(line)).unwrap();
            assert!(shown == expected.as_bytes(), "in pieces of {size}");
        }
    }
}
