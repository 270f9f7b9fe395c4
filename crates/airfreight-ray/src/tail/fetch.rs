//! Logs at once, for who doesn't follow.

use crate::{Client, Job, Lines, RayError, Result};

use super::lines;

impl Client {
    /// A job's whole log as text, control lines left out. Empty while there is none. All of it in memory: to follow a
    /// log, [`crate::Watcher`] is better.
    ///
    /// # Errors
    /// - [`RayError::NotFound`]: there is no such job.
    pub async fn log_text(&self, id: &str) -> Result<String> {
        let log = self.log_bytes(id, Lines::All).await?;
        let mut text = String::with_capacity(log.len());
        for line in log.split_inclusive(|byte| *byte == b'\n').filter(|line| !lines::is_control(line)) {
            text.push_str(&String::from_utf8_lossy(line));
        }
        Ok(text)
    }

    /// The last lines of a job's log, as the job wrote them, control lines among them. None while there is no log.
    ///
    /// # Errors
    /// - [`RayError::NotFound`]: there is no such job.
    pub async fn last_lines(&self, id: &str, count: u32) -> Result<Vec<String>> {
        let log = self.log_bytes(id, Lines::Last(count)).await?;
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        let first = lines.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(lines[first..].iter().map(|line| (*line).to_owned()).collect())
    }

    async fn log_bytes(&self, id: &str, wanted: Lines) -> Result<Vec<u8>> {
        let missing = || RayError::NotFound { what: format!("job `{id}`"), address: self.address().to_owned() };
        let job = self.job(id).await?.ok_or_else(missing)?;
        let Some((node, name)) = place(&job) else { return Ok(Vec::new()) };
        match self.log_file(node, &name, wanted).await {
            Ok(stream) => stream.bytes().await,
            // The node is gone, or nothing was written yet, or a proxy lets only the Jobs API through.
            Err(RayError::NotFound { .. } | RayError::Rejected { status: 404 | 405 | 501, .. }) => {
                self.log_whole(id).await?.bytes().await
            }
            Err(error) => Err(error),
        }
    }
}

fn place(job: &Job) -> Option<(&str, String)> {
    Some((job.driver_node_id()?, job.log_name()?))
}
