//! `airfreight doctor`: checks the whole set-up; each line says what is wrong and how to mend it.

mod airflow;
mod host;
mod probe;
mod store;

use std::process::ExitCode;

use serde::Serialize;

use crate::arguments::DoctorOptions;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::Settings;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It works, but not as well as it could, or not for long.
    Warn,
    /// Tasks will fail, or lose values.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    level: Level,
    /// What was looked at.
    name: &'static str,
    /// What was found.
    found: String,
    /// How to mend it, or to get more out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, name, found: found.into(), mend: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, name, found: found.into(), mend: Some(mend.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, name, found: found.into(), mend: Some(mend.into()) }
    }

    /// Adds what could be better to something that is well.
    fn tip(self, tip: impl Into<String>) -> Self {
        Self { mend: Some(tip.into()), ..self }
    }
}

pub(crate) fn run(options: &DoctorOptions, settings: &Settings, output: &mut Output<'_>) -> Result<ExitCode, CliError> {
    let mut checks = Vec::new();
    let facts = probe::ask(options.python.as_deref());
    checks.extend(airflow::checks(facts.as_ref()));
    let known = facts.ok().and_then(|facts| facts.settings);
    checks.extend(airflow::api_checks(settings, known.as_ref()));
    checks.extend(store::checks(settings, known.as_ref()));

    let level = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    if output.json {
        output.json(&serde_json::json!({ "level": level, "checks": checks }))?;
    } else {
        show(&checks, output)?;
    }
    Ok(if level == Level::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(checks: &[Check], output: &mut Output<'_>) -> Result<(), CliError> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { level, name, found, mend } in checks {
        let word = match level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        output.line(format_args!("{word:<4}  {name:<width$}  {found}"))?;
        if let Some(mend) = mend {
            output.line(format_args!("{:4}  {:width$}  → {mend}", "", ""))?;
        }
    }
    let count = |wanted| checks.iter().filter(|check| check.level == wanted).count();
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let (fails, warnings) = (count(Level::Fail), count(Level::Warn));
    output.line("")?;
    output.line(match (fails, warnings) {
        (0, 0) => "Everything is as it should be.".to_owned(),
        (0, warnings) => format!("It works; {}.", plural(warnings, "warning")),
        (fails, 0) => format!("{} to mend.", plural(fails, "failure")),
        (fails, warnings) => format!("{} to mend, and {}.", plural(fails, "failure"), plural(warnings, "warning")),
    })?;
    Ok(())
}
