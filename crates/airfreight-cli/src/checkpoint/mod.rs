//! `airfreight checkpoint …`: what lies in the bucket.

mod arguments;
mod listing;

use std::process::ExitCode;

use airfreight_bucket::Bucket;
use airfreight_core::ErrorKind;
use serde_json::json;

use self::arguments::{CheckpointCommand, RmOptions, Selection};
use self::listing::{Checkpoint, list};
use crate::error::CliError;
use crate::output::{Output, age, size};
use crate::settings::Settings;

pub(crate) use self::arguments::CheckpointArguments;

pub(crate) fn run(
    arguments: &CheckpointArguments,
    settings: &Settings,
    output: &mut Output<'_>,
) -> Result<ExitCode, CliError> {
    let bucket = Bucket::open(&settings.bucket(arguments.bucket.as_deref())?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Bucket)?;
    runtime.block_on(async {
        match &arguments.command {
            CheckpointCommand::Ls(selection) => ls(&bucket, selection, output).await,
            CheckpointCommand::Get { key } => get(&bucket, key, settings, output).await,
            CheckpointCommand::Rm(options) => rm(&bucket, options, settings, output).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn ls(bucket: &Bucket, selection: &Selection, output: &mut Output<'_>) -> Result<(), CliError> {
    let mut found = list(bucket, selection).await?;
    found.retain(|checkpoint| !checkpoint.is_pointer());
    if output.json {
        return Ok(output.json(&json!({ "bucket": bucket.location().to_string(), "checkpoints": found }))?);
    }
    let now = jiff::Timestamp::now();
    let row = |checkpoint: &Checkpoint| {
        let age = age(now, checkpoint.written_at);
        vec![checkpoint.object.clone(), size(checkpoint.bytes), age, checkpoint.xcom_key.clone(), checkpoint.task()]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    Ok(output.table(&["NAME", "SIZE", "AGE", "KEY", "TASK"], &[1, 2], &rows)?)
}

async fn get(bucket: &Bucket, key: &str, settings: &Settings, output: &mut Output<'_>) -> Result<(), CliError> {
    let (key, name) = if let Some(name) = parsed(key) {
        (key.to_owned(), name)
    } else {
        let found = find(list(bucket, &Selection::EVERYTHING).await?, key)?;
        let name = parsed(&found.key).ok_or_else(|| CliError::NoSuchCheckpoint { key: key.to_owned() })?;
        (found.key, name)
    };
    let store = settings.make_store()?;
    let copied = bucket.get_object(&store, name, &key, None).await?;
    if output.json {
        return Ok(output.json(&json!({ "name": name.to_string(), "nbytes": copied.nbytes }))?);
    }
    Ok(output.line(format_args!("{name} is in the store `{}`: {}", store.path().display(), size(copied.nbytes)))?)
}

/// The object's name at the end of a whole key.
fn parsed(key: &str) -> Option<airfreight_core::ObjectName> {
    key.rsplit_once('/')?.1.parse().ok()
}

async fn rm(
    bucket: &Bucket,
    options: &RmOptions,
    settings: &Settings,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    // An object of this host whose copy goes must not go for it.
    let store = match settings.open_store() {
        Ok(store) => Some(store),
        Err(CliError::Store(error)) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let doomed = if options.selection.is_everything() {
        let mut all = list(bucket, &Selection::EVERYTHING).await?;
        let mut doomed = Vec::new();
        // All are found before anything goes: a mistyped one should cost nothing.
        for key in &options.keys {
            let at = position(&all, key)?;
            doomed.push(all.swap_remove(at));
        }
        // What points to nothing is of no use either.
        let folder = |checkpoint: &Checkpoint| checkpoint.key.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        for at in 0..doomed.len() {
            let alone = !all.iter().any(|other| !other.is_pointer() && folder(other) == folder(&doomed[at]));
            let pointer = all.iter().position(|other| other.is_pointer() && folder(other) == folder(&doomed[at]));
            if let (true, Some(pointer)) = (alone, pointer) {
                doomed.push(all.swap_remove(pointer));
            }
        }
        doomed
    } else {
        list(bucket, &options.selection).await?
    };
    let mut removed = Vec::new();
    let mut bytes = 0;
    for checkpoint in &doomed {
        if !options.dry_run {
            if let (Some(store), Some(name)) = (&store, parsed(&checkpoint.key)) {
                store.forget_copy(name)?;
            }
            bucket.delete(&checkpoint.key).await?;
        }
        if checkpoint.is_pointer() {
            continue;
        }
        bytes += checkpoint.bytes;
        removed.push(&checkpoint.key);
    }
    if output.json {
        return Ok(output.json(&json!({ "dry_run": options.dry_run, "removed": removed, "nbytes": bytes }))?);
    }
    let done = if options.dry_run { "would remove" } else { "removed" };
    for key in &removed {
        output.line(format_args!("{done} {key}"))?;
    }
    Ok(output.line(format_args!("{done} {} checkpoints, {}", removed.len(), size(bytes)))?)
}

fn find(mut all: Vec<Checkpoint>, key: &str) -> Result<Checkpoint, CliError> {
    let at = position(&all, key)?;
    Ok(all.swap_remove(at))
}

/// The only checkpoint with this key or name, or beginning of a name.
fn position(all: &[Checkpoint], key: &str) -> Result<usize, CliError> {
    let is_it = |checkpoint: &Checkpoint| checkpoint.key == key || checkpoint.object == key;
    let begins = |checkpoint: &Checkpoint| !checkpoint.is_pointer() && checkpoint.object.starts_with(key);
    let exact = all.iter().position(is_it);
    let found: Vec<usize> = match exact {
        Some(at) => vec![at],
        None => (0..all.len()).filter(|&at| begins(&all[at])).collect(),
    };
    match found.as_slice() {
        [at] => Ok(*at),
        [] => Err(CliError::NoSuchCheckpoint { key: key.to_owned() }),
        _ => Err(CliError::Ambiguous { id: key.to_owned(), count: found.len() }),
    }
}
