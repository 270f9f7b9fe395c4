//! Objects on this host.
