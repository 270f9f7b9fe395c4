//! What the store holds, in the order in which it is listed: read once, then kept up with what has changed.
//!
//! The directory stays the truth. Before each page its time of change is looked at, and names are listed again only
//! when it has moved; each object is described once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airfreight_core::ObjectName;
use airfreight_store::{Stamp, Store, StoreError, TierKind};
use serde::Deserialize;

/// Looking again is free where it takes no longer than this. In larger stores ...
const FREE: Duration = Duration::from_millis(20);
/// ... it takes at most a twentieth of the time, however fast they change, ...
const REST_FACTOR: u32 = 20;
/// ... unless what is known would be older than this.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Fewer objects than this are described sooner than a thread is started.
const SHARE_MIN: usize = 256;

/// The task instance that an object's metadata names.
#[derive(Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[expect(clippy::struct_field_names, reason = "as the metadata has them")]
pub(crate) struct Task {
    pub(crate) dag_id: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) task_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    owner: Task,
}

/// Which objects are wanted.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) dag_id: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) task_id: Option<String>,
    pub(crate) tier: Option<TierKind>,
}

/// A place in the order: the newest first, then by name.
pub(crate) type Place = (Reverse<i64>, ObjectName);

struct Entry {
    created_ns: i64,
    file_bytes: u64,
    tier: TierKind,
    /// The last count in which it was there.
    seen: u64,
}

/// What some objects come to; names of the same bytes count once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    /// The part of them that is on the spill disk.
    pub(crate) spilled_bytes: u64,
    pub(crate) newest_ns: i64,
}

impl Sum {
    pub(crate) fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.spilled_bytes += other.spilled_bytes;
        self.newest_ns = self.newest_ns.max(other.newest_ns);
    }
}

/// A DAG run with what the store holds of it; empty names for objects that name none.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "Airflow's words")]
pub(crate) struct Run {
    pub(crate) dag_id: String,
    pub(crate) run_id: String,
    pub(crate) sum: Sum,
}

/// The objects of a store, as of a moment.
pub(crate) struct Index {
    store: Store,
    entries: HashMap<ObjectName, Entry>,
    order: BTreeMap<Place, Arc<Task>>,
    tasks: HashSet<Arc<Task>>,
    /// Names that can't be described; they are looked at again with each count.
    damaged: usize,
    count: u64,
    stamp: Option<Stamp>,
    counted_at: Instant,
    counting_took: Duration,
}

impl Index {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            tasks: HashSet::new(),
            damaged: 0,
            count: 0,
            stamp: None,
            counted_at: Instant::now(),
            counting_took: Duration::ZERO,
        }
    }

    /// At most `limit` objects after a place in the order, and whether more follow.
    pub(crate) fn page(
        &mut self,
        filter: &Filter,
        after: Option<Place>,
        limit: usize,
    ) -> Result<(Vec<Place>, bool), StoreError> {
        self.refresh()?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = self
            .order
            .range((start, Bound::Unbounded))
            .filter(|(place, task)| self.is_wanted(filter, place, task))
            .map(|(place, _)| *place);
        let page = found.by_ref().take(limit).collect();
        Ok((page, found.next().is_some()))
    }

    /// How many objects each tier has, and how many names can't be described.
    pub(crate) fn counts(&mut self) -> Result<(BTreeMap<&'static str, u64>, usize), StoreError> {
        self.refresh()?;
        let mut counts = BTreeMap::from([(self.store.kind().as_str(), 0), (TierKind::Spill.as_str(), 0)]);
        for entry in self.entries.values() {
            *counts.entry(entry.tier.as_str()).or_default() += 1;
        }
        Ok((counts, self.damaged))
    }

    /// The runs that the store holds something of, in no order; those of one DAG, or all.
    pub(crate) fn runs(&mut self, dag_id: Option<&str>) -> Result<Vec<Run>, StoreError> {
        self.refresh()?;
        let mut counted = HashSet::new();
        let mut sums: HashMap<(&str, &str), Sum> = HashMap::new();
        for ((Reverse(newest_ns), name), task) in &self.order {
            let of = (task.dag_id.as_deref().unwrap_or_default(), task.run_id.as_deref().unwrap_or_default());
            let Some(entry) = self.entries.get(name).filter(|_| dag_id.is_none_or(|wanted| wanted == of.0)) else {
                continue;
            };
            let is_first = counted.insert(name.id());
            let bytes = if is_first { entry.file_bytes } else { 0 };
            sums.entry(of).or_default().add(Sum {
                objects: u64::from(is_first),
                bytes,
                spilled_bytes: if entry.tier == TierKind::Spill { bytes } else { 0 },
                newest_ns: *newest_ns,
            });
        }
        let run =
            |((dag_id, run_id), sum): ((&str, &str), Sum)| Run { dag_id: dag_id.into(), run_id: run_id.into(), sum };
        Ok(sums.into_iter().map(run).collect())
    }

    /// The names of a DAG's objects that are not on the spill disk.
    pub(crate) fn in_memory_of(&mut self, dag_id: &str) -> Result<HashSet<ObjectName>, StoreError> {
        self.refresh()?;
        let is_there = |name: &ObjectName| self.entries.get(name).is_some_and(|entry| entry.tier != TierKind::Spill);
        let of_dag = self.order.iter().filter(|(_, task)| task.dag_id.as_deref() == Some(dag_id));
        Ok(of_dag.map(|((_, name), _)| *name).filter(is_there).collect())
    }

    fn is_wanted(&self, filter: &Filter, place: &Place, task: &Task) -> bool {
        // Who asks for an empty name wants what has none.
        let is = |wanted: &Option<String>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| wanted == found.as_deref().unwrap_or_default())
        };
        is(&filter.dag_id, &task.dag_id)
            && is(&filter.run_id, &task.run_id)
            && is(&filter.task_id, &task.task_id)
            && filter.tier.is_none_or(|tier| self.entries.get(&place.1).is_some_and(|entry| entry.tier == tier))
    }

    fn refresh(&mut self) -> Result<(), StoreError> {
        let stamp = self.store.stamp()?;
        let is_free = self.counting_took <= FREE;
        let rest = if is_free { Duration::ZERO } else { (self.counting_took * REST_FACTOR).min(AGE_MAX) };
        if let Some(before) = &self.stamp
            && (stamp.is_unchanged_since(before) || self.counted_at.elapsed() < rest)
        {
            return Ok(());
        }
        let began = Instant::now();
        self.count += 1;
        self.damaged = 0;
        let mut seen = 0;
        let mut new = Vec::new();
        for (name, tier) in self.store.names_by_tier()? {
            if let Some(entry) = self.entries.get_mut(&name) {
                if entry.seen != self.count {
                    (entry.seen, entry.tier) = (self.count, tier);
                    seen += 1;
                }
                continue;
            }
            new.push((name, tier));
        }
        let learned = learn_all(&self.store, &new);
        for ((name, tier), learned) in new.into_iter().zip(learned) {
            // One that is being spilled is listed twice.
            if !self.entries.contains_key(&name) {
                seen += usize::from(self.add(name, tier, learned));
            }
        }
        if seen < self.entries.len() {
            let (count, order) = (self.count, &mut self.order);
            self.entries.retain(|name, entry| {
                let stays = entry.seen == count;
                if !stays {
                    order.remove(&(Reverse(entry.created_ns), *name));
                }
                stays
            });
            self.tasks.retain(|task| Arc::strong_count(task) > 1);
        }
        (self.stamp, self.counted_at, self.counting_took) = (Some(stamp), Instant::now(), began.elapsed());
        Ok(())
    }

    /// Takes up what was learned of a name; `false` when there is nothing to list.
    fn add(&mut self, name: ObjectName, tier: TierKind, learned: Learned) -> bool {
        let Learned::Known { created_ns, file_bytes, owner } = learned else {
            self.damaged += usize::from(matches!(learned, Learned::Damaged));
            return false;
        };
        let task = self.tasks.get(&owner).map_or_else(|| Arc::new(owner), Arc::clone);
        self.tasks.insert(Arc::clone(&task));
        self.order.insert((Reverse(created_ns), name), task);
        self.entries.insert(name, Entry { created_ns, file_bytes, tier, seen: self.count });
        true
    }
}

/// What an object says of itself.
enum Learned {
    Known {
        created_ns: i64,
        file_bytes: u64,
        owner: Task,
    },
    /// It went between the listing and now.
    Gone,
    Damaged,
}

fn learn(store: &Store, name: ObjectName) -> Learned {
    match store.describe(name) {
        Ok(description) => {
            let metadata: Metadata = serde_json::from_str(&description.metadata).unwrap_or_default();
            let (created_ns, file_bytes) = (description.created_ns, description.file_bytes);
            Learned::Known { created_ns, file_bytes, owner: metadata.owner }
        }
        Err(StoreError::NotFound { .. }) => Learned::Gone,
        Err(_) => Learned::Damaged,
    }
}

/// Reads what many objects say of themselves, by as many threads as there are processors: a large store's first count is
/// all system calls.
fn learn_all(store: &Store, names: &[(ObjectName, TierKind)]) -> Vec<Learned> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(names.len() / SHARE_MIN).max(1);
    let learn_some = |share: &[(ObjectName, TierKind)]| -> Vec<Learned> {
        share.iter().map(|(name, _)| learn(store, *name)).collect()
    };
    if threads == 1 {
        return learn_some(names);
    }
    std::thread::scope(|scope| {
        let shares: Vec<_> = names
            .chunks(names.len().div_ceil(threads))
            .map(|share| (share.len(), scope.spawn(move || learn_some(share))))
            .collect();
        // One answer for each name, whatever became of a thread.
        let all = shares.into_iter().map(|(len, share)| {
            share.join().unwrap_or_else(|_| std::iter::repeat_with(|| Learned::Damaged).take(len).collect())
        });
        all.flatten().collect()
    })
}
