//! Which cluster, and with which credentials: as Ray's own command line finds them.

use std::env;
use std::path::PathBuf;

use airfreight_ray::{Client, RayError, Sent, Settings};
use secrecy::SecretString;

use super::arguments::{RayArguments, Texts, texts};
use crate::error::CliError;

const ADDRESS_VARIABLES: [&str; 3] = ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_URL"];
const ADDRESS: &str = "http://127.0.0.1:8265";
const HEADERS_VARIABLE: &str = "RAY_JOB_HEADERS";

/// A client of the cluster that the arguments or the environment name, which has answered.
pub(super) async fn connect(arguments: &RayArguments) -> Result<Client, CliError> {
    let mut settings = Settings::new(address(arguments));
    settings.verify = arguments.verify.clone();
    settings.patience = arguments.patience;
    settings.headers = headers(arguments)?;
    settings.token = token_of_environment()?;
    let client = Client::new(settings.clone())?;
    match client.cluster().await {
        Ok(_) => Ok(client),
        // The file in the home directory was made for some cluster: none gets to see it that doesn't want a token.
        Err(refused @ RayError::Denied { sent: Sent::Nothing | Sent::Basic, .. }) => {
            let Some(path) = token_file() else { return Err(refused.into()) };
            settings.token = Some(read_token(path)?);
            let client = Client::new(settings)?;
            client.cluster().await?;
            Ok(client)
        }
        Err(error) => Err(error.into()),
    }
}

fn address(arguments: &RayArguments) -> String {
    let given = arguments.address.clone().into_iter();
    let mut found = given.chain(ADDRESS_VARIABLES.iter().filter_map(|name| variable(name)));
    found.next().unwrap_or_else(|| ADDRESS.to_owned())
}

fn headers(arguments: &RayArguments) -> Result<Vec<(String, SecretString)>, CliError> {
    let given = match (&arguments.headers, variable(HEADERS_VARIABLE)) {
        (Some(Texts(given)), _) => given.clone(),
        (None, Some(json)) => texts(&json).map_err(|reason| CliError::Variable { name: HEADERS_VARIABLE, reason })?.0,
        (None, None) => return Ok(Vec::new()),
    };
    let secret = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned().into();
    Ok(given.into_iter().map(|(name, value)| (name, secret(value))).collect())
}

fn token_of_environment() -> Result<Option<SecretString>, CliError> {
    match (variable("RAY_AUTH_TOKEN"), variable("RAY_AUTH_TOKEN_PATH")) {
        (Some(token), _) => Ok(Some(token.trim().to_owned().into())),
        (None, Some(path)) => read_token(path.into()).map(Some),
        (None, None) => Ok(None),
    }
}

fn token_file() -> Option<PathBuf> {
    Some(env::home_dir()?.join(".ray").join("auth_token")).filter(|path| path.is_file())
}

fn read_token(path: PathBuf) -> Result<SecretString, CliError> {
    let token = fs_err::read_to_string(path).map_err(CliError::RayToken)?;
    Ok(token.trim().to_owned().into())
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.trim().is_empty())
}
