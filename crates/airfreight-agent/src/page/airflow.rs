//! Ways from the page to Airflow's UI.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::json::Json;

/// What stays as it is in a path segment or a query (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name of anybody's as a part of a URL.
pub(super) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// Where people find Airflow's UI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AirflowUrl {
    base: String,
    origin: String,
}

impl AirflowUrl {
    /// `None` unless it is an `http` or `https` URL with a host and nothing behind its path.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let base = text.trim().trim_end_matches('/');
        let uri: http::Uri = base.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
        // It becomes a part of a header whose parts semicolons and blanks keep apart.
        let is_plain = authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        let is_web = matches!(scheme, "http" | "https") && uri.host().is_some_and(|host| !host.is_empty());
        if !is_web || !is_plain || uri.query().is_some() || text.contains('#') {
            return None;
        }
        Some(Self { base: base.to_owned(), origin: format!("{scheme}://{authority}") })
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// The page of the task instance that an object's metadata names; `None` where it names none.
    pub(super) fn task_instance(&self, owner: &Json) -> Option<String> {
        let part = |name: &str| owner.at(name).text().map(encoded);
        let (dag_id, run_id, task_id) = (part("dag_id")?, part("run_id")?, part("task_id")?);
        let mapped = match owner.at("map_index").integer() {
            Some(index) if index >= 0 => format!("/mapped/{index}"),
            _ => String::new(),
        };
        Some(format!("{}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}{mapped}", self.base))
    }

    /// The first page.
    pub(super) fn home(&self) -> &str {
        &self.base
    }

    /// A DAG's page.
    pub(super) fn dag(&self, dag_id: &str) -> String {
        format!("{}/dags/{}", self.base, encoded(dag_id))
    }

    /// A run's page.
    pub(super) fn run(&self, dag_id: &str, run_id: &str) -> String {
        format!("{}/runs/{}", self.dag(dag_id), encoded(run_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_task_instance_and_nowhere_else() {
        let airflow = AirflowUrl::new("https://example.com:8080/airflow/").unwrap();
        assert_eq!(airflow.origin(), "https://example.com:8080");
        let owner = |text: &str| airflow.task_instance(&Json::parse(text));
        assert_eq!(
            owner(r#"{"dag_id": "d/..", "run_id": "a b+c:00", "task_id": "t?\"><", "map_index": 3}"#).unwrap(),
            "https://example.com:8080/airflow/dags/d%2F../runs/a%20b%2Bc%3A00/tasks/t%3F%22%3E%3C/mapped/3"
        );
        assert!(owner(r#"{"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}"#).unwrap().ends_with("/t"));
        assert_eq!(owner(r#"{"dag_id": "d", "run_id": "r"}"#), None);
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        for bad in [
            "",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://user:word@example.com",
            "https://example.com;default-src *",
            "https://a;b",
            "https://a,b",
            "https://a?b",
            "https://a/b#c",
            "javascript:alert(1)",
        ] {
            assert_eq!(AirflowUrl::new(bad), None, "{bad}");
        }
        assert_eq!(AirflowUrl::new("http://[::1]:8080").unwrap().origin(), "http://[::1]:8080");
    }
}
