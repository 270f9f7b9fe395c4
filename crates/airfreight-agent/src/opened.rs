//! Objects that stay open between the requests for their parts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use airfreight_core::ObjectName;
use airfreight_store::{Access, Object, Store, StoreError, TierKind};

use crate::routes::Shared;

/// Shorter objects in memory are asked for once.
const KEPT_BYTES_MIN: usize = 4 << 20;

/// Why an object is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Keeping {
    /// To enter a large object's pages and leave them again takes the agent a fifth of the time in which it sends them,
    /// and leaving can wait until the last part is sent. Not for longer: the segment of an object that is deleted while
    /// it is open is lost for the next one, and what is open can't make room for others.
    InMemory,
    /// Opening an object on a disk reads all of it.
    OnDisk,
}

impl Keeping {
    fn of(object: &Object) -> Option<Self> {
        match object.kind() {
            TierKind::Memory => (object.len() > KEPT_BYTES_MIN).then_some(Self::InMemory),
            TierKind::Disk | TierKind::Spill => Some(Self::OnDisk),
        }
    }

    /// For how long nobody must have asked for it.
    fn patience(self) -> Duration {
        match self {
            Self::InMemory => Duration::from_millis(10),
            Self::OnDisk => Duration::from_secs(10),
        }
    }
}

/// Objects that are asked for in parts, or were a moment ago.
#[derive(Default)]
pub(crate) struct Opened(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    objects: HashMap<ObjectName, Entry>,
    /// For which of them somebody will see to it that they are forgotten in time.
    watched: HashSet<Keeping>,
}

struct Entry {
    object: Arc<Object>,
    keeping: Keeping,
    used_at: Instant,
}

impl Opened {
    /// Opens an object; where it is kept for the next request, [`Self::forget_later`] must follow.
    pub(crate) fn open(&self, store: &Store, name: ObjectName) -> Result<(Arc<Object>, Option<Keeping>), StoreError> {
        if let Some(entry) = self.kept().objects.get_mut(&name)
            && store.contains(name)
        {
            entry.used_at = Instant::now();
            return Ok((Arc::clone(&entry.object), Some(entry.keeping)));
        }
        let object = Arc::new(store.get(name, Access::ReadOnly)?);
        let keeping = Keeping::of(&object);
        if let Some(keeping) = keeping {
            let entry = Entry { object: Arc::clone(&object), keeping, used_at: Instant::now() };
            self.kept().objects.insert(name, entry);
        }
        Ok((object, keeping))
    }

    /// Closes it once those who read it have what they asked for.
    pub(crate) fn forget(&self, name: ObjectName) {
        self.kept().objects.remove(&name);
    }

    /// Sees to it that what is kept is forgotten in time; nothing runs while nothing is kept.
    pub(crate) fn forget_later(shared: &Arc<Shared>, keeping: Keeping) {
        if !shared.opened.kept().watched.insert(keeping) {
            return;
        }
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let mut is_any_left = true;
            while is_any_left {
                tokio::time::sleep(keeping.patience() / 2).await;
                let unused;
                (unused, is_any_left) = shared.opened.unused(keeping);
                // Nobody waits for it.
                let _ = tokio::task::spawn_blocking(move || drop(unused)).await;
            }
        });
    }

    /// Takes out what nobody reads nor has asked for lately; the second value tells whether anything is left.
    fn unused(&self, keeping: Keeping) -> (Vec<Entry>, bool) {
        let mut kept = self.kept();
        let unused = kept.objects.extract_if(|_, entry| {
            let is_read = Arc::strong_count(&entry.object) > 1;
            entry.keeping == keeping && !is_read && entry.used_at.elapsed() >= keeping.patience()
        });
        let unused = unused.map(|(_, entry)| entry).collect();
        let is_any_left = kept.objects.values().any(|entry| entry.keeping == keeping);
        if !is_any_left {
            kept.watched.remove(&keeping);
        }
        (unused, is_any_left)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
