//! What a job's end means to whoever ran the command.

use std::process::ExitCode;

use airfreight_ray::{Job, JobStatus};

/// How the job ended is not known, as with `docker run` and `timeout`.
pub(super) const UNKNOWN: u8 = 125;
/// A shell's code for what SIGTERM ended, which is how Ray stops jobs.
const STOPPED: u8 = 128 + 15;

/// The exit code of the command for a job that is over.
pub(super) fn exit_code(job: &Job) -> ExitCode {
    ExitCode::from(code(job))
}

fn code(job: &Job) -> u8 {
    match (job.status(), job.exit_code()) {
        (JobStatus::Succeeded, _) => 0,
        (JobStatus::Stopped, _) => STOPPED,
        (JobStatus::Failed, Some(code @ 1..=255)) => u8::try_from(code).unwrap_or(1),
        // Python's way to say which signal it was.
        (JobStatus::Failed, Some(signal @ -127..=-1)) => u8::try_from(128 - signal).unwrap_or(1),
        (JobStatus::Failed, _) => 1,
        _ => UNKNOWN,
    }
}

/// `failed with exit code 3`.
pub(super) fn words(job: &Job) -> String {
    match (job.status(), job.exit_code()) {
        (JobStatus::Succeeded, _) => "succeeded".into(),
        (JobStatus::Stopped, _) => "was stopped".into(),
        (JobStatus::Failed, Some(code)) if code < 0 => format!("was killed by signal {}", -code),
        (JobStatus::Failed, Some(code)) => format!("failed with exit code {code}"),
        (JobStatus::Failed, None) => "failed".into(),
        (status, _) => format!("is {status}"),
    }
}

/// Why a job failed whose log doesn't say it, because Ray failed before or beside the entrypoint.
pub(super) fn reason(job: &Job) -> Option<&str> {
    (job.status() == JobStatus::Failed && job.error_type() != Some("JOB_ENTRYPOINT_COMMAND_ERROR"))
        .then(|| job.message())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_command_ends_as_the_job_did() {
        let job = |status: &str, code: Option<i64>| {
            let details = json!({"status": status, "driver_exit_code": code});
            Job::new(details.as_object().unwrap().clone()).unwrap()
        };
        assert_eq!(code(&job("SUCCEEDED", Some(0))), 0);
        assert_eq!(code(&job("FAILED", Some(3))), 3);
        assert_eq!(code(&job("FAILED", Some(-9))), 137);
        assert_eq!(code(&job("FAILED", Some(0))), 1, "Ray itself failed afterwards");
        assert_eq!(code(&job("FAILED", Some(256))), 1);
        assert_eq!(code(&job("FAILED", None)), 1);
        assert_eq!(code(&job("STOPPED", None)), 143);
        assert_eq!(code(&job("RUNNING", None)), 125);
        assert_eq!(words(&job("FAILED", Some(-9))), "was killed by signal 9");
    }
}
