//! `airfreight store show`: one object.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use super::objects::{Object, find};
use crate::error::CliError;
use crate::output::{Output, age, size};
use crate::settings::Settings;

pub(super) fn run(id: &str, settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let store = settings.open_store()?;
    let name = find(&store.names()?, id)?;
    let object = Object::from(store.describe(name)?);
    if output.json {
        output.json(&object)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let moment = |at: Timestamp| format!("{at:.0}, {} ago", age(now, at));
    let mut rows = vec![
        ("name", object.name.clone()),
        ("type", object.kind().to_owned()),
        ("size", format!("{}, {} with its index", size(object.payload_bytes), size(object.file_bytes))),
        ("tier", object.tier.to_owned()),
        ("created", moment(object.created_at)),
        ("used", moment(object.used_at)),
        ("names", object.links.to_string()),
        ("held", if object.pinned { "by a reader" } else { "by nobody" }.to_owned()),
    ];
    let owner = object.metadata["owner"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    rows.extend(owner.map(|(key, value)| (key.as_str(), text(value))));
    output.table(&[], &[], &rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect::<Vec<_>>())?;
    let preview = &object.metadata["preview"];
    if !preview.is_null() {
        output.line("preview")?;
        for line in serde_json::to_string_pretty(preview).unwrap_or_default().lines() {
            output.line(format_args!("  {line}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
