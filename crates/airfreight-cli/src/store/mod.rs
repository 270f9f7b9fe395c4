//! `airfreight store …`

mod gc;
mod objects;
mod show;

use std::process::ExitCode;

use airfreight_core::ErrorKind;
use serde::Serialize;

use crate::arguments::{LsOptions, Order, StoreCommand};
use crate::error::CliError;
use crate::output::{Output, age, size};
use crate::settings::Settings;
use objects::{Listing, find};

pub(crate) fn run(command: &StoreCommand, settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    match command {
        StoreCommand::Ls(options) => ls(options, settings, output),
        StoreCommand::Show { id } => show::run(id, settings, output),
        StoreCommand::Stat => stat(settings, output),
        StoreCommand::Rm { ids } => rm(ids, settings, output),
        StoreCommand::Gc(options) => gc::run(options, settings, output),
    }
}

fn ls(options: &LsOptions, settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let store = match settings.open_store() {
        // No store yet is an empty store.
        Err(CliError::Store(error)) if error.kind() == ErrorKind::NotFound => {
            return empty(&error, output).map(|()| ExitCode::SUCCESS);
        }
        other => other?,
    };
    let mut listing = Listing::read(&store)?;
    listing.objects.retain(|object| {
        let owner = object.owner.as_ref();
        options.dag.as_ref().is_none_or(|dag| owner.is_some_and(|o| o.dag_id == *dag))
            && options.run.as_ref().is_none_or(|run| owner.is_some_and(|o| o.run_id == *run))
    });
    match options.sort {
        Order::Age => listing.objects.sort_by_key(|o| std::cmp::Reverse(o.created_at)),
        Order::Size => listing.objects.sort_by_key(|o| std::cmp::Reverse(o.payload_bytes)),
        Order::Used => listing.objects.sort_by_key(|o| std::cmp::Reverse(o.used_at)),
    }
    if output.json {
        output.json(&listing)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = jiff::Timestamp::now();
    let rows: Vec<Vec<String>> = listing
        .objects
        .iter()
        .map(|object| {
            vec![
                object.name.clone(),
                size(object.payload_bytes),
                age(now, object.created_at),
                object.tier.to_owned(),
                object.kind().to_owned(),
                object.owner.as_ref().map(objects::describe).unwrap_or_default(),
            ]
        })
        .collect();
    output.table(&["NAME", "SIZE", "AGE", "TIER", "TYPE", "TASK"], &[1, 2], &rows)?;
    for damaged in &listing.damaged {
        output.line(format_args!("{}  damaged: {}", damaged.name, damaged.error))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn empty(why: &airfreight_store::StoreError, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.json {
        output.json(&Listing::default())?;
    } else {
        output.line(format_args!("no objects: {why}"))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Stat<'a> {
    path: &'a std::path::Path,
    store_id: &'a str,
    tier: &'a str,
    notice: Option<&'a str>,
    huge_pages: Option<&'a str>,
    objects: u64,
    pinned: u64,
    unfinished: u64,
    used_bytes: u64,
    warm_bytes: u64,
    capacity_bytes: u64,
    pool_bytes: u64,
    spill_path: &'a std::path::Path,
    spilled_objects: u64,
    spilled_bytes: u64,
    spill_capacity_bytes: u64,
}

fn stat(settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let store = settings.open_store()?;
    let stat = store.stat()?;
    let stat = Stat {
        path: store.path(),
        store_id: store.id(),
        tier: store.kind().as_str(),
        notice: store.notice(),
        huge_pages: stat.huge_pages.as_deref(),
        objects: stat.objects,
        pinned: stat.pinned,
        unfinished: stat.unfinished,
        used_bytes: stat.used_bytes,
        warm_bytes: stat.warm_bytes,
        capacity_bytes: stat.capacity_bytes,
        pool_bytes: stat.pool_bytes,
        spill_path: store.spill_path(),
        spilled_objects: stat.spilled_objects,
        spilled_bytes: stat.spilled_bytes,
        spill_capacity_bytes: stat.spill_capacity_bytes,
    };
    if output.json {
        output.json(&stat)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = [
        ("store", format!("{} ({})", stat.path.display(), stat.tier)),
        ("id", stat.store_id.to_owned()),
        ("used", share(stat.used_bytes, stat.capacity_bytes)),
        ("  objects", format!("{}, {} held by readers, {} being written", stat.objects, stat.pinned, stat.unfinished)),
        ("  warm", share(stat.warm_bytes, stat.pool_bytes)),
        ("spill", stat.spill_path.display().to_string()),
        ("  used", share(stat.spilled_bytes, stat.spill_capacity_bytes)),
        ("  objects", stat.spilled_objects.to_string()),
        ("huge pages", stat.huge_pages.unwrap_or("off").to_owned()),
    ];
    output.table(&[], &[], &rows.map(|(name, value)| vec![name.to_owned(), value]))?;
    if let Some(notice) = stat.notice {
        output.line(notice)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `1.2 GiB of 12.0 GiB (10 %)`.
fn share(part: u64, whole: u64) -> String {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole)).map(|p| format!(" ({p} %)"));
    format!("{} of {}{}", size(part), size(whole), percent.unwrap_or_default())
}

fn rm(ids: &[String], settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let store = settings.open_store()?;
    let names = store.names()?;
    // Every name is found before anything goes: a mistyped one should cost nothing.
    let found = ids.iter().map(|id| find(&names, id)).collect::<Result<Vec<_>, _>>()?;
    let mut removed = Vec::new();
    for name in &found {
        // Somebody else may have been faster, which is as good.
        store.delete(*name)?;
        removed.push(name.to_string());
    }
    if output.json {
        output.json(&serde_json::json!({ "removed": removed }))?;
    } else {
        for name in removed {
            output.line(format_args!("removed {name}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
