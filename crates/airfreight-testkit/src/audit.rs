//! What must be true of a store that nobody uses, whatever happened to those who did.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use airfreight_core::ObjectName;
use airfreight_store::{Access, Options, Store};
use fs_err as fs;

use crate::Sample;

/// What was found in a store that is in order.
#[derive(Debug, Default)]
pub struct Audit {
    /// Every listed name with its object's seed.
    pub seeds: BTreeMap<ObjectName, u64>,
    /// Temporary files of dead writers that were removed.
    pub reclaimed: u64,
}

/// Opens the store afresh, collects, and checks that every listed object is whole, that nothing unfinished is left, and
/// that the ledger and the pages in use are those of objects and warm segments.
///
/// # Errors
/// What is wrong, in words.
pub fn audit(options: &Options) -> Result<Audit, String> {
    let said = |error: &dyn std::error::Error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let store = Store::open(options).map_err(|error| said(&error))?;
    let collected = store.collect().map_err(|error| said(&error))?;
    let mut seeds = BTreeMap::new();
    for name in store.names().map_err(|error| said(&error))? {
        let object = store.get(name, Access::ReadOnly).map_err(|error| said(&error))?;
        let sample = Sample::of(&object).map_err(|error| said(&error))?;
        sample.verify(&object).map_err(|error| said(&error))?;
        seeds.insert(name, sample.seed);
    }
    let root = store.path();
    let spill = store.spill_path().join(store.id());
    for tmp in [root.join("tmp"), spill.join("tmp")] {
        let left = listing(&tmp)?;
        if !left.is_empty() {
            return Err(format!("`{}` still holds {left:?} after a full pass", tmp.display()));
        }
    }
    let counted = |what: &str, counted: u64, found: u64| {
        let wrong = || format!("the ledger counts {counted} bytes of {what}, a scan finds {found}");
        if counted == found { Ok(()) } else { Err(wrong()) }
    };
    let warm = tree_bytes(&[root.join("warm")])?;
    let objects = tree_bytes(&[root.join("objects")])?;
    counted("warm segments", ledger_word(root, 3)?, warm.footprint)?;
    counted("objects and warm segments", ledger_word(root, 2)?, warm.footprint + objects.footprint)?;
    counted("spilled objects", ledger_word(root, 4)?, tree_bytes(&[spill.join("objects")])?.footprint)?;
    for (what, found) in [("warm segments", warm), ("objects", objects)] {
        if found.pages != found.footprint {
            return Err(format!("{what} take {} bytes of pages, their lengths are {}", found.pages, found.footprint));
        }
    }
    Ok(Audit { seeds, reclaimed: collected.reclaimed })
}

/// Pages that a store's directory really takes now, unnamed ones aside: what `du` would say.
///
/// # Errors
/// When a directory can't be listed.
pub fn used_bytes(store: &Path) -> Result<u64, String> {
    // In the order in which files move, so that one that moves meanwhile is rather seen twice, and counted once.
    Ok(tree_bytes(&["tmp", "objects", "tmp", "warm"].map(|part| store.join(part)))?.pages)
}

#[derive(Clone, Copy, Default)]
struct Bytes {
    /// File lengths in whole pages.
    footprint: u64,
    /// Pages that exist.
    pages: u64,
}

/// All files below directories, each inode once; none where there is no directory. Files may go while it looks.
fn tree_bytes(roots: &[PathBuf]) -> Result<Bytes, String> {
    let mut bytes = Bytes::default();
    let mut seen = HashSet::new();
    let mut folders: Vec<PathBuf> = roots.iter().rev().cloned().collect();
    while let Some(folder) = folders.pop() {
        for name in listing(&folder)? {
            let path = folder.join(name);
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.is_dir() {
                folders.push(path);
            } else if seen.insert(found.ino()) {
                bytes.footprint += found.len().next_multiple_of(4096);
                bytes.pages += found.blocks() * 512;
            }
        }
    }
    Ok(bytes)
}

fn listing(folder: &Path) -> Result<Vec<String>, String> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// A word of the ledger page, read as a file (`docs/design/object.md`).
fn ledger_word(store: &Path, index: usize) -> Result<u64, String> {
    let page = fs::read(store.join("ledger")).map_err(|error| error.to_string())?;
    let word = page.get(index * 8..).and_then(|rest| rest.first_chunk()).ok_or("the ledger is short")?;
    Ok(u64::from_le_bytes(*word))
}
