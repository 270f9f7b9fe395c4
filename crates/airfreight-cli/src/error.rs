//! What can go wrong in a command.

use std::io;
use std::path::PathBuf;

use airfreight_airflow::AirflowError;
use airfreight_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot ask Airflow what is still needed")]
    Airflow(#[from] AirflowError),
    #[error("{origin} = `{text}` is not {expected}")]
    Setting { origin: String, text: String, expected: &'static str },
    #[error("cannot read Airflow's configuration `{}`: {reason}", path.display())]
    Configuration { path: PathBuf, reason: String },
    #[error("no object's name begins with `{id}`")]
    NoSuchObject { id: String },
    #[error("{count} objects' names begin with `{id}`")]
    Ambiguous { id: String, count: usize },
    #[error("cannot read the API token")]
    Token(#[source] io::Error),
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

impl CliError {
    /// What to try.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Airflow(error) => error.hint().map(Into::into),
            Self::NoSuchObject { .. } => Some("`airfreight store ls` lists what there is".into()),
            Self::Ambiguous { .. } => Some("give more of the name".into()),
            Self::Configuration { .. } => Some("AIRFLOW_CONFIG and AIRFLOW_HOME say where the file is".into()),
            _ => None,
        }
    }
}
