//! Settings: a flag, `AIRFREIGHT_<NAME>`, `AIRFLOW__AIRFREIGHT__<NAME>`, `[airfreight]` in airflow.cfg, the default.
//!
//! Airflow's own resolution knows more sources (secrets backends, commands). Inside a task and in `airflow airfreight
//! gc` those hold, through Python; this program must also work where there is no Airflow.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airfreight_airflow::Token;
use airfreight_core::key_fingerprint;
use airfreight_store::{DEFAULT_TTL, Options, Store};
use bytesize::ByteSize;
use configparser::ini::Ini;
use secrecy::SecretString;

use crate::error::CliError;

/// A hundred years: what is longer was meant otherwise.
pub(crate) const HOURS_MAX: f64 = 24.0 * 366.0 * 100.0;

/// Where values come from; they are parsed when they are asked for, so that `doctor` can go on past a bad one.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    store: Option<PathBuf>,
    file: Option<PathBuf>,
    section: Ini,
}

impl Settings {
    pub(crate) fn load(store: Option<&Path>) -> Result<Self, CliError> {
        let path = airflow_cfg();
        let mut section = Ini::new();
        section.set_multiline(true);
        section.set_inline_comment_symbols(Some(&[]));
        let file = match path {
            Some(path) if path.is_file() => {
                section.load(&path).map_err(|reason| CliError::Configuration { path: path.clone(), reason })?;
                Some(path)
            }
            _ => None,
        };
        Ok(Self { store: store.map(Into::into), file, section })
    }

    /// The text of a setting and where it was found; empty means not set, as in Airflow.
    fn text(&self, name: &str) -> Option<(String, String)> {
        let upper = name.to_uppercase();
        for variable in [format!("AIRFREIGHT_{upper}"), format!("AIRFLOW__AIRFREIGHT__{upper}")] {
            if let Some(text) = env::var(&variable).ok().filter(|t| !t.trim().is_empty()) {
                return Some((text.trim().to_owned(), variable));
            }
        }
        let text = self.section.get("airfreight", name).filter(|t| !t.trim().is_empty())?;
        let file = self.file.as_deref().unwrap_or(Path::new("airflow.cfg")).display();
        // Airflow's file doubles the per cent sign.
        Some((text.trim().replace("%%", "%"), format!("[airfreight] {name} in {file}")))
    }

    fn parsed<T>(
        &self,
        name: &str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, CliError> {
        let Some((text, origin)) = self.text(name) else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(CliError::Setting { origin, text, expected }),
        }
    }

    fn size(&self, name: &str) -> Result<Option<u64>, CliError> {
        self.parsed(name, "a size such as `4096`, `512 MiB` or `8 GB`", |t| t.parse::<ByteSize>().ok().map(|b| b.0))
    }

    fn hours(&self, name: &str) -> Result<Option<Duration>, CliError> {
        let hours = |text: &str| text.parse::<f64>().ok().filter(|hours| *hours > 0.0 && *hours <= HOURS_MAX);
        self.parsed(name, "a number of hours above 0", |t| hours(t).map(|h| Duration::from_secs_f64(h * 3600.0)))
    }

    fn path(&self, name: &str) -> Result<Option<PathBuf>, CliError> {
        self.parsed(name, "an absolute path", |t| Some(PathBuf::from(t)).filter(|p| p.is_absolute()))
    }

    /// Whether the store's directory was named on the command line.
    pub(crate) fn store_is_given(&self) -> bool {
        self.store.is_some()
    }

    fn store_path(&self) -> Result<Option<PathBuf>, CliError> {
        match &self.store {
            Some(path) => Ok(Some(path.clone())),
            None => self.path("store_path"),
        }
    }

    /// An object expires so long after its last use.
    pub(crate) fn ttl(&self) -> Result<Duration, CliError> {
        Ok(self.hours("ttl_hours")?.unwrap_or(DEFAULT_TTL))
    }

    /// `--retention-hours` before the setting before two days.
    pub(crate) fn retention(&self, flag: Option<f64>) -> Result<Duration, CliError> {
        match flag {
            Some(hours) => Ok(Duration::from_secs_f64(hours * 3600.0)),
            None => Ok(self.hours("retention_hours")?.unwrap_or(Duration::from_hours(48))),
        }
    }

    /// The fingerprints of the keys with which this Airflow deployment signs: what tells its objects from those of
    /// another deployment in the same store. Empty when no key is found.
    ///
    /// `AIRFREIGHT_DEPLOYMENT` (from `airflow airfreight gc`, which knows every source of the key), else `secret_key`,
    /// else the key file in `AIRFLOW_HOME`.
    pub(crate) fn deployments(&self) -> Vec<String> {
        let fingerprints = |keys: &str| -> Vec<String> {
            let listed: Option<Vec<String>> = serde_json::from_str(keys).ok();
            let keys = listed.unwrap_or_else(|| keys.split(',').map(|key| key.trim().to_owned()).collect());
            keys.iter().map(|key| key_fingerprint(key.as_bytes())).collect()
        };
        if let Some((text, _)) = self.text("deployment") {
            return text.split(',').map(|one| one.trim().to_owned()).collect();
        }
        if let Some((keys, _)) = self.text("secret_key") {
            return fingerprints(&keys);
        }
        let file = airflow_home().map(|home| home.join("airfreight.key"));
        let key = file.and_then(|file| fs_err::read_to_string(file).ok());
        key.map(|key| vec![key_fingerprint(key.trim().as_bytes())]).unwrap_or_default()
    }

    pub(crate) fn api_url(&self) -> Option<String> {
        self.api_url_and_origin().map(|(text, _)| text)
    }

    /// The same, and where it was found.
    pub(crate) fn api_url_and_origin(&self) -> Option<(String, String)> {
        self.text("api_url")
    }

    /// The token of the API, from a file or the environment, never from an argument.
    pub(crate) fn api_token(&self, file: Option<&Path>) -> Result<Option<Token>, CliError> {
        match file {
            Some(path) => Ok(Some(Token::new(fs_err::read_to_string(path).map_err(CliError::Token)?))),
            None => Ok(self.text("api_token").map(|(text, _)| Token::new(text))),
        }
    }

    /// The file with the token by which tasks read from agents, and so this agent's.
    pub(crate) fn agent_token_file(&self) -> Result<Option<PathBuf>, CliError> {
        self.path("agent_token_file")
    }

    /// That token itself, and where it was found.
    pub(crate) fn agent_token(&self) -> Option<(String, SecretString)> {
        self.text("agent_token").map(|(text, origin)| (origin, text.into()))
    }

    /// How the tasks of this user open their store, except that it is never made here.
    pub(crate) fn store_options(&self) -> Result<Options, CliError> {
        Ok(Options {
            path: self.store_path()?,
            capacity_bytes: self.size("capacity_bytes")?,
            spill_path: self.path("spill_path")?,
            spill_capacity_bytes: self.size("spill_capacity_bytes")?,
            pool_bytes: self.size("pool_bytes")?,
            ttl: Some(self.ttl()?),
            must_exist: true,
        })
    }

    /// The bucket of checkpoints: `--bucket`, else the setting.
    ///
    /// `airflow airfreight checkpoint` says what an Airflow connection says in `AIRFREIGHT_CHECKPOINT_ACCESS`, since a
    /// secret must be no argument.
    pub(crate) fn bucket(&self, flag: Option<&str>) -> Result<airfreight_bucket::Settings, CliError> {
        let (text, origin) = match flag {
            Some(url) => (url.to_owned(), "--bucket".to_owned()),
            None => self.text("checkpoint").ok_or(CliError::NoBucket)?,
        };
        if let Ok(access) = env::var("AIRFREIGHT_CHECKPOINT_ACCESS") {
            return airfreight_bucket::Settings::from_json(&access).ok_or(CliError::Variable {
                name: "AIRFREIGHT_CHECKPOINT_ACCESS",
                reason: "it is not what `airflow airfreight` writes there".into(),
            });
        }
        let expected =
            "a URL such as s3://bucket/prefix; for connections of Airflow's use `airflow airfreight checkpoint`";
        let is_url = text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('@'));
        if is_url {
            Ok(airfreight_bucket::Settings::new(text))
        } else {
            Err(CliError::Setting { origin, text, expected })
        }
    }

    /// Opens the store that tasks of this user use, and makes it where there is none.
    pub(crate) fn make_store(&self) -> Result<Store, CliError> {
        Ok(Store::open(&Options { must_exist: false, ..self.store_options()? })?)
    }

    /// Opens the store that tasks of this user use.
    pub(crate) fn open_store(&self) -> Result<Store, CliError> {
        Ok(Store::open(&self.store_options()?)?)
    }
}

/// `AIRFLOW_CONFIG`, else airflow.cfg in `AIRFLOW_HOME`, which is ~/airflow by default.
fn airflow_cfg() -> Option<PathBuf> {
    if let Some(path) = env::var_os("AIRFLOW_CONFIG").filter(|p| !p.is_empty()) {
        return Some(path.into());
    }
    Some(airflow_home()?.join("airflow.cfg"))
}

fn airflow_home() -> Option<PathBuf> {
    match env::var_os("AIRFLOW_HOME").filter(|p| !p.is_empty()) {
        Some(path) => Some(path.into()),
        None => Some(env::home_dir()?.join("airflow")),
    }
}
