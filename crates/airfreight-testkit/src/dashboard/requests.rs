//! What arrives, and over how many connections.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fault::Server;

/// Bodies above this are not kept.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request as it arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Arrived {
    /// `dashboard` or `agent`.
    pub server: Server,
    /// `GET` and the like.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, if it is a text of at most 64 KiB.
    pub body: Option<String>,
    /// The number of the connection that it came by.
    pub connection: u64,
    /// How many connections were open then, this one included.
    pub open: u64,
}

/// What has arrived, without the calls that control the server and their connections.
#[derive(Clone, Debug, Serialize)]
pub struct Traffic {
    /// In the order of their arrival.
    pub requests: Vec<Arrived>,
    /// How many connections there were altogether.
    pub connections: u64,
    /// How many of them are open.
    pub open: u64,
    /// How many were open at most at a time.
    pub open_max: u64,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    arrived: Vec<Arrived>,
    connections: u64,
    open: u64,
    open_max: u64,
}

impl Requests {
    /// A connection that has sent its first request.
    pub(super) fn opened(&mut self) -> u64 {
        self.connections += 1;
        self.open += 1;
        self.open_max = self.open_max.max(self.open);
        self.connections
    }

    pub(super) fn closed(&mut self) {
        self.open -= 1;
    }

    pub(super) fn arrived(&mut self, mut request: Arrived) -> usize {
        request.open = self.open;
        self.arrived.push(request);
        self.arrived.len() - 1
    }

    pub(super) fn body(&mut self, index: usize, body: &[u8]) {
        // They may have been forgotten meanwhile.
        if let Some(request) = self.arrived.get_mut(index).filter(|_| body.len() <= BODY_BYTES_MAX) {
            request.body = std::str::from_utf8(body).ok().map(Into::into);
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.arrived.clone(),
            connections: self.connections,
            open: self.open,
            open_max: self.open_max,
        }
    }

    pub(super) fn forget(&mut self) {
        self.arrived.clear();
        self.connections = 0;
        self.open_max = self.open;
    }
}
