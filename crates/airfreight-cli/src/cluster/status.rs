//! `airfreight cluster status`: how clusters stand.

use airfreight_cluster::{ClusterError, Clusters, Known, Standing, Way};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::{Output, age, progress};

pub(super) async fn all(clusters: &Clusters, output: &mut Output<'_>) -> Result<(), CliError> {
    let found = clusters.list(clusters.default_namespace(), None).await?;
    if output.json {
        return Ok(output.json(&found.iter().map(described).collect::<Vec<_>>())?);
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|known| vec![known.name.clone(), known.standing().line, workers(known), since(known, now), task(known)])
        .collect();
    Ok(output.table(&["NAME", "STATUS", "WORKERS", "AGE", "TASK"], &[], &rows)?)
}

pub(super) async fn one(name: &str, clusters: &Clusters, output: &mut Output<'_>) -> Result<(), CliError> {
    let namespace = clusters.default_namespace();
    let Some(known) = clusters.get(namespace, name).await? else {
        return Err(ClusterError::NotFound { name: name.to_owned(), namespace: namespace.to_owned() }.into());
    };
    // What isn't there yet, or may not be seen, is no reason to say nothing of the rest.
    let pods = clusters.pods(namespace, name).await.unwrap_or_else(|error| {
        progress(error);
        Vec::new()
    });
    let ways = clusters.ways(namespace, name).await.unwrap_or_else(|error| {
        progress(error);
        Vec::new()
    });
    if output.json {
        let mut described = described(&known);
        described["pods"] = pods.iter().map(pod).collect();
        described["ways"] = ways.iter().map(|way| json!({"kind": way.kind.as_str(), "urls": way.urls})).collect();
        return Ok(output.json(&described)?);
    }
    let mut rows = vec![
        vec!["cluster".to_owned(), known.name.clone()],
        vec!["namespace".to_owned(), known.namespace.clone()],
        vec!["status".to_owned(), known.standing().line],
        vec!["workers".to_owned(), workers(&known)],
        vec!["age".to_owned(), since(&known, Timestamp::now())],
    ];
    if known.owner.is_some() {
        rows.push(vec!["task".to_owned(), task(&known)]);
    }
    rows.extend(pods.iter().map(|pod| vec![pod.role.clone(), format!("{} {}", pod.pod, pod.line)]));
    let dashboards = ways.iter().filter_map(|way: &Way| Some((way.kind.as_str(), way.dashboard()?)));
    rows.extend(dashboards.map(|(kind, url)| vec!["dashboard".to_owned(), format!("{url} ({kind})")]));
    Ok(output.table(&[], &[], &rows)?)
}

/// What programs are told of a cluster.
fn described(known: &Known) -> Value {
    let (ready, desired) = known.workers();
    json!({
        "name": known.name, "namespace": known.namespace, "uid": known.uid, "is_ready": known.is_ready(),
        "status": known.standing().line, "workers_ready": ready, "workers_desired": desired,
        "created_at": known.created_at(), "owner": known.owner, "attempt": known.attempt(),
    })
}

fn pod(standing: &Standing) -> Value {
    json!({
        "pod": standing.pod, "role": standing.role, "status": standing.line, "is_problem": standing.is_problem,
    })
}

fn workers(known: &Known) -> String {
    let (ready, desired) = known.workers();
    format!("{ready} of {desired}")
}

fn since(known: &Known, now: Timestamp) -> String {
    known.created_at().and_then(|text| text.parse().ok()).map(|then| age(now, then)).unwrap_or_default()
}

/// Whose it is, for people.
pub(super) fn task(known: &Known) -> String {
    match (known.attempt(), &known.owner) {
        (Some(attempt), _) => {
            let index = if attempt.map_index < 0 { String::new() } else { format!("[{}]", attempt.map_index) };
            format!("{}.{}{index} {} try {}", attempt.dag_id, attempt.task_id, attempt.run_id, attempt.try_number)
        }
        (None, Some(owner)) => format!("task {owner}"),
        (None, None) => String::new(),
    }
}
