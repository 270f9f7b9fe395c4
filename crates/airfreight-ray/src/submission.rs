//! What to run.

use serde_json::{Map, Number, Value};

use crate::{RayError, Result};

/// A job to submit: the body of `POST /api/jobs/`.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    body: Map<String, Value>,
}

/// What Ray takes; it answers anything else with a traceback.
const KEYS: [&str; 10] = [
    "entrypoint",
    "submission_id",
    "job_id",
    "runtime_env",
    "metadata",
    "entrypoint_num_cpus",
    "entrypoint_num_gpus",
    "entrypoint_memory",
    "entrypoint_resources",
    "entrypoint_label_selector",
];

/// Where a job's nonce stands in its metadata.
pub(crate) const NONCE: &str = "airfreight_nonce";

const ID_BYTES_MAX: usize = 200;
/// Ray refuses a body beyond this.
pub(crate) const BODY_BYTES_MAX: usize = 100 << 20;

impl Submission {
    /// A job that runs a shell command.
    #[must_use]
    pub fn new(entrypoint: impl Into<String>) -> Self {
        Self { body: Map::from_iter([("entrypoint".to_owned(), Value::String(entrypoint.into()))]) }
    }

    /// Takes the body of `POST /api/jobs/`; entries that are null are left out.
    ///
    /// # Errors
    /// - [`RayError::Submission`]: a key that Ray does not know, a value of another type than Ray takes, or an id that
    ///   would not be safe.
    pub fn from_body(body: Map<String, Value>) -> Result<Self> {
        let submission = Self { body: body.into_iter().filter(|(_, value)| !value.is_null()).collect() };
        submission.check()?;
        Ok(submission)
    }

    /// Sets one entry of the body, such as `entrypoint_num_cpus`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }

    /// The id, if one was chosen.
    #[must_use]
    pub fn submission_id(&self) -> Option<&str> {
        self.body.get("submission_id").or_else(|| self.body.get("job_id")).and_then(Value::as_str)
    }

    pub(crate) fn wants_labels(&self) -> bool {
        self.body.contains_key("entrypoint_label_selector")
    }

    /// The body as it is posted: checked, with an id and a nonce.
    pub(crate) fn finish(self) -> Result<Ready> {
        let mut body = Self::from_body(self.body)?.body;
        // An old name for the same; Ray refuses both together.
        if let Some(old) = body.remove("job_id") {
            body.entry("submission_id").or_insert(old);
        }
        let id = match body.get("submission_id").and_then(Value::as_str) {
            Some(id) => id.to_owned(),
            None => format!("airfreight-{}", random_hex()?),
        };
        body.insert("submission_id".to_owned(), Value::String(id.clone()));
        let metadata = body.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(metadata) = metadata else { return Err(wrong("metadata", "an object of strings")) };
        let nonce = match metadata.get(NONCE).and_then(Value::as_str) {
            Some(nonce) => nonce.to_owned(),
            None => random_hex()?,
        };
        metadata.insert(NONCE.to_owned(), Value::String(nonce.clone()));
        let body = Value::Object(body);
        let bytes = body.to_string().len();
        if bytes > BODY_BYTES_MAX {
            return Err(refuse(format!(
                "its description has {bytes} bytes, and Ray takes {BODY_BYTES_MAX} at most; put data into working_dir or \
                 a bucket"
            )));
        }
        Ok(Ready { id, nonce, body })
    }

    fn check(&self) -> Result<()> {
        let body = &self.body;
        if let Some(key) = body.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(refuse(format!("Ray knows no `{key}`; it knows {}", KEYS.join(", "))));
        }
        match body.get("entrypoint").map(Value::as_str) {
            Some(Some(entrypoint)) if !entrypoint.trim().is_empty() => {}
            Some(Some(_)) | None => return Err(refuse("it has no entrypoint".to_owned())),
            Some(None) => return Err(wrong("entrypoint", "a string")),
        }
        for key in ["submission_id", "job_id"] {
            match body.get(key).map(Value::as_str) {
                None => {}
                Some(Some(id)) => check_id(id)?,
                Some(None) => return Err(wrong(key, "a string")),
            }
        }
        for key in ["entrypoint_num_cpus", "entrypoint_num_gpus"] {
            if body.get(key).is_some_and(|value| !is_amount(value)) {
                return Err(wrong(key, "a number that is not negative"));
            }
        }
        if body.get("entrypoint_memory").is_some_and(|value| !value.is_u64()) {
            return Err(wrong("entrypoint_memory", "a whole number of bytes"));
        }
        check_entries(body, "metadata", "an object of strings", Value::is_string)?;
        check_entries(body, "entrypoint_label_selector", "an object of strings", Value::is_string)?;
        check_entries(body, "entrypoint_resources", "an object of numbers that are not negative", is_amount)?;
        if body.get("runtime_env").is_some_and(|value| !value.is_object()) {
            return Err(wrong("runtime_env", "an object"));
        }
        Ok(())
    }
}

/// What is posted.
pub(crate) struct Ready {
    pub(crate) id: String,
    pub(crate) nonce: String,
    pub(crate) body: Value,
}

fn is_amount(value: &Value) -> bool {
    value.as_number().and_then(Number::as_f64).is_some_and(|amount| amount >= 0.0)
}

fn check_entries(body: &Map<String, Value>, key: &str, form: &str, fits: fn(&Value) -> bool) -> Result<()> {
    match body.get(key) {
        Some(Value::Object(entries)) if entries.values().all(fits) => Ok(()),
        None => Ok(()),
        Some(_) => Err(wrong(key, form)),
    }
}

/// An id with a slash makes a job that nobody can stop or delete any more.
fn check_id(id: &str) -> Result<()> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(safe) || id.bytes().all(|byte| byte == b'.') {
        return Err(refuse(format!(
            "the id `{id}` is not safe: letters, digits and `.`, `_`, `:`, `-` are, {ID_BYTES_MAX} at most"
        )));
    }
    Ok(())
}

pub(crate) fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|source| RayError::Internal { what: format!("no random numbers: {source}") })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn wrong(key: &str, form: &str) -> RayError {
    refuse(format!("`{key}` must be {form}"))
}

fn refuse(reason: String) -> RayError {
    RayError::Submission { reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn from(body: Value) -> Result<Submission> {
        let Value::Object(body) = body else { panic!("an object") };
        Submission::from_body(body)
    }

    #[test]
    fn nulls_are_left_out_and_an_id_and_nonce_come_in() {
        let submission = from(json!({"entrypoint": "true", "runtime_env": null, "metadata": {"k": "v"}})).unwrap();
        let ready = submission.finish().unwrap();
        assert_eq!(
            ready.body,
            json!({
                "entrypoint": "true",
                "submission_id": ready.id,
                "metadata": {"k": "v", "airfreight_nonce": ready.nonce},
            })
        );
        assert_eq!(ready.nonce.len(), 32);
    }

    #[test]
    fn a_nonce_that_the_caller_chose_stays() {
        let ready = Submission::new("true").with("metadata", json!({NONCE: "mine"})).finish().unwrap();
        assert_eq!(ready.nonce, "mine");
    }

    #[test]
    fn what_ray_would_refuse_is_refused_before() {
        for (body, words) in [
            (json!({}), "no entrypoint"),
            (json!({"entrypoint": " "}), "no entrypoint"),
            (json!({"entrypoint": 5}), "`entrypoint` must be a string"),
            (json!({"entrypoint": "x", "num_cpus": 1}), "Ray knows no `num_cpus`"),
            (json!({"entrypoint": "x", "metadata": {"a": 1}}), "`metadata` must be an object of strings"),
            (json!({"entrypoint": "x", "metadata": "a"}), "`metadata` must be an object of strings"),
            (json!({"entrypoint": "x", "entrypoint_num_cpus": "1"}), "`entrypoint_num_cpus` must be a number"),
            (json!({"entrypoint": "x", "entrypoint_num_gpus": -1}), "`entrypoint_num_gpus` must be a number"),
            (json!({"entrypoint": "x", "entrypoint_memory": 0.5}), "`entrypoint_memory` must be a whole number"),
            (json!({"entrypoint": "x", "entrypoint_resources": {"a": "1"}}), "`entrypoint_resources` must be"),
            (json!({"entrypoint": "x", "runtime_env": "pip"}), "`runtime_env` must be an object"),
            (json!({"entrypoint": "x", "submission_id": "a/b"}), "`a/b` is not safe"),
            (json!({"entrypoint": "x", "submission_id": ".."}), "`..` is not safe"),
            (json!({"entrypoint": "x", "submission_id": ""}), "is not safe"),
            (json!({"entrypoint": "x", "submission_id": "x".repeat(201)}), "is not safe"),
        ] {
            let error = from(body.clone()).unwrap_err().to_string();
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn accepted_ids_need_no_encoding(id in "\\PC{0,20}") {
            if check_id(&id).is_ok() {
                prop_assert_eq!(percent_encoding::utf8_percent_encode(&id, crate::client::SEGMENT).to_string(), id);
            }
        }
    }
}
