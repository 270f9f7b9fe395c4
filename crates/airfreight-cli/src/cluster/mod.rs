//! `airfreight cluster …`: Ray clusters on Kubernetes without `kubectl`.

mod arguments;
mod gc;
mod status;

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use airfreight_cluster::{Access, ClusterError, Clusters, Manifest, Place, Way};
use serde_json::{Value, json};

use self::arguments::{ApplyOptions, ClusterCommand, DeleteOptions, ForwardOptions};
use crate::error::CliError;
use crate::output::{Output, progress};
use crate::ray::Signals;
use crate::settings::Settings;

pub(crate) use self::arguments::ClusterArguments;

/// A way that takes no connection for so long is none.
const WAY_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(
    arguments: &ClusterArguments,
    settings: &Settings,
    output: &mut Output<'_>,
) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::KubeRuntime)?;
    let access = Access {
        place: arguments.kubeconfig.clone().map_or(Place::Usual, Place::File),
        context: arguments.context.clone(),
        namespace: arguments.namespace.clone(),
        patience: arguments.patience,
        ..Access::default()
    };
    let clusters = runtime.block_on(Clusters::connect(&access))?;
    match &arguments.command {
        ClusterCommand::Apply(options) => runtime.block_on(apply(options, &clusters, output)),
        ClusterCommand::Status { name: Some(name) } => runtime.block_on(status::one(name, &clusters, output)),
        ClusterCommand::Status { name: None } => runtime.block_on(status::all(&clusters, output)),
        ClusterCommand::Delete(options) => runtime.block_on(delete(options, &clusters, output)),
        ClusterCommand::Forward(options) => runtime.block_on(forward(options, &clusters, output)),
        // Asks Airflow as well, by a client that blocks.
        ClusterCommand::Gc(options) => gc::run(options, settings, &clusters, &runtime, output),
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn apply(options: &ApplyOptions, clusters: &Clusters, output: &mut Output<'_>) -> Result<(), CliError> {
    let manifest = Manifest::new(read(&options.file)?)?;
    let (known, outcome) = clusters.apply(&manifest, !options.keep, None, options.timeout).await?;
    let (namespace, name) = (known.namespace.as_str(), known.name.as_str());
    progress(format_args!("RayCluster {name} in namespace {namespace}: {}", outcome.as_str()));
    if !options.no_wait {
        clusters.wait_ready(namespace, name, options.timeout, |saying| progress(saying.line)).await?;
    }
    let way = if options.no_wait { None } else { clusters.open_way(namespace, name, WAY_PATIENCE).await? };
    let dashboard = way.as_ref().and_then(Way::dashboard);
    if output.json {
        return Ok(output.json(&json!({
            "name": name, "namespace": namespace, "uid": known.uid, "outcome": outcome.as_str(),
            "is_ready": !options.no_wait, "dashboard": dashboard,
        }))?);
    }
    if let Some(url) = dashboard {
        output.line(url)?;
    } else if !options.no_wait {
        progress(format_args!("no way leads there from this host; `airfreight cluster forward {name}` opens one"));
    }
    Ok(())
}

/// A file of YAML, of which JSON is a part.
fn read(path: &Path) -> Result<Value, CliError> {
    let is_input = path == Path::new("-");
    let text = if is_input {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs_err::read_to_string(path)
    };
    let text = text.map_err(CliError::Description)?;
    serde_saphyr::from_str(&text).map_err(|error| {
        let path = if is_input { "standard input".into() } else { path.to_owned() };
        CliError::DescriptionFile { path, reason: error.to_string() }
    })
}

async fn delete(options: &DeleteOptions, clusters: &Clusters, output: &mut Output<'_>) -> Result<(), CliError> {
    let namespace = clusters.default_namespace();
    let mut deleted = Vec::new();
    for name in &options.names {
        let Some(known) = clusters.get(namespace, name).await? else {
            return Err(ClusterError::NotFound { name: name.clone(), namespace: namespace.to_owned() }.into());
        };
        clusters.delete(namespace, name, Some(&known.uid)).await?;
        deleted.push(known);
    }
    for known in &deleted {
        if !options.no_wait {
            clusters.wait_gone(namespace, &known.name, Some(&known.uid), options.timeout).await?;
        }
        if !output.json {
            let how = if options.no_wait { "is being deleted" } else { "is gone" };
            output.line(format_args!("RayCluster {} {how}", known.name))?;
            output.flush()?;
        }
    }
    if output.json {
        output.json(&json!({ "deleted": options.names }))?;
    }
    Ok(())
}

async fn forward(options: &ForwardOptions, clusters: &Clusters, output: &mut Output<'_>) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(CliError::KubeRuntime)?;
    let namespace = clusters.default_namespace();
    let local = options.local_port.unwrap_or(options.port);
    let forward = clusters.forward(namespace, &options.name, options.port, local).await?;
    let address = forward.address();
    if output.json {
        output.json_line(&json!({ "address": address.to_string(), "url": format!("http://{address}") }))?;
    } else {
        output.line(format_args!("http://{address} leads to port {} of {}'s head", options.port, options.name))?;
    }
    output.flush()?;
    signals.any().await;
    Ok(())
}
