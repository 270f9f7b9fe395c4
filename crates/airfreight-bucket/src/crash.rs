//! Named points of queueing and uploading at which a test may kill the process, as those of the store.

/// Every point, in the order in which a checkpoint's life passes them. The tests walk this list.
pub const CRASH_POINTS: &[&str] = &[
    "queue.temp",
    "queue.synced",
    "queue.named",
    "upload.begun",
    "upload.part",
    "upload.sent",
    "upload.completed",
    "upload.verified",
];

pub(crate) fn crash_point(name: &'static str) {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not listed");
    airfreight_store::passage(name);
}
