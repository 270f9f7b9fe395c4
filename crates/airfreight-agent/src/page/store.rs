//! What the store holds: by DAG, by run, and object by object; how full it is, and what goes in and out.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use jiff::SignedDuration;
use maud::{Markup, html};
use serde::Deserialize;

use super::airflow::AirflowUrl;
use super::json::Json;
use super::words::{ago, count, plural, size, timestamp, until};
use super::{Visit, answer, named, place, sorry, trail};
use crate::error::Refusal;
use crate::index::{Filter, Run, Sum};
use crate::limits::PAGE_DEFAULT;
use crate::listing;
use crate::routes::{Shared, blocking, encoded_metrics};

/// More rows than this tell nobody anything.
const ROWS_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    dag_id: Option<String>,
    run_id: Option<String>,
    task_id: Option<String>,
    cursor: Option<String>,
}

/// All of it, a DAG's runs, or the objects of a run or task.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(visit): Extension<Visit>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match query {
        Ok(Query(wanted)) => wanted,
        Err(error) => return sorry(&shared, &visit, &Refusal::invalid(error.body_text())),
    };
    let (asked, looking) = (Arc::clone(&shared), visit.clone());
    let made = blocking(move || match wanted {
        Wanted { dag_id: None, run_id: None, task_id: None, cursor: None } => all(&asked, &looking),
        Wanted { dag_id: Some(dag_id), run_id: None, task_id: None, cursor: None } => runs(&asked, &looking, &dag_id),
        wanted => objects(&asked, &looking, wanted),
    });
    match made.await {
        Ok((title, body)) => answer(&shared, &visit, StatusCode::OK, &title, &body),
        Err(refusal) => sorry(&shared, &visit, &refusal),
    }
}

fn all(shared: &Shared, visit: &Visit) -> Result<(String, Markup), Refusal> {
    let mut index = shared.index.lock().unwrap_or_else(PoisonError::into_inner);
    let runs = index.runs(None)?;
    let (_, damaged) = index.counts()?;
    drop(index);
    let metrics = encoded_metrics(shared)?;
    let mut dags: HashMap<&str, (u64, Sum)> = HashMap::new();
    let mut total = Sum::default();
    for run in &runs {
        let (runs, sum) = dags.entry(&run.dag_id).or_default();
        *runs += 1;
        sum.add(run.sum);
        total.add(run.sum);
    }
    let mut dags: Vec<_> = dags.into_iter().collect();
    dags.sort_unstable_by_key(|(dag_id, (_, sum))| (std::cmp::Reverse(sum.bytes), *dag_id));
    let body = html! {
        h1 { "What the store holds" }
        p.lead { (plural(total.objects, "object")) ", " (size(total.bytes)) ", of " (plural(dags.len() as u64, "DAG"))
            ". An object expires " (lifetime(shared)) " after its last use." }
        @if damaged > 0 {
            p.problem { (plural(damaged as u64, "name")) " cannot be read. " code { "airfreight store ls" }
                " says which." }
        }
        (room(shared, visit))
        (transfers(shared, visit, &metrics))
        (checkpoints(shared, visit, &metrics))
        section aria-labelledby="dags" {
            h2 #dags { "DAGs" }
            @if dags.is_empty() {
                p.quiet { "Nothing is here yet. What tasks of this host return comes here when it is too large for
                    its XCom row." }
            } @else {
                div.scroll tabindex="0" role="region" aria-labelledby="dags" {
                    table {
                        thead { tr { th scope="col" { "DAG" } th.number scope="col" { "Runs" } (sum_heads()) } }
                        tbody {
                            @for (dag_id, (runs, sum)) in dags.iter().take(ROWS_MAX) {
                                tr {
                                    th scope="row" { a href=(place(dag_id, None, None)) {
                                        bdi { (named(dag_id, "without a task")) } } }
                                    td.number { (count(*runs)) }
                                    (sum_cells(visit, *sum))
                                }
                            }
                        }
                    }
                }
                (omitted(dags.len()))
            }
        }
    };
    Ok(("What the store holds".into(), body))
}

fn lifetime(shared: &Shared) -> String {
    let hours = shared.store.ttl().as_secs() / 3600;
    if hours >= 48 { plural(hours / 24, "day") } else { plural(hours, "hour") }
}

fn sum_heads() -> Markup {
    html! {
        th.number scope="col" { "Objects" }
        th.number scope="col" { "Size" }
        th.number scope="col" { "Spilled" }
        th scope="col" { "Newest" }
    }
}

fn sum_cells(visit: &Visit, sum: Sum) -> Markup {
    html! {
        td.number { (count(sum.objects)) }
        td.number { (size(sum.bytes)) }
        td.number { @if sum.spilled_bytes > 0 { (size(sum.spilled_bytes)) } @else { span.quiet { "none" } } }
        td { (ago(visit.now, timestamp(sum.newest_ns))) }
    }
}

fn omitted(rows: usize) -> Markup {
    html! { @if rows > ROWS_MAX { p.quiet { "and " (count((rows - ROWS_MAX) as u64)) " more" } } }
}

/// How full memory and spill disk are.
fn room(shared: &Shared, visit: &Visit) -> Markup {
    let usage = shared.store.usage();
    let objects = usage.used_bytes.saturating_sub(usage.warm_bytes);
    let place = shared.store.kind().as_str();
    let what = if place == "memory" { "Shared memory" } else { "Disk" };
    html! {
        section aria-labelledby="room" {
            h2 #room { "Room" }
            div.bars {
                (bar(what, &[("objects", objects, "objects"), ("warm", usage.warm_bytes, "kept for reuse")],
                    usage.capacity_bytes))
                @if usage.spill_capacity_bytes > 0 {
                    (bar("Spill disk", &[("spilled", usage.spilled_bytes, "objects")], usage.spill_capacity_bytes))
                }
            }
            (life(shared, visit))
        }
    }
}

/// What the agent has done for room, and which DAGs are near their limits.
fn life(shared: &Shared, visit: &Visit) -> Markup {
    /// DAGs that are far from their limits are in the table below.
    const SHARES_MAX: usize = 5;
    let overview = shared.life.overview();
    let free = shared.life.keep_free() * 100.0;
    html! {
        @if let Some(obstacle) = &overview.obstacle { p.problem { "Could not make more room: " (obstacle) } }
        @if !overview.shares.is_empty() {
            ul.legend aria-label="Limits of DAGs" {
                @for share in overview.shares.iter().take(SHARES_MAX) {
                    li { bdi { (share.dag_id) } ": " (size(share.bytes)) " of " (size(share.limit_bytes)) }
                }
            }
        }
        p.quiet {
            @if free > 0.0 { (format!("{free:.0} %")) " is kept free ahead of tasks. " }
            @match &overview.collection {
                None => { "Nothing was collected yet since the agent began." }
                Some(collection) => {
                    "Garbage was collected " (ago(visit.now, collection.at)) ": "
                    (plural(collection.report.expired, "object")) " expired, "
                    (count(collection.report.ended.objects)) " of runs that ended long ago, "
                    (count(collection.report.gone.objects)) " of task instances that are gone."
                }
            }
        }
        @if let Some(problem) = overview.collection.as_ref().and_then(|collection| collection.problem.as_ref()) {
            p.problem { "Not all garbage could be collected: " (problem) }
        }
    }
}

fn bar(what: &str, parts: &[(&str, u64, &str)], whole: u64) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "a bar is a few hundred pixels wide")]
    let percent = |bytes: u64| format!("{:.2}%", (bytes as f64 / whole.max(1) as f64 * 100.0).min(100.0));
    let taken: u64 = parts.iter().map(|(_, bytes, _)| bytes).sum();
    let starts = parts.iter().scan(0, |end, (_, bytes, _)| {
        let start = *end;
        *end += bytes;
        Some(start)
    });
    html! {
        figure {
            figcaption { strong { (what) } span { (size(taken)) " of " (size(whole)) } }
            svg.bar width="100%" height="12" role="img"
                aria-label=(format!("{what}: {} of {} are taken", size(taken), size(whole))) {
                @for ((class, bytes, _), start) in parts.iter().zip(starts) {
                    rect class=(class) x=(percent(start)) width=(percent(*bytes)) height="12" {}
                }
            }
            ul.legend {
                @for (class, bytes, words) in parts {
                    li { span.key.(class) {} (size(*bytes)) " " (words) }
                }
                li { span.key {} (size(whole.saturating_sub(taken))) " free" }
            }
        }
    }
}

/// What other hosts have asked for, and what came of it: the metrics, in words.
fn transfers(shared: &Shared, visit: &Visit, metrics: &str) -> Markup {
    let number = |series: &str| series_value(metrics, series);
    let answers = |status: u16| {
        number(&format!(
            r#"airfreight_agent_requests_total{{method="GET",route="/v1/objects/{{name}}",status="{status}"}}"#
        ))
    };
    let (found, missing) = (answers(200) + answers(206), answers(404));
    let asked = found + missing;
    let mean = |direction: &str| {
        let of = |what: &str| number(&format!(r#"airfreight_transfer_seconds_{what}{{direction="{direction}"}}"#));
        (of("count") > 0.0).then(|| format!("{:.0} ms", of("sum") / of("count") * 1e3))
    };
    let tile = |name: &str, value: String, more: String| {
        html! { div { dt { (name) } dd { strong { (value) } @if !more.is_empty() { span.quiet { (more) } } } } }
    };
    let bytes = |series: &str| size(whole(number(series)));
    let each = |mean: Option<String>| mean.map_or_else(String::new, |mean| format!("{mean} each"));
    html! {
        section aria-labelledby="transfers" {
            h2 #transfers { "Other hosts" small { "since the agent began " (ago(visit.now, shared.page.began_at)) } }
            dl.tiles {
                (tile("Sent", bytes("airfreight_sent_bytes_total"), each(mean("sent"))))
                (tile("Received", bytes("airfreight_received_bytes_total"), each(mean("received"))))
                (tile(
                    "Found what was asked for",
                    if asked > 0.0 { format!("{:.1} %", found / asked * 100.0) } else { "not asked yet".into() },
                    if asked > 0.0 { format!("of {}", plural(whole(asked), "request")) } else { String::new() },
                ))
                (tile("Connections now", count(whole(number("airfreight_agent_connections"))), String::new()))
            }
        }
    }
}

/// What tasks have left to the agent to upload, where any has.
fn checkpoints(shared: &Shared, visit: &Visit, metrics: &str) -> Markup {
    let overview = shared.checkpoints.overview();
    let ended = |outcome: &str| {
        whole(series_value(metrics, &format!(r#"airfreight_checkpoint_uploads_total{{outcome="{outcome}"}}"#)))
    };
    let (stored, failed, lost) = (ended("stored"), ended("failed"), ended("lost"));
    let tile = |name: &str, value: String, more: String| {
        html! { div { dt { (name) } dd { strong { (value) } @if !more.is_empty() { span.quiet { (more) } } } } }
    };
    let oldest = overview.oldest.and_then(|since| jiff::Timestamp::try_from(since).ok());
    html! {
        @if overview.waiting + stored + failed + lost > 0 {
            section aria-labelledby="checkpoints" {
                h2 #checkpoints { "Checkpoints" small { "left to the agent" } }
                @if let Some(problem) = &overview.problem { p.problem { (problem) } }
                dl.tiles {
                    (tile("Waiting", count(overview.waiting), size(overview.bytes)))
                    div { dt { "The oldest was left" } dd { strong {
                        @if let Some(since) = oldest { (ago(visit.now, since)) } @else { "none" }
                    } } }
                    (tile("Uploaded", count(stored), String::new()))
                    (tile("Failed attempts", count(failed), String::new()))
                    @if lost > 0 { (tile("Lost", count(lost), "the log says which".into())) }
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and counts are whole")]
fn whole(number: f64) -> u64 {
    number as u64
}

/// One line of the metrics; 0 for what has not been counted yet.
fn series_value(metrics: &str, series: &str) -> f64 {
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(value).unwrap_or(0.0)
}

fn runs(shared: &Shared, visit: &Visit, dag_id: &str) -> Result<(String, Markup), Refusal> {
    let mut runs = shared.index.lock().unwrap_or_else(PoisonError::into_inner).runs(Some(dag_id))?;
    runs.sort_unstable_by_key(|run| std::cmp::Reverse(run.sum.newest_ns));
    let title = named(dag_id, "Without a task");
    let body = html! {
        (trail(visit, &[(title, None)]))
        h1 { bdi { (title) } }
        (to_airflow(shared, visit, |airflow| (!dag_id.is_empty()).then(|| airflow.dag(dag_id))))
        @if runs.is_empty() {
            p.quiet { "The store of this host holds nothing of this DAG." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Runs" {
                table {
                    thead { tr { th scope="col" { "Run" } (sum_heads()) } }
                    tbody {
                        @for Run { run_id, sum, .. } in runs.iter().take(ROWS_MAX) {
                            tr {
                                th scope="row" { a href=(place(dag_id, Some(run_id), None)) {
                                    bdi { (named(run_id, "without a run")) } } }
                                (sum_cells(visit, *sum))
                            }
                        }
                    }
                }
            }
            (omitted(runs.len()))
        }
    };
    Ok((title.to_owned(), body))
}

/// A link to where the same is shown in Airflow's UI, unless this is shown there.
pub(super) fn to_airflow(shared: &Shared, visit: &Visit, target: impl FnOnce(&AirflowUrl) -> Option<String>) -> Markup {
    let target = shared.page.airflow.as_ref().filter(|_| !visit.is_framed).and_then(target);
    html! { @if let Some(target) = target { p { a href=(target) { "Show it in Airflow" } } } }
}

fn objects(shared: &Shared, visit: &Visit, wanted: Wanted) -> Result<(String, Markup), Refusal> {
    let after = wanted.cursor.as_deref().map(listing::place).transpose()?;
    let Wanted { dag_id, run_id, task_id, .. } = wanted;
    let filter = Filter { dag_id: dag_id.clone(), run_id: run_id.clone(), task_id: task_id.clone(), tier: None };
    let (found, cursor) = listing::page(shared, &filter, after, PAGE_DEFAULT)?;
    let ttl = SignedDuration::try_from(shared.store.ttl()).unwrap_or(SignedDuration::MAX);
    let mut steps = Vec::new();
    if let Some(dag) = &dag_id {
        steps.push((named(dag, "without a task"), Some(place(dag, None, None))));
    }
    if let Some(run) = &run_id {
        let target = task_id.is_some().then(|| place(dag_id.as_deref().unwrap_or_default(), Some(run), None));
        steps.push((named(run, "without a run"), target));
    }
    if let Some(task) = &task_id {
        steps.push((named(task, "without a task"), None));
    }
    let title = steps.last().map_or("Objects", |(words, _)| words).to_owned();
    let further = cursor.map(|cursor| {
        let part = |name: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!("{name}={}&", super::airflow::encoded(value)))
        };
        let (dag, run, task) = (part("dag_id", &dag_id), part("run_id", &run_id), part("task_id", &task_id));
        format!("./?{dag}{run}{task}cursor={cursor}")
    });
    let run_url = |airflow: &AirflowUrl| {
        let (dag, run) = (dag_id.as_deref()?, run_id.as_deref()?);
        (!dag.is_empty() && !run.is_empty()).then(|| airflow.run(dag, run))
    };
    let body = html! {
        (trail(visit, &steps))
        h1 { bdi { (title) } }
        (to_airflow(shared, visit, run_url))
        @if found.is_empty() {
            p.quiet { "The store of this host holds nothing of it. What expired is gone; what tasks on other hosts
                have made is in the stores of those." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Objects" {
                table {
                    thead { tr {
                        th scope="col" { "Task" } th scope="col" { "XCom" } th scope="col" { "Type" }
                        th.number scope="col" { "Size" } th scope="col" { "Tier" } th scope="col" { "Made" }
                        th scope="col" { "Used" } th scope="col" { "Expires" }
                    } }
                    tbody {
                        @for object in &found {
                            @let metadata = Json::parse(&object.metadata);
                            @let owner = metadata.at("owner");
                            @let used_at = timestamp(object.used_ns);
                            tr {
                                th scope="row" { a href={ "objects/" (object.name) } { bdi { (task_of(owner)) } } }
                                td { bdi { (owner.at("key").text().unwrap_or("")) } }
                                td { code { (metadata.at("type").text().unwrap_or("?")) } }
                                td.number { (size(object.payload_bytes)) }
                                td { span.tier.(object.kind.as_str()) { (object.kind.as_str()) }
                                    @if object.pinned { " " span.tier { "in use" } } }
                                td { (ago(visit.now, timestamp(object.created_ns))) }
                                td { (ago(visit.now, used_at)) }
                                td { (until(visit.now, used_at.checked_add(ttl).unwrap_or(jiff::Timestamp::MAX))) }
                            }
                        }
                    }
                }
            }
            @if let Some(further) = further { p { a.button rel="next" href=(further) { "Older objects" } } }
        }
    };
    Ok((title, body))
}

/// `task [3]`.
pub(super) fn task_of(owner: &Json) -> String {
    let task = owner.at("task_id").text().unwrap_or("without a task");
    match owner.at("map_index").integer() {
        Some(index) if index >= 0 => format!("{task} [{index}]"),
        _ => task.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_never_leaves_its_frame() {
        let text = bar("x", &[("objects", 50, "a"), ("warm", 25, "b")], 100).into_string();
        assert!(
            text.contains(r#"x="0.00%" width="50.00%""#) && text.contains(r#"x="50.00%" width="25.00%""#),
            "{text}"
        );
        assert!(bar("x", &[("objects", 500, "a")], 100).into_string().contains(r#"width="100.00%""#));
        assert!(bar("x", &[("objects", 0, "a")], 0).into_string().contains(r#"width="0.00%""#));
    }

    #[test]
    fn metrics_are_read_by_their_whole_names() {
        let text = "a_total 1\na_total_more 2\na_total{x=\"y\"} 3.5\n";
        let values = ["a_total", "a_total{x=\"y\"}", "b"].map(|series| whole(series_value(text, series) * 2.0));
        assert_eq!(values, [2, 7, 0]);
    }
}
