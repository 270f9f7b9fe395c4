//! Waiting for `RayJob`s and `RayService`s, which have clusters of their own.

use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{sleep_until, timeout_at};

use crate::api::Api;
use crate::error::ClusterError;
use crate::kind::Kind;
use crate::watch::{Saying, Seen, Sights, only, ready};

/// How a job has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// Whether its entrypoint has ended well.
    pub is_success: bool,
    /// Ray's word, if the job got so far: `SUCCEEDED`, `FAILED`, `STOPPED`.
    pub status: Option<String>,
    /// Why it has failed: KubeRay's word, such as `AppFailed` or `DeadlineExceeded`, and its message.
    pub why: Option<String>,
    /// The whole object.
    pub object: Value,
}

/// How a job stands, by its own object.
#[derive(Debug, PartialEq, Eq)]
struct Stand {
    line: String,
    is_problem: bool,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Its cluster, if it has one already, is on its way.
    Starts(Option<String>),
    /// Nothing but its end is to be waited for.
    Works,
    Over,
}

fn text<'a>(status: &'a Value, field: &str) -> Option<&'a str> {
    status[field].as_str().filter(|text| !text.is_empty())
}

fn why(status: &Value) -> Option<String> {
    match (text(status, "reason"), text(status, "message")) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

fn stand(object: &Value) -> Stand {
    let status = &object["status"];
    let says = |line: &str| Stand { line: line.to_owned(), is_problem: false, phase: Phase::Works };
    let with_why = |line: &str| match why(status) {
        Some(why) => format!("{line}: {why}"),
        None => line.to_owned(),
    };
    match text(status, "jobDeploymentStatus") {
        None => says("the KubeRay operator has not looked at it yet"),
        Some("Initializing") => Stand {
            phase: Phase::Starts(text(status, "rayClusterName").map(str::to_owned)),
            ..says("its cluster is starting")
        },
        Some("Waiting") => says("waits to be submitted"),
        Some("Running") => says(match text(status, "jobStatus") {
            Some("PENDING") => "is submitted",
            _ => "runs",
        }),
        Some("Suspending") => says("is being suspended"),
        Some("Suspended") => says("is suspended"),
        Some("Retrying") => Stand { is_problem: true, ..says(&with_why("has failed and is tried again")) },
        Some("Complete") => Stand { phase: Phase::Over, ..says("is complete") },
        Some("Failed") => Stand { phase: Phase::Over, is_problem: true, ..says(&with_why("has failed")) },
        Some("ValidationFailed") => {
            Stand { phase: Phase::Over, is_problem: true, ..says(&with_why("is refused by the operator")) }
        }
        Some(other) => says(other),
    }
}

/// Returns when the job is over, or when its cluster can't start.
pub(crate) async fn end(
    api: &Api,
    namespace: &str,
    name: &str,
    patience: Duration,
    mut tell: impl FnMut(Saying) + Send,
) -> Result<JobEnd, ClusterError> {
    let deadline = Instant::now() + patience;
    let mut sights: Sights = only(api, namespace, Kind::Job, name);
    let (lines, mut told) = unbounded_channel();
    let mut said = String::new();
    let mut starting: Option<String> = None;
    let mut start = std::future::pending().boxed();
    let missing = || ClusterError::Missing { kind: Kind::Job.as_str(), name: name.into(), namespace: namespace.into() };
    loop {
        let seen = tokio::select! {
            seen = sights.next() => seen,
            Some(saying) = told.recv() => {
                tell(saying);
                continue;
            }
            started = &mut start => {
                // That it serves the operator will see; that it can't start it may not say for hours.
                start = std::future::pending().boxed();
                match started {
                    Err(error @ ClusterError::Failed { .. }) => return Err(error),
                    _ => continue,
                }
            }
            () = sleep_until(deadline.into()) => {
                let what = format!("RayJob `{name}` in namespace {namespace}");
                return Err(ClusterError::Late { what, waited: patience, why: said });
            }
        };
        let object = match seen {
            Some(Seen::There(_, object)) => object,
            Some(Seen::Gone(..)) | None => return Err(missing()),
            Some(Seen::Listed(_)) if said.is_empty() => return Err(missing()),
            Some(Seen::Failed(_, error)) => {
                api.tolerate(&format!("watch RayJob `{name}`"), error)?;
                continue;
            }
            Some(_) => continue,
        };
        let Stand { line, is_problem, phase } = stand(&object);
        if line != said {
            said.clone_from(&line);
            tell(Saying { line: format!("RayJob {name} {line}"), is_problem });
        }
        match phase {
            Phase::Over => {
                let status = &object["status"];
                let is_success = text(status, "jobDeploymentStatus") == Some("Complete")
                    && text(status, "jobStatus").is_none_or(|status| status == "SUCCEEDED");
                let word = text(status, "jobStatus").map(str::to_owned);
                return Ok(JobEnd { is_success, status: word, why: why(status), object });
            }
            Phase::Starts(cluster) if cluster.is_some() && cluster != starting => {
                starting.clone_from(&cluster);
                start = started(api.clone(), namespace.into(), cluster.unwrap_or_default(), deadline, lines.clone())
                    .boxed();
            }
            Phase::Starts(_) => {}
            Phase::Works => start = std::future::pending().boxed(),
        }
    }
}

/// Returns when an object is gone; its pods go after it.
pub(crate) async fn gone(
    api: &Api,
    kind: Kind,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    patience: Duration,
) -> Result<(), ClusterError> {
    let deadline = Instant::now() + patience;
    let mut sights: Sights = only(api, namespace, kind, name);
    let mut is_there = false;
    loop {
        let Ok(seen) = timeout_at(deadline.into(), sights.next()).await else {
            let what = format!("{} `{name}` in namespace {namespace}", kind.as_str());
            return Err(ClusterError::Late { what, waited: patience, why: "it is still there".into() });
        };
        match seen {
            Some(Seen::There(_, object)) => {
                is_there = uid.is_none_or(|uid| object["metadata"]["uid"] == uid);
                if !is_there {
                    return Ok(());
                }
            }
            Some(Seen::Anew(_)) => is_there = false,
            Some(Seen::Listed(_)) if !is_there => return Ok(()),
            Some(Seen::Gone(..)) | None => return Ok(()),
            Some(Seen::Failed(_, error)) => api.tolerate(&format!("watch {} `{name}`", kind.as_str()), error)?,
            Some(Seen::Listed(_)) => {}
        }
    }
}

/// Says what a job's cluster waits for.
async fn started(
    api: Api,
    namespace: String,
    cluster: String,
    deadline: Instant,
    lines: UnboundedSender<Saying>,
) -> Result<Value, ClusterError> {
    let patience = deadline.saturating_duration_since(Instant::now());
    ready(&api, &namespace, &cluster, patience, move |saying| drop(lines.send(saying))).await
}

/// Returns the object when its applications serve.
pub(crate) async fn serves(
    api: &Api,
    namespace: &str,
    name: &str,
    patience: Duration,
    mut tell: impl FnMut(Saying) + Send,
) -> Result<Value, ClusterError> {
    let deadline = Instant::now() + patience;
    let mut sights: Sights = only(api, namespace, Kind::Service, name);
    let mut said = String::new();
    loop {
        let Ok(seen) = timeout_at(deadline.into(), sights.next()).await else {
            let what = format!("RayService `{name}` in namespace {namespace}");
            return Err(ClusterError::Late { what, waited: patience, why: said });
        };
        let missing =
            || ClusterError::Missing { kind: Kind::Service.as_str(), name: name.into(), namespace: namespace.into() };
        let object = match seen {
            Some(Seen::There(_, object)) => object,
            Some(Seen::Gone(..)) | None => return Err(missing()),
            Some(Seen::Listed(_)) if said.is_empty() => return Err(missing()),
            Some(Seen::Failed(_, error)) => {
                api.tolerate(&format!("watch RayService `{name}`"), error)?;
                continue;
            }
            Some(_) => continue,
        };
        let (line, is_ready) = service(&object);
        if line != said {
            said.clone_from(&line);
            tell(Saying { line: format!("RayService {name} {line}"), is_problem: line.contains("DEPLOY_FAILED") });
        }
        if is_ready {
            return Ok(object);
        }
    }
}

/// How a service stands, and whether it serves.
fn service(object: &Value) -> (String, bool) {
    let status = &object["status"];
    let is_seen = status["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64();
    let conditions = status["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    if is_seen && ready.is_some_and(|ready| ready["status"] == "True") {
        return ("serves".into(), true);
    }
    let clusters = ["pendingServiceStatus", "activeServiceStatus"];
    let applications: Vec<String> = clusters
        .iter()
        .filter_map(|field| status[field]["applicationStatuses"].as_object())
        .flatten()
        .filter_map(|(application, status)| {
            let word = status["status"].as_str()?;
            let message = status["message"].as_str().filter(|message| !message.is_empty());
            Some(format!("{application} is {word}{}", message.map(|text| format!(" ({text})")).unwrap_or_default()))
        })
        .collect();
    let why = ready.and_then(|ready| ready["message"].as_str()).filter(|message| !message.is_empty());
    match (applications.is_empty(), why) {
        (false, _) => (format!("is not ready: {}", applications.join(", ")), false),
        (true, Some(why)) => (format!("is not ready: {why}"), false),
        (true, None) => ("is not ready: the KubeRay operator has not said why".into(), false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_stands_as_the_operator_says() {
        let job = |deployment: &str, job: &str, reason: &str, message: &str| {
            stand(&json!({"status": {
                "jobDeploymentStatus": deployment, "jobStatus": job, "reason": reason, "message": message,
                "rayClusterName": "c",
            }}))
        };
        assert_eq!(job("", "", "", "").line, "the KubeRay operator has not looked at it yet");
        assert_eq!(job("Initializing", "", "", "").phase, Phase::Starts(Some("c".into())));
        assert_eq!(job("Running", "PENDING", "", "").line, "is submitted");
        let failed = job("Failed", "FAILED", "AppFailed", "exit code 1");
        assert_eq!((failed.line.as_str(), failed.phase), ("has failed: AppFailed: exit code 1", Phase::Over));
        assert_eq!(job("Complete", "SUCCEEDED", "", "").phase, Phase::Over);
        assert_eq!(job("Retrying", "", "AppFailed", "").phase, Phase::Works);
    }

    #[test]
    fn a_service_serves_by_its_condition() {
        let status = |generation: i64, ready: &str| {
            service(&json!({"metadata": {"generation": 2}, "status": {
                "observedGeneration": generation,
                "conditions": [{"type": "Ready", "status": ready, "message": "no endpoints"}],
            }}))
        };
        assert_eq!(status(2, "True"), ("serves".into(), true));
        assert!(!status(1, "True").1);
        assert_eq!(status(2, "False"), ("is not ready: no endpoints".into(), false));
        let deploying = json!({"metadata": {"generation": 1}, "status": {"observedGeneration": 1,
            "pendingServiceStatus": {"applicationStatuses": {"a": {"status": "DEPLOYING", "message": ""}}}}});
        assert_eq!(service(&deploying), ("is not ready: a is DEPLOYING".into(), false));
    }
}
