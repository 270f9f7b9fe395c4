//! Named points of completing a checkpoint at which a test may kill the process, as those of the store.

/// Every point, in the order in which a queued upload passes them; those of the bucket come before. The tests walk this
/// list.
pub const CRASH_POINTS: &[&str] =
    &["checkpoint.copied", "checkpoint.newest", "checkpoint.replaced", "checkpoint.removed"];

pub(crate) fn crash_point(name: &'static str) {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not listed");
    airfreight_store::passage(name);
}
