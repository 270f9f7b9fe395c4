//! What goes wrong on demand.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// The Jobs API.
    Dashboard,
    /// The node's agent, which serves log files.
    Agent,
    /// The runner's own port.
    Runner,
}

/// What goes wrong with which requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "what goes wrong is named in JSON")]
pub struct Fault {
    /// A regular expression for path and query; empty for all.
    pub path: String,
    /// Only this method.
    pub method: Option<String>,
    /// Only this server.
    pub server: Option<Server>,
    /// How many requests it strikes; all by default.
    pub times: Option<u32>,
    /// How many requests it spares before.
    pub after: u32,
    /// The answer waits for so long.
    pub delay_ms: u64,
    /// The answer has this status and `body` instead of what it should be.
    pub status: Option<u16>,
    /// See `status`.
    pub body: String,
    /// More headers for the answer.
    pub headers: BTreeMap<String, String>,
    /// The connection closes after so many bytes of the answer's body.
    pub cut_after_bytes: Option<u64>,
    /// After so many bytes of the answer's body nothing comes any more, and the connection stays open.
    pub stall_after_bytes: Option<u64>,
    /// A byte in the middle of the answer's body becomes NUL, which no JSON may hold.
    pub corrupt: bool,
    /// There is never an answer.
    pub hang: bool,
    /// The connection closes without an answer.
    pub refuse: bool,
    /// With `status`, `hang` and `refuse`: the request is carried out all the same, so it is the answer that gets lost.
    pub carried_out: bool,
}

/// The faults that are still to strike.
#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: Vec<(Fault, Regex)>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) -> Result<(), regex::Error> {
        let path = Regex::new(&fault.path)?;
        self.waiting.push((fault, path));
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The fault that strikes this request, if any does.
    pub(super) fn strike(&mut self, server: Server, method: &str, path: &str) -> Option<Fault> {
        let index = self.waiting.iter_mut().position(|(fault, expression)| {
            let meant = fault.server.is_none_or(|only| only == server)
                && fault.method.as_deref().is_none_or(|only| only.eq_ignore_ascii_case(method))
                && expression.is_match(path);
            if meant && fault.after > 0 {
                fault.after -= 1;
                return false;
            }
            meant
        })?;
        let fault = self.waiting[index].0.clone();
        match &mut self.waiting[index].0.times {
            Some(0 | 1) => drop(self.waiting.remove(index)),
            Some(left) => *left -= 1,
            None => {}
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_whom_it_means_and_as_often_as_it_may() {
        let mut faults = Faults::default();
        let fault = Fault { path: "^/api/jobs/x$".into(), times: Some(2), after: 1, ..Fault::default() };
        faults.add(Fault { method: Some("get".into()), server: Some(Server::Dashboard), ..fault }).unwrap();
        let mut strikes = |server, method, path| faults.strike(server, method, path).is_some();
        assert!(!strikes(Server::Dashboard, "GET", "/api/jobs/x"), "spared");
        assert!(!strikes(Server::Dashboard, "POST", "/api/jobs/x"));
        assert!(!strikes(Server::Agent, "GET", "/api/jobs/x"));
        assert!(!strikes(Server::Dashboard, "GET", "/api/jobs/xy"));
        assert!(strikes(Server::Dashboard, "GET", "/api/jobs/x"));
        assert!(strikes(Server::Dashboard, "GET", "/api/jobs/x"));
        assert!(!strikes(Server::Dashboard, "GET", "/api/jobs/x"), "used up");
    }
}
