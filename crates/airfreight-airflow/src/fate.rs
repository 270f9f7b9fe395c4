//! Whether the task instances that own objects still need them.
//!
//! Ten thousand objects must not mean ten thousand requests, so the questions go to Airflow's two batch routes. These
//! filter by what the token may read and page by offset, both of which can make something that exists look absent.
//! Hence the care: absence counts only in an answer that is one complete page, for a DAG that the token can read.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Airflow, AirflowError};

/// The task instance that wrote an object, as the object's metadata names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The DAG.
    pub dag_id: String,
    /// The DAG run.
    pub run_id: String,
    /// The task.
    pub task_id: String,
    /// Which of a mapped task's instances; -1 for a task that is not mapped.
    pub map_index: i32,
}

impl Owner {
    /// The task instance that an object's metadata names; `None` where any part of it is missing.
    #[must_use]
    pub fn in_metadata(metadata: &Value) -> Option<Self> {
        let owner = &metadata["owner"];
        let text = |key: &str| owner[key].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let map_index = match &owner["map_index"] {
            Value::Null => -1,
            number => i32::try_from(number.as_i64()?).ok()?,
        };
        Some(Self { dag_id: text("dag_id")?, run_id: text("run_id")?, task_id: text("task_id")?, map_index })
    }
}

/// What Airflow says about an [`Owner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The task instance exists, and its run has not ended or not long ago.
    Needed,
    /// Its run ended before [`Window::ended_before`].
    Ended,
    /// Airflow has no such task instance any more.
    Gone,
    /// Airflow gave no complete answer.
    Unknown,
}

/// Which ends of runs matter.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When the oldest of the objects was written; no run that matters ended before.
    pub since: Timestamp,
    /// Now, less the retention.
    pub ended_before: Timestamp,
}

#[derive(Deserialize)]
struct Runs {
    dag_runs: Vec<Run>,
    total_entries: usize,
}

#[derive(Deserialize)]
struct Run {
    dag_run_id: String,
}

#[derive(Deserialize)]
struct TaskInstances {
    task_instances: Vec<TaskInstance>,
    total_entries: usize,
}

#[derive(Deserialize)]
struct TaskInstance {
    dag_id: String,
    dag_run_id: String,
    task_id: String,
    map_index: i32,
    state: Option<String>,
}

impl TaskInstance {
    /// Whether it will not run again by itself: one that waits for its retry is not over.
    fn is_over(&self) -> bool {
        matches!(self.state.as_deref(), Some("success" | "failed" | "skipped" | "upstream_failed" | "removed"))
    }
}

impl Airflow {
    /// The fate of task instances of one DAG.
    ///
    /// Costs about one request for every [`Options::page_rows`](crate::Options::page_rows) runs that ended in the
    /// window, and one for as many task instances of the other runs.
    ///
    /// # Errors
    /// Every [`AirflowError`]; nothing is known of any of the owners then. [`AirflowError::is_final`] tells whether to
    /// ask about other DAGs.
    pub fn fates(
        &self,
        dag_id: &str,
        owners: &BTreeSet<Owner>,
        window: Window,
    ) -> Result<HashMap<Owner, Fate>, AirflowError> {
        let owners: BTreeSet<&Owner> = owners.iter().filter(|o| o.dag_id == dag_id).collect();
        if owners.is_empty() {
            return Ok(HashMap::new());
        }
        // Without rights to the DAG its lists are empty, which must not be taken for "gone".
        self.get::<Value>(&["dags", dag_id])?;

        let ended = self.ended_runs(dag_id, window)?;
        let (ended, rest): (Vec<_>, Vec<_>) = owners.into_iter().partition(|o| ended.contains(&o.run_id));
        let mut fates: HashMap<Owner, Fate> = ended.into_iter().map(|o| (o.clone(), Fate::Ended)).collect();
        // Neighbours share runs, and a chunk of as many owners as fit a page is usually answered by one page.
        for chunk in rest.chunks(self.options.page_rows.max(1)) {
            self.existing(dag_id, chunk, |_| Fate::Needed, &mut fates)?;
        }
        Ok(fates)
    }

    /// The fate of what task instances of one DAG have only for themselves: [`Fate::Ended`] as soon as they are over,
    /// although their runs may go on.
    ///
    /// # Errors
    /// Those of [`Airflow::fates`].
    pub fn own_fates(&self, dag_id: &str, owners: &BTreeSet<Owner>) -> Result<HashMap<Owner, Fate>, AirflowError> {
        let owners: Vec<&Owner> = owners.iter().filter(|o| o.dag_id == dag_id).collect();
        let mut fates = HashMap::new();
        if owners.is_empty() {
            return Ok(fates);
        }
        // As above: an empty list of a DAG that can't be read says nothing.
        self.get::<Value>(&["dags", dag_id])?;
        let judge = |found: &TaskInstance| if found.is_over() { Fate::Ended } else { Fate::Needed };
        for chunk in owners.chunks(self.options.page_rows.max(1)) {
            self.existing(dag_id, chunk, judge, &mut fates)?;
        }
        Ok(fates)
    }

    /// Ids of the DAG's runs that ended in the window. A run that paging missed only lives until the next collection.
    fn ended_runs(&self, dag_id: &str, window: Window) -> Result<BTreeSet<String>, AirflowError> {
        let mut ended = BTreeSet::new();
        let mut offset = 0;
        if window.since >= window.ended_before {
            return Ok(ended);
        }
        loop {
            let page: Runs = self.post(
                "/dags/~/dagRuns/list",
                &json!({
                    "dag_ids": [dag_id],
                    "states": ["success", "failed"],
                    "end_date_gte": window.since,
                    "end_date_lte": window.ended_before,
                    "order_by": "id",
                    "page_limit": self.options.page_rows,
                    "page_offset": offset,
                }),
            )?;
            let rows = page.dag_runs.len();
            ended.extend(page.dag_runs.into_iter().map(|r| r.dag_run_id));
            offset += rows;
            if rows == 0 || offset >= page.total_entries {
                return Ok(ended);
            }
        }
    }

    /// Whether task instances exist, and what `judge` says of those that do: asks for all of them at once, and for
    /// halves when the answer is not complete.
    fn existing(
        &self,
        dag_id: &str,
        owners: &[&Owner],
        judge: fn(&TaskInstance) -> Fate,
        fates: &mut HashMap<Owner, Fate>,
    ) -> Result<(), AirflowError> {
        let runs: BTreeSet<&str> = owners.iter().map(|o| o.run_id.as_str()).collect();
        let tasks: BTreeSet<&str> = owners.iter().map(|o| o.task_id.as_str()).collect();
        let mut rows = self.options.page_rows;
        let mut page = self.task_instances(dag_id, &runs, &tasks, rows)?;
        if page.total_entries > page.task_instances.len() && runs.len() == 1 && tasks.len() == 1 {
            // A widely mapped task; nothing is left to halve by.
            rows = page.total_entries + self.options.page_rows;
            page = self.task_instances(dag_id, &runs, &tasks, rows)?;
        }
        if page.total_entries == page.task_instances.len() {
            let existing: HashMap<(&str, &str, &str, i32), Fate> = page
                .task_instances
                .iter()
                .map(|t| ((t.dag_id.as_str(), t.dag_run_id.as_str(), t.task_id.as_str(), t.map_index), judge(t)))
                .collect();
            for owner in owners {
                let key = (owner.dag_id.as_str(), owner.run_id.as_str(), owner.task_id.as_str(), owner.map_index);
                fates.insert((*owner).clone(), existing.get(&key).copied().unwrap_or(Fate::Gone));
            }
            return Ok(());
        }
        if runs.len() == 1 && tasks.len() == 1 {
            fates.extend(owners.iter().map(|o| ((*o).clone(), Fate::Unknown)));
            return Ok(());
        }
        // Owners are sorted by run, then task, so each half asks about fewer of the one or the other.
        let split = |key: fn(&Owner) -> &str, pivot: &str| -> (Vec<&Owner>, Vec<&Owner>) {
            owners.iter().copied().partition(|o| key(o) < pivot)
        };
        let (left, right) = if runs.len() > 1 {
            split(|o| &o.run_id, runs.iter().nth(runs.len() / 2).copied().unwrap_or_default())
        } else {
            split(|o| &o.task_id, tasks.iter().nth(tasks.len() / 2).copied().unwrap_or_default())
        };
        self.existing(dag_id, &left, judge, fates)?;
        self.existing(dag_id, &right, judge, fates)
    }

    fn task_instances(
        &self,
        dag_id: &str,
        runs: &BTreeSet<&str>,
        tasks: &BTreeSet<&str>,
        rows: usize,
    ) -> Result<TaskInstances, AirflowError> {
        self.post(
            "/dags/~/dagRuns/~/taskInstances/list",
            &json!({ "dag_ids": [dag_id], "dag_run_ids": runs, "task_ids": tasks, "page_limit": rows }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_whole_or_none() {
        let whole = json!({"owner": {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": null}});
        assert_eq!(Owner::in_metadata(&whole).map(|owner| owner.map_index), Some(-1));
        for part in ["dag_id", "run_id", "task_id"] {
            let mut metadata = whole.clone();
            metadata["owner"][part] = Value::Null;
            assert_eq!(Owner::in_metadata(&metadata), None);
        }
        let odd = json!({"owner": {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": "2"}});
        assert_eq!(Owner::in_metadata(&odd), None);
        assert_eq!(Owner::in_metadata(&json!({"type": "int"})), None);
        assert_eq!(Owner::in_metadata(&Value::Null), None);
    }
}
