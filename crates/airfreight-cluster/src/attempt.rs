//! Whose a cluster is that was made for one task.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The annotation that tells programs; a DAG run's id is no value for a label.
const ATTEMPT: &str = "airfreight/attempt";
const LABEL_LENGTH_MAX: usize = 63;

/// The attempt of an Airflow task that has made a cluster; its retries take the cluster over as it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attempt {
    /// The DAG.
    pub dag_id: String,
    /// The DAG run.
    pub run_id: String,
    /// The task.
    pub task_id: String,
    /// Which of a mapped task's instances; -1 for a task that is not mapped.
    pub map_index: i32,
    /// Which try.
    pub try_number: u32,
    /// Which Airflow: another one may have a DAG and a run of the same names.
    pub deployment: String,
}

impl Attempt {
    /// Who has made an object, if it says so.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        serde_json::from_str(object["metadata"]["annotations"][ATTEMPT].as_str()?).ok()
    }

    /// Puts it where people and programs look.
    pub(crate) fn mark(&self, labels: &mut Map<String, Value>, annotations: &mut Map<String, Value>) {
        let try_number = self.try_number.to_string();
        let texts = [("dag", &self.dag_id), ("run", &self.run_id), ("task", &self.task_id), ("try", &try_number)];
        for (name, text) in texts {
            labels.insert(format!("airfreight/{name}"), label(text).into());
        }
        annotations.insert(ATTEMPT.into(), serde_json::json!(self).to_string().into());
    }
}

/// What a label may hold of a text.
fn label(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    let safe: String =
        text.chars().map(|c| if is_plain(c) || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect();
    let safe = safe.trim_start_matches(|c| !is_plain(c));
    safe[..safe.len().min(LABEL_LENGTH_MAX)].trim_end_matches(|c| !is_plain(c)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_what_kubernetes_takes_of_a_name() {
        assert_eq!(label("manual__2026-11-21T03:41:27+00:00"), "manual__2026-11-21T03_41_27_00_00");
        assert_eq!(label("__größe!"), "gr__e");
        assert_eq!(label(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
        assert_eq!(label("日"), "");
    }
}
