//! The store: its place, its owner, its room, its remains.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use airfreight_core::ErrorKind;
use airfreight_store::{Location, Options, Stat, Store, StoreError};
use rustix::fs::{Access, access};

use super::probe::AirflowSettings;
use super::{Check, host};
use crate::leftovers::{self, Leftovers};
use crate::output::size;
use crate::settings::Settings;

pub(super) fn checks(settings: &Settings, known: Option<&AirflowSettings>) -> Vec<Check> {
    let options = match settings.store_options() {
        Ok(options) => options,
        Err(error) => {
            return vec![Check::fail("store", format!("not checked: {error}"), "correct the setting first")];
        }
    };
    let mut checks = Vec::new();
    let here = place(&options);
    let options = match known {
        Some(known) => as_tasks_open_it(options, known, settings.store_is_given()),
        None => options,
    };
    let path = place(&options);
    if path != here {
        checks.push(Check::warn(
            "environment",
            format!("`airfreight store` looks at {}, tasks use {}", here.display(), path.display()),
            "run it with the AIRFLOW_HOME of the tasks, or through `airflow airfreight`",
        ));
    }
    if path.starts_with("/dev/shm") || options.path.is_none() {
        checks.push(host::shared_memory());
    }
    checks.push(host::huge(&path));
    checks.extend(host::overcommit(known.and_then(|known| known.mapping.as_deref())));
    match Store::open(&options) {
        Ok(store) => match store.stat() {
            Ok(stat) => checks.extend(contents(&store, &stat)),
            Err(error) => checks.push(refused(&error)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => checks.extend(not_made_yet(&path, &options)),
        Err(error) => checks.push(refused(&error)),
    }
    checks
}

fn place(options: &Options) -> std::path::PathBuf {
    options.path.clone().unwrap_or_else(|| Location::find().path)
}

/// What Airflow resolved comes before what this program found, except for a directory named on the command line.
fn as_tasks_open_it(options: Options, known: &AirflowSettings, given: bool) -> Options {
    Options {
        path: if given { options.path } else { known.store_path.clone() },
        capacity_bytes: known.capacity_bytes,
        spill_path: known.spill_path.clone(),
        spill_capacity_bytes: known.spill_capacity_bytes,
        pool_bytes: known.pool_bytes,
        ttl: known.ttl_hours.map(|hours| Duration::from_secs_f64(hours * 3600.0)).or(options.ttl),
        must_exist: true,
    }
}

fn refused(error: &StoreError) -> Check {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Check::fail(
        "store",
        format!("{error}{cause}"),
        error.hint().unwrap_or_else(|| "set [airfreight] store_path".into()),
    )
}

fn not_made_yet(path: &Path, options: &Options) -> Vec<Check> {
    let parent = path.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("/"));
    let made = format!("none yet; the first task that stores a value makes {}", path.display());
    let mut checks = vec![if access(parent, Access::WRITE_OK).is_ok() {
        Check::ok("store", made)
    } else {
        Check::fail(
            "store",
            format!("{} cannot be made: {} is not writable for this user", path.display(), parent.display()),
            "set [airfreight] store_path to a directory in which the tasks' user may write",
        )
    }];
    if let Some(space) = host::space(path) {
        checks.extend(host::memory_limit(options.capacity_bytes.unwrap_or(space.total_bytes / 2)));
    }
    checks
}

fn contents(store: &Store, stat: &Stat) -> Vec<Check> {
    let place = format!("{} ({}), private to user {}", store.path().display(), store.kind().as_str(), uid());
    let mut checks = vec![match store.notice() {
        None => Check::ok("store", place),
        Some(notice) => Check::warn("store", place, notice),
    }];
    checks.push(room(store, stat));
    checks.push(spill(store, stat));
    checks.extend(host::memory_limit(stat.capacity_bytes));
    checks.push(remains(store));
    checks
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn room(store: &Store, stat: &Stat) -> Check {
    const NAME: &str = "room";
    let found = format!("{} objects take {} of {}", stat.objects, size(stat.used_bytes), size(stat.capacity_bytes));
    let Some(space) = host::space(store.path()) else { return Check::ok(NAME, found) };
    let unused_bytes = stat.capacity_bytes.saturating_sub(stat.used_bytes);
    if stat.capacity_bytes > space.total_bytes {
        return Check::warn(
            NAME,
            format!("{found}, but the file system has only {}", size(space.total_bytes)),
            "set [airfreight] capacity_bytes below that; by default it is half of it",
        );
    }
    if unused_bytes > space.free_bytes {
        return Check::warn(
            NAME,
            format!("{found}, but only {} are free on the file system", size(space.free_bytes)),
            "something else fills it: look at what lies beside the store, or set [airfreight] capacity_bytes lower",
        );
    }
    // Warm segments make room on their own; objects don't.
    if (stat.used_bytes - stat.warm_bytes.min(stat.used_bytes)).saturating_mul(10)
        > stat.capacity_bytes.saturating_mul(9)
    {
        return Check::warn(
            NAME,
            format!("{found}: it is nearly full, and objects move to the spill directory"),
            "run `airfreight store gc` with --api-url, lower ttl_hours, or raise capacity_bytes",
        );
    }
    Check::ok(NAME, found)
}

fn spill(store: &Store, stat: &Stat) -> Check {
    const NAME: &str = "spill";
    let path = store.spill_path();
    if stat.spill_capacity_bytes == 0 {
        return Check::ok(NAME, "off (spill_capacity_bytes is 0): a full store refuses values");
    }
    let Some(space) = host::space(path) else {
        return Check::fail(NAME, format!("{} cannot be examined", path.display()), "set [airfreight] spill_path");
    };
    if let Ok(metadata) = fs_err::metadata(path) {
        if metadata.uid() != uid() || metadata.mode() & 0o077 != 0 {
            return Check::fail(
                NAME,
                format!("{} has owner {} and mode {:04o}", path.display(), metadata.uid(), metadata.mode() & 0o7777),
                format!("give it to the tasks' user alone (`chown {} {1}; chmod 700 {1}`)", uid(), path.display()),
            );
        }
    } else if let Some(parent) = path.ancestors().skip(1).find(|path| path.exists())
        && access(parent, Access::WRITE_OK).is_err()
    {
        return Check::fail(
            NAME,
            format!("{} cannot be made: {} is not writable", path.display(), parent.display()),
            "set [airfreight] spill_path to a directory in which the tasks' user may write",
        );
    }
    let found = format!(
        "{}: {} objects take {} of {}",
        path.display(),
        stat.spilled_objects,
        size(stat.spilled_bytes),
        size(stat.spill_capacity_bytes)
    );
    if space.in_memory {
        return Check::warn(
            NAME,
            format!("{found}, in memory"),
            "set [airfreight] spill_path to a directory on a disk",
        );
    }
    if stat.spill_capacity_bytes.saturating_sub(stat.spilled_bytes) > space.free_bytes {
        return Check::warn(
            NAME,
            format!("{found}, but only {} are free there", size(space.free_bytes)),
            "free space on that disk, or set [airfreight] spill_capacity_bytes lower",
        );
    }
    Check::ok(NAME, found)
}

fn remains(store: &Store) -> Check {
    let Leftovers { files, bytes } = leftovers::of(store);
    if files == 0 {
        return Check::ok("leftovers", "none of killed writers");
    }
    Check::warn(
        "leftovers",
        format!("{files} unfinished files of killed writers take {}", size(bytes)),
        "`airfreight store gc` removes them; tasks do so too, in time",
    )
}
