//! Airflow's side: versions, backend, settings, key, executor, API.

use airfreight_airflow::{Airflow, Options};

use super::Check;
use super::probe::{AirflowSettings, Facts, Key, Unasked};
use crate::settings::Settings;

const BACKEND: &str = "airfreight.xcom.AirfreightXCom";

/// The newest Airflow that the tests run against.
const NEWEST_TESTED: (u32, u32) = (3, 4);

pub(super) fn checks(facts: Result<&Facts, &Unasked>) -> Vec<Check> {
    let facts = match facts {
        Ok(facts) => facts,
        Err(Unasked::NoPython) => {
            return vec![Check::warn(
                "airflow",
                "not found: there is no Python next to this program and no `airflow` on PATH",
                "name the Python that runs Airflow with --python; the rest is checked without it",
            )];
        }
        Err(Unasked::Failed { python, reason }) => {
            return vec![Check::fail(
                "airflow",
                format!("`{} -m airfreight.doctor` failed: {reason}", python.display()),
                "install the airfreight wheel into Airflow's environment, or name another Python with --python",
            )];
        }
    };
    let mut checks = vec![versions(facts)];
    let Some(airflow) = &facts.airflow else {
        checks.push(Check::warn(
            "airflow",
            format!("not installed in the environment of {}", facts.executable),
            "name the Python that runs Airflow with --python; the rest is checked without it",
        ));
        return checks;
    };
    checks.push(airflow_version(airflow, &facts.python, &facts.home));
    if !facts.provider {
        checks.push(Check::fail(
            "provider",
            "Airflow does not see airfreight as a provider, so the [airfreight] settings have no defaults",
            "install the wheel anew: its metadata is incomplete",
        ));
    }
    checks.push(backend(facts));
    checks.extend(
        facts
            .problems
            .iter()
            .map(|problem| Check::fail("settings", problem.message.clone(), problem.hint.clone().unwrap_or_default())),
    );
    if let Some(settings) = &facts.settings {
        checks.push(Check::ok("settings", "every [airfreight] setting is understood"));
        checks.push(executor(&facts.executor, settings.shared_store));
    }
    checks.extend(facts.key.as_ref().map(key));
    checks
}

fn versions(facts: &Facts) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    match facts.airfreight.as_deref() {
        Some(theirs) if theirs == ours => Check::ok("airfreight", format!("{ours}, in {}", facts.executable)),
        theirs => Check::fail(
            "airfreight",
            format!(
                "this program is {ours}, but the package in {} is {}",
                facts.executable,
                theirs.unwrap_or("missing")
            ),
            "install one version: the wheel brings both",
        ),
    }
}

fn airflow_version(airflow: &str, python: &str, home: &str) -> Check {
    let found = format!("{airflow} on Python {python}, AIRFLOW_HOME {home}");
    let mut numbers = airflow.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), _) if major < 3 => Check::fail("airflow", found, "Airfreight needs Airflow 3.0 or later"),
        (Some(major), Some(minor)) if (major, minor) <= NEWEST_TESTED => Check::ok("airflow", found),
        _ => Check::warn(
            "airflow",
            found,
            format!("Airfreight was tested up to Airflow {}.{}", NEWEST_TESTED.0, NEWEST_TESTED.1),
        ),
    }
}

fn backend(facts: &Facts) -> Check {
    let set = format!("set AIRFLOW__CORE__XCOM_BACKEND={BACKEND} for every component of Airflow");
    let path = &facts.backend.path;
    match &facts.backend.error {
        Some(error) => {
            let found = format!("`{path}` cannot be imported: {error}");
            Check::fail("xcom backend", found, "no task can start like this; ".to_owned() + &set)
        }
        None if facts.backend.ours => Check::ok("xcom backend", path.clone()),
        None => Check::fail("xcom backend", format!("`{path}`, so values go through Airflow's database"), set),
    }
}

fn executor(executor: &str, shared_store: bool) -> Check {
    // `LocalExecutor`, `team=a.b.CExecutor`, `alias:a.b.CExecutor`, and several of them with commas.
    let classes: Vec<&str> = executor
        .split([',', ';'])
        .map(|one| one.rsplit(['.', ':', '=']).next().unwrap_or(one).trim())
        .filter(|class| !class.is_empty())
        .collect();
    let has = |names: &[&str]| classes.iter().any(|class| names.iter().any(|name| class.contains(name)));
    if has(&["Kubernetes", "Ecs", "Batch", "Lambda"]) {
        if shared_store {
            return Check::ok("executor", format!("{executor}, with a store that outlives the task (shared_store)"));
        }
        return Check::fail(
            "executor",
            format!("{executor}: the store ends with the task's container, so values larger than a row are refused"),
            "mount a hostPath volume at [airfreight] store_path into every pod of a node and set shared_store = True, \
             with an agent on every node for tasks on the others; or keep copies in a bucket with checkpoint=True",
        );
    }
    if has(&["Celery", "Edge"]) {
        return Check::warn(
            "executor",
            format!("{executor}: each worker host has a store of its own"),
            "with more than one worker host, give tasks that exchange large values a `queue` of one host; workers in \
             several containers of one host need one /dev/shm (mount it into each of them)",
        );
    }
    if has(&["Local", "Sequential", "Debug"]) {
        return Check::ok("executor", format!("{executor}: tasks run on one host and share its store"));
    }
    Check::warn("executor", format!("{executor} is not known"), "make sure that all tasks see the same store_path")
}

fn key(key: &Key) -> Check {
    const NAME: &str = "secret key";
    let fingerprints = key.fingerprints.join(", ");
    if key.source == "configuration" {
        return Check::ok(NAME, format!("from the configuration (fingerprint {fingerprints})"));
    }
    let path = &key.path;
    let in_memory = key.file_system.as_deref().is_some_and(|kind| kind == "tmpfs" || kind == "ramfs");
    if let Some(problem) = &key.problem {
        return Check::fail(NAME, problem.message.clone(), problem.hint.clone().unwrap_or_default());
    }
    match (key.exists, in_memory, key.writable) {
        (true, true, _) => Check::warn(
            NAME,
            format!("{path} is in memory: after a restart every stored value is refused"),
            "set [airfreight] secret_key, or put AIRFLOW_HOME on a disk",
        ),
        (true, false, _) => Check::ok(NAME, format!("{path} (fingerprint {fingerprints})"))
            .tip("where tasks run on several hosts, they all need the same key"),
        (false, true, _) => Check::fail(
            NAME,
            format!("there is none, and {path} would be in memory, where it is lost at the next start"),
            "set [airfreight] secret_key, or put AIRFLOW_HOME on a disk",
        ),
        (false, false, false) => Check::fail(
            NAME,
            format!("there is none, and {path} cannot be made by this user"),
            "let the user that runs the tasks write there, or set [airfreight] secret_key",
        ),
        (false, false, true) => Check::ok(NAME, format!("none yet; the first task makes {path}")),
    }
}

/// Whether `gc` could ask Airflow, if it is set up to.
pub(super) fn api_checks(settings: &Settings, known: Option<&AirflowSettings>) -> Option<Check> {
    const NAME: &str = "airflow api";
    let url = settings.api_url().or_else(|| known?.api_url.clone())?;
    let check = || -> Result<Check, crate::error::CliError> {
        let token = settings.api_token(None)?;
        let options = Options { attempts: 2, ..Options::default() };
        let airflow = Airflow::new(&url, token, options)?;
        let version = airflow.version()?;
        airflow.check_token()?;
        Ok(Check::ok(NAME, format!("{} answers (Airflow {version}) and takes the token", airflow.url())))
    };
    Some(check().unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Check::warn(
            NAME,
            format!("gc {error}{cause}"),
            error.hint().unwrap_or_else(|| "objects are kept until they expire".into()),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Fail, Ok as Well, Warn};
    use super::super::probe::Backend;
    use super::*;

    fn facts() -> Facts {
        Facts {
            python: "3.12.1".into(),
            executable: "/opt/airflow/bin/python".into(),
            airfreight: Some(env!("CARGO_PKG_VERSION").into()),
            airflow: Some("3.3.2".into()),
            provider: true,
            home: "/opt/airflow".into(),
            executor: "LocalExecutor".into(),
            backend: Backend { path: BACKEND.into(), ours: true, error: None },
            problems: vec![],
            settings: Some(AirflowSettings::default()),
            key: Some(Key { source: "configuration".into(), fingerprints: vec!["0badcafe".into()], ..Key::default() }),
        }
    }

    fn level(facts: &Facts, name: &str) -> Level {
        checks(Ok(facts)).iter().find(|check| check.name == name).unwrap().level
    }

    #[test]
    fn a_good_set_up_is_well() {
        assert!(checks(Ok(&facts())).iter().all(|check| check.level == Well));
    }

    #[test]
    fn every_bad_one_says_how_to_mend_it() {
        let backend =
            |path: &str, ours, error: Option<&str>| Backend { path: path.into(), ours, error: error.map(Into::into) };
        let cases: [(&str, Level, Facts); 8] = [
            ("airfreight", Fail, Facts { airfreight: Some("0.0.1".into()), ..facts() }),
            ("airflow", Fail, Facts { airflow: Some("2.11.2".into()), ..facts() }),
            ("airflow", Warn, Facts { airflow: Some("3.9.0".into()), ..facts() }),
            ("airflow", Well, Facts { airflow: Some("3.4.0b2".into()), ..facts() }),
            ("provider", Fail, Facts { provider: false, ..facts() }),
            ("xcom backend", Fail, Facts { backend: backend("airflow.sdk.BaseXCom", false, None), ..facts() }),
            ("xcom backend", Well, Facts { backend: backend("my.Subclass", true, None), ..facts() }),
            ("xcom backend", Fail, Facts { backend: backend("my.Broken", false, Some("ImportError: x")), ..facts() }),
        ];
        for (name, expected, facts) in cases {
            assert_eq!(level(&facts, name), expected, "{facts:?}");
            let checks = checks(Ok(&facts));
            assert!(checks.iter().all(|c| c.level == Well || c.mend.as_ref().is_some_and(|m| !m.is_empty())));
        }
    }

    #[test]
    fn an_executor_whose_store_ends_with_the_task_fails_unless_the_store_is_shared() {
        for name in [
            "KubernetesExecutor",
            "LocalExecutor,KubernetesExecutor",
            "k8s:airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor",
            "airflow.providers.amazon.aws.executors.ecs.ecs_executor.AwsEcsExecutor",
        ] {
            assert_eq!(executor(name, false).level, Fail, "{name}");
            assert_eq!(executor(name, true).level, Well, "{name}");
        }
        assert_eq!(executor("CeleryExecutor", false).level, Warn);
        assert_eq!(executor("LocalExecutor", false).level, Well);
        assert_eq!(executor("my.SpecialExecutor", false).level, Warn);
    }

    #[test]
    fn a_key_in_memory_or_nowhere_is_told() {
        let file = Key { source: "file".into(), path: "/a/airfreight.key".into(), ..Key::default() };
        let tmpfs = Some("tmpfs".to_owned());
        assert_eq!(key(&Key { exists: true, ..file.clone() }).level, Well);
        assert_eq!(key(&Key { exists: true, file_system: tmpfs.clone(), ..file.clone() }).level, Warn);
        assert_eq!(key(&Key { writable: true, file_system: tmpfs, ..file.clone() }).level, Fail);
        assert_eq!(key(&Key { writable: true, ..file.clone() }).level, Well);
        assert_eq!(key(&file).level, Fail);
    }

    #[test]
    fn without_airflow_the_rest_is_still_checked() {
        assert_eq!(checks(Err(&Unasked::NoPython))[0].level, Warn);
        let failed = Unasked::Failed { python: "/p".into(), reason: "No module named airfreight".into() };
        assert!(checks(Err(&failed))[0].found.contains("No module named airfreight"));
    }
}
