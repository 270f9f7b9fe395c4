//! Named points at which a test may kill the process.

/// Every point, in the order in which an object's life passes them. The tests walk this list.
pub const CRASH_POINTS: &[&str] = &[
    "create.reserved",
    "create.temp",
    "write.stream",
    "write.half",
    "write.huge",
    "write.done",
    "seal.published",
    "recycle.claimed",
    "recycle.resized",
    "recycle.copied",
    "relocate.copied",
    "receive.part",
    "receive.checked",
    "delete.renamed",
    "delete.locked",
    "delete.pooled",
    "delete.unlinked",
    "link.made",
    "evict.scanned",
    "evict.warm",
    "evict.removed",
    "evict.dropped",
    "evict.moved",
    "spill.temp",
    "spill.copied",
    "spill.published",
    "sweep.expired",
    "gc.locked",
    "gc.reclaimed",
];

/// A point of the store.
pub(crate) fn crash_point(name: &'static str) {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not listed");
    passage(name);
}

/// Kills the process with SIGKILL when `AIRFREIGHT_CRASH_AT` names this point, at its nth passage
/// (`AIRFREIGHT_CRASH_AFTER`, from 0); stops it when `AIRFREIGHT_CRASH_WITH` is `stop`. Compiled away without the feature
/// `crash-points`. Public for crates above this one, which list points of their own.
#[cfg(feature = "crash-points")]
pub fn passage(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static TARGET: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let target = TARGET.get_or_init(|| {
        let name = std::env::var("AIRFREIGHT_CRASH_AT").ok()?;
        let after = std::env::var("AIRFREIGHT_CRASH_AFTER").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        Some((name, after))
    });
    if let Some((wanted, after)) = target
        && wanted == name
        && PASSED.fetch_add(1, Ordering::Relaxed) == *after
    {
        let signal = match std::env::var("AIRFREIGHT_CRASH_WITH").as_deref() {
            Ok("stop") => rustix::process::Signal::STOP,
            _ => rustix::process::Signal::KILL,
        };
        // Delivered before kill() returns.
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
}

/// Nothing, without the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
pub fn passage(_name: &'static str) {}
