//! What of a runtime environment lies on this machine goes to the cluster.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use crate::package::{Package, has_extension, tar_extension};
use crate::{Client, RayError, Result};

/// Packs and uploads local directories and files, and names their packages in their place.
pub(crate) async fn resolve(
    client: &Client,
    mut runtime_env: Map<String, Value>,
    base: Option<&Path>,
) -> Result<Map<String, Value>> {
    runtime_env.retain(|_, value| !value.is_null());
    check_variables(&runtime_env)?;
    let excludes = excludes(&runtime_env)?;
    let mut has_local = false;
    for key in ["pip", "uv"] {
        if let Some(Value::String(path)) = runtime_env.get(key) {
            let path = located(path, base);
            runtime_env.insert(key.to_owned(), requirements(key, path).await?);
        }
    }
    if let Some(Value::String(path)) = runtime_env.get("conda")
        && [".yml", ".yaml"].iter().any(|end| path.ends_with(end))
    {
        return Err(refuse("conda", "a file is not read; give its content as an object, or an environment's name"));
    }
    if let Some(given) = runtime_env.get_mut("working_dir") {
        let text = text("working_dir", given)?;
        if !is_uri(&text) {
            has_local = true;
            let (path, excludes) = (located(&text, base), excludes.clone());
            let package = packing(move || working_dir(&path, &excludes)).await?;
            *given = Value::String(client.upload_package(package).await?);
        }
    }
    if let Some(given) = runtime_env.get_mut("py_modules") {
        let Value::Array(modules) = given else {
            return Err(refuse("py_modules", "it must be a list of paths or URIs"));
        };
        for (index, module) in modules.iter_mut().enumerate() {
            let key = format!("py_modules[{index}]");
            let text = text(&key, module)?;
            if !is_uri(&text) {
                has_local = true;
                let (path, excludes) = (located(&text, base), excludes.clone());
                let package = packing(move || py_module(&key, &path, &excludes)).await?;
                *module = Value::String(client.upload_package(package).await?);
            }
        }
    }
    if has_local {
        // Ray itself would look for local directories to apply it to.
        runtime_env.remove("excludes");
    }
    Ok(runtime_env)
}

fn working_dir(path: &Path, excludes: &[String]) -> Result<Package> {
    const KEY: &str = "working_dir";
    if path.is_dir() {
        Package::directory(path, excludes, false)
    } else if is_archive(path) && path.is_file() {
        Package::archive(path)
    } else {
        Err(unusable(KEY, path, "neither a directory nor an archive (.zip)"))
    }
}

fn py_module(key: &str, path: &Path, excludes: &[String]) -> Result<Package> {
    if path.is_dir() {
        Package::directory(path, excludes, true)
    } else if path.is_file() && has_extension(path, "py") {
        Package::module(path)
    } else if path.is_file() && (has_extension(path, "whl") || is_archive(path)) {
        Package::archive(path)
    } else {
        Err(unusable(key, path, "neither a directory nor a .py, .whl or .zip file"))
    }
}

fn is_archive(path: &Path) -> bool {
    has_extension(path, "zip") || path.to_str().and_then(tar_extension).is_some()
}

fn unusable(key: &str, path: &Path, kind: &str) -> RayError {
    let reason = if path.exists() {
        format!("`{}` is {kind}", path.display())
    } else {
        format!("`{}` does not exist on this machine", path.display())
    };
    refuse(key, &reason)
}

/// Reading and compressing takes its time, and may not hold up what else runs on this thread.
async fn packing(pack: impl FnOnce() -> Result<Package> + Send + 'static) -> Result<Package> {
    spawn_blocking(pack)
        .await
        .map_err(|source| RayError::Internal { what: format!("packing ended early: {source}") })?
}

/// A requirements file, which only this machine has, as the list that Ray takes.
async fn requirements(key: &str, path: PathBuf) -> Result<Value> {
    let key = key.to_owned();
    let read = spawn_blocking(move || {
        let content = fs::read_to_string(&path).map_err(|source| refuse(&key, &source.to_string()))?;
        let mut packages = Vec::new();
        for line in content.lines() {
            let line = line.split_once(" #").map_or(line, |(line, _)| line).trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with("-r") || line.starts_with("-c") || line.starts_with("--requirement") {
                return Err(refuse(&key, &format!("`{}` names another file (`{line}`)", path.display())));
            }
            packages.push(Value::String(line.to_owned()));
        }
        Ok(Value::Array(packages))
    });
    read.await.map_err(|source| RayError::Internal { what: format!("reading ended early: {source}") })?
}

fn check_variables(runtime_env: &Map<String, Value>) -> Result<()> {
    match runtime_env.get("env_vars") {
        None => Ok(()),
        Some(Value::Object(variables)) => match variables.iter().find(|(_, value)| !value.is_string()) {
            None => Ok(()),
            Some((name, _)) => Err(refuse("env_vars", &format!("the value of `{name}` must be a string"))),
        },
        Some(_) => Err(refuse("env_vars", "it must be an object of strings")),
    }
}

fn excludes(runtime_env: &Map<String, Value>) -> Result<Vec<String>> {
    let wrong = || refuse("excludes", "it must be a list of patterns");
    match runtime_env.get("excludes") {
        None => Ok(Vec::new()),
        Some(Value::Array(patterns)) => {
            patterns.iter().map(|pattern| pattern.as_str().map(ToOwned::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn text(key: &str, value: &Value) -> Result<String> {
    match value.as_str().map(str::trim) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(refuse(key, "it must be a path or a URI")),
    }
}

fn is_uri(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

fn located(path: &str, base: Option<&Path>) -> PathBuf {
    base.map_or_else(|| PathBuf::from(path), |base| base.join(path))
}

fn refuse(key: &str, reason: &str) -> RayError {
    RayError::RuntimeEnv { key: format!("`{key}`"), reason: reason.to_owned() }
}
