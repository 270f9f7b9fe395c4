//! What the command line says of a job to submit.

use std::path::Path;

use airfreight_ray::{Client, Submission};
use serde_json::Value;

use super::arguments::{Object, SubmitOptions, Texts};
use crate::error::CliError;

/// The job, its packages uploaded.
pub(super) async fn prepare(options: &SubmitOptions, client: &Client) -> Result<Submission, CliError> {
    let mut submission = Submission::new(entrypoint(&options.entrypoint)?);
    let environment = runtime_env(options)?;
    if !environment.is_empty() {
        let resolved = client.resolve_runtime_env(environment, None).await?;
        submission = submission.with("runtime_env", resolved);
    }
    let texts = |texts: &Option<Texts>| texts.clone().map(|Texts(object)| Value::Object(object));
    let fields: [(&str, Option<Value>); 7] = [
        ("submission_id", options.submission_id.clone().map(Value::String)),
        ("metadata", texts(&options.metadata_json)),
        ("entrypoint_num_cpus", options.entrypoint_num_cpus.clone().map(Value::Number)),
        ("entrypoint_num_gpus", options.entrypoint_num_gpus.clone().map(Value::Number)),
        ("entrypoint_memory", options.entrypoint_memory.map(Into::into)),
        ("entrypoint_resources", options.entrypoint_resources.clone().map(Value::Object)),
        ("entrypoint_label_selector", texts(&options.entrypoint_label_selector)),
    ];
    for (key, value) in fields {
        if let Some(value) = value {
            submission = submission.with(key, value);
        }
    }
    Ok(submission)
}

/// One argument is a line for the shell; several were separated by a shell already, so they are quoted.
fn entrypoint(arguments: &[String]) -> Result<String, CliError> {
    match arguments {
        [line] => Ok(line.clone()),
        // No argument of a process can hold what can't be quoted.
        words => shlex::try_join(words.iter().map(String::as_str)).map_err(|error| CliError::Entrypoint(error.into())),
    }
}

fn runtime_env(options: &SubmitOptions) -> Result<Object, CliError> {
    let mut environment = match (&options.runtime_env, &options.runtime_env_json) {
        (Some(path), _) => read(path)?,
        (None, Some(json)) => json.clone(),
        (None, None) => Object::new(),
    };
    if let Some(directory) = &options.working_dir {
        environment.insert("working_dir".to_owned(), directory.clone().into());
    }
    Ok(environment)
}

/// A file of YAML, of which JSON is a part.
fn read(path: &Path) -> Result<Object, CliError> {
    let text = fs_err::read_to_string(path).map_err(CliError::RuntimeEnv)?;
    serde_saphyr::from_str(&text)
        .map_err(|error| CliError::RuntimeEnvFile { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_entrypoint_as_they_were_given() {
        let line = |arguments: &[&str]| entrypoint(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["python train.py | tee log"]).unwrap(), "python train.py | tee log");
        assert_eq!(line(&["python", "-c", "print('a b')", "$HOME"]).unwrap(), r#"python -c "print('a b')" '$HOME'"#);
    }

    #[test]
    fn a_runtime_environment_is_yaml_or_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let parsed = |text: &str| {
            fs_err::write(&path, text).unwrap();
            read(&path)
        };
        let expected = serde_json::json!({"pip": ["a==1.0", "b"], "env_vars": {"A": "1"}, "config": {"eager": true}});
        let yaml = "pip:\n- a==1.0\n- b\nenv_vars: {A: '1'}\nconfig:\n  eager: true\n";
        assert_eq!(Value::Object(parsed(yaml).unwrap()), expected);
        assert_eq!(Value::Object(parsed(&expected.to_string()).unwrap()), expected);
        assert!(matches!(parsed("- a\n- b\n"), Err(CliError::RuntimeEnvFile { .. })));
        assert!(matches!(read(Path::new("/nowhere")), Err(CliError::RuntimeEnv(_))));
    }
}
