//! Making room: warm segments first, then what has expired, then the least recently used, which goes where a bucket has a
//! copy of it, else to the spill disk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use airfreight_core::{ObjectName, chain};
use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::{Result, StoreError};
use crate::ledger::LedgerLock;
use crate::remove::Pages;
use crate::scan::Found;
use crate::store::Inner;
use crate::tier::{OURS, TierKind, now_ns};

/// How long a put waits for others who are making room; moving gigabytes to a slow disk takes a while.
const ROOM_WAIT_MAX: Duration = Duration::from_mins(5);
/// How often room is made for one put before others who take it away win.
const ROUNDS_MAX: u32 = 64;
/// A bit more than needed is freed, so that not every put of a full store scans it: this part of the limit.
const HEADROOM_DIVISOR: u64 = 20;

impl Inner {
    /// Counts `bytes` as used in a tier, making room where there is none. The file must be made under the lock that
    /// this returns, so that a count sees both or neither.
    pub(crate) fn reserve(&self, kind: TierKind, bytes: u64) -> Result<LedgerLock> {
        let limit = self.limit(kind);
        let began = Instant::now();
        let mut rounds = 0;
        loop {
            let lock = self.ledger.change(&self.memory)?;
            if self.counter(kind).try_add(bytes, limit) {
                return Ok(lock);
            }
            drop(lock);
            if bytes > limit {
                return Err(self.full(bytes, &Held::default(), "the object is larger than that may ever get"));
            }
            if rounds == ROUNDS_MAX || began.elapsed() > ROOM_WAIT_MAX {
                return Err(self.full(bytes, &Held::default(), "others take what is freed"));
            }
            match self.evict_lock()? {
                Some(_lock) => {
                    rounds += 1;
                    match kind {
                        TierKind::Spill => self.make_spill_room(bytes)?,
                        TierKind::Memory | TierKind::Disk => self.make_room(bytes)?,
                    }
                }
                // Somebody else makes room, perhaps enough for both.
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// One process at a time makes room; the lock dies with it.
    fn evict_lock(&self) -> Result<Option<OwnedFd>> {
        let path = || self.memory.path.join("evict");
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.memory.root, c"evict", flags, OURS).map_err(self.memory.io("open", path()))?;
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(fd)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(errno) => Err(StoreError::io("lock", path())(errno)),
        }
    }

    fn make_room(&self, bytes: u64) -> Result<()> {
        let capacity = self.limits.capacity_bytes;
        let lock = self.ledger.count(&self.memory)?;
        let counted = self.recount(&lock)?;
        crash_point("evict.scanned");
        let missing = |extra: u64| (self.ledger.used().get() + bytes + extra).saturating_sub(capacity);
        if missing(0) > 0 {
            self.drop_warm(missing(0))?;
            crash_point("evict.warm");
        }
        drop(lock);
        if missing(0) == 0 {
            return Ok(());
        }

        let headroom = (capacity / HEADROOM_DIVISOR).min(capacity.saturating_sub(bytes));
        let mut victims = by_inode(counted.objects);
        victims.sort_by_key(|victim| victim.used_ns);
        let mut held = Held::default();
        let mut obstacle = None;
        for victim in victims {
            if missing(headroom) == 0 {
                return Ok(());
            }
            if self.is_expired(victim.used_ns, now_ns()) {
                for &name in &victim.names {
                    self.remove_from_memory(name, Pages::Free)?;
                }
                continue;
            }
            let left = if self.are_copied(&victim.names) {
                self.evict(&victim, Pages::Free)
            } else if obstacle.is_some() {
                // Nothing can be spilled any more; what is held is still worth telling.
                held.note_if_pinned(self, &victim);
                continue;
            } else {
                self.spill_out(&victim, Pages::Free)
            };
            match left {
                Ok(false) => held.add(&victim),
                // What is damaged or foreign stays where it is; the others can still go.
                Ok(true) | Err(StoreError::Corrupt { .. } | StoreError::Foreign { .. }) => {}
                Err(error) => {
                    held.note_if_pinned(self, &victim);
                    obstacle = Some(chain(&error));
                }
            }
        }
        if missing(0) == 0 {
            return Ok(());
        }
        let obstacle = obstacle.unwrap_or_else(|| "everything that nobody holds was moved".into());
        Err(self.full(bytes, &held, &obstacle))
    }

    /// Makes room ahead of time, out of what `is_wanted` takes.
    pub(crate) fn move_out(&self, bytes: u64, mut is_wanted: impl FnMut(&[ObjectName]) -> bool) -> Result<Moved> {
        let mut moved = Moved::default();
        let Some(_lock) = self.evict_lock()? else { return Ok(moved) };
        let mut victims = by_inode(crate::scan::scan(&self.memory, &mut HashSet::new())?);
        victims.sort_by_key(|victim| victim.used_ns);
        for victim in victims {
            if moved.bytes() >= bytes {
                break;
            }
            if !is_wanted(&victim.names) {
                continue;
            }
            if self.is_expired(victim.used_ns, now_ns()) {
                for &name in &victim.names {
                    self.remove_from_memory(name, Pages::Recycle)?;
                }
                continue;
            }
            let is_copied = self.are_copied(&victim.names);
            let left =
                if is_copied { self.evict(&victim, Pages::Recycle) } else { self.spill_out(&victim, Pages::Recycle) };
            match left {
                Ok(true) if is_copied => {
                    moved.evicted += 1;
                    moved.evicted_bytes += victim.bytes;
                }
                Ok(true) => {
                    moved.spilled += 1;
                    moved.spilled_bytes += victim.bytes;
                }
                Ok(false) => moved.held_bytes += victim.bytes,
                Err(StoreError::Corrupt { .. } | StoreError::Foreign { .. }) => {}
                // What has a copy elsewhere can still go.
                Err(error) => moved.obstacle = moved.obstacle.or_else(|| Some(chain(&error))),
            }
            crash_point("evict.moved");
        }
        Ok(moved)
    }

    /// Removes an object that has a copy elsewhere. `false` when a reader holds it, so that this would free nothing.
    fn evict(&self, victim: &Victim, pages: Pages) -> Result<bool> {
        if victim.names.first().is_some_and(|&name| self.is_pinned(name)) {
            return Ok(false);
        }
        for &name in &victim.names {
            self.remove_from_memory(name, pages)?;
            crash_point("evict.dropped");
        }
        Ok(true)
    }

    fn make_spill_room(&self, bytes: u64) -> Result<()> {
        let lock = self.ledger.count(&self.memory)?;
        let counted = self.recount(&lock)?;
        drop(lock);
        let limit = self.limit(TierKind::Spill);
        let now = now_ns();
        for found in counted.spilled.iter().filter(|found| self.is_expired(found.used_ns, now)) {
            self.remove_expired(TierKind::Spill, found.name)?;
        }
        let missing = || (self.ledger.spilled().get() + bytes).saturating_sub(limit);
        if missing() > 0
            && let Some(spill) = self.spill_if_any()
        {
            let mut victims = by_inode(counted.spilled);
            victims.sort_by_key(|victim| victim.used_ns);
            for victim in victims.iter().filter(|victim| self.are_copied(&victim.names)) {
                if missing() == 0 {
                    break;
                }
                for &name in &victim.names {
                    self.remove_from_spill(spill, name)?;
                }
            }
        }
        if missing() == 0 {
            return Ok(());
        }
        Err(self.full(bytes, &Held::default(), "it is full, too"))
    }

    pub(crate) fn is_expired(&self, used_ns: i64, now_ns: i64) -> bool {
        used_ns.saturating_add(self.ttl_seconds().saturating_mul(1_000_000_000)) <= now_ns
    }

    fn limit(&self, kind: TierKind) -> u64 {
        match kind {
            TierKind::Spill => self.spill_capacity_bytes(),
            TierKind::Memory | TierKind::Disk => self.limits.capacity_bytes,
        }
    }

    fn full(&self, bytes: u64, held: &Held, obstacle: &str) -> StoreError {
        let spill = match self.spill() {
            Err(reason) => reason,
            Ok(spill) => format!(
                "{obstacle} (`{}` holds {} of {} bytes)",
                spill.path.display(),
                self.ledger.spilled().get(),
                self.limit(TierKind::Spill)
            ),
        };
        StoreError::Full {
            store: self.memory.path.clone(),
            needed_bytes: bytes,
            used_bytes: self.ledger.used().get(),
            capacity_bytes: self.limits.capacity_bytes,
            pinned_bytes: held.bytes,
            holders: holders(&held.inodes),
            spill,
        }
    }
}

/// What was moved out of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// Objects that went to the spill disk.
    pub spilled: u64,
    /// What they took.
    pub spilled_bytes: u64,
    /// Objects that went because a bucket has a copy of them.
    pub evicted: u64,
    /// What they took.
    pub evicted_bytes: u64,
    /// What stayed because readers hold it.
    pub held_bytes: u64,
    /// Why something could not go.
    pub obstacle: Option<String>,
}

impl Moved {
    /// What memory was given back.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.spilled_bytes + self.evicted_bytes
    }
}

/// One file of the store with all its names.
pub(crate) struct Victim {
    pub(crate) names: Vec<ObjectName>,
    pub(crate) bytes: u64,
    pub(crate) inode: u64,
    pub(crate) used_ns: i64,
}

fn by_inode(objects: Vec<Found>) -> Vec<Victim> {
    let mut victims: HashMap<u64, Victim> = HashMap::with_capacity(objects.len());
    for found in objects {
        let victim = victims.entry(found.inode).or_insert_with(|| Victim {
            names: Vec::new(),
            bytes: 0,
            inode: found.inode,
            used_ns: found.used_ns,
        });
        victim.names.push(found.name);
        victim.bytes += found.bytes;
    }
    victims.into_values().collect()
}

/// What readers keep from being moved.
#[derive(Default)]
struct Held {
    bytes: u64,
    inodes: BTreeSet<u64>,
}

impl Held {
    fn add(&mut self, victim: &Victim) {
        self.bytes += victim.bytes;
        self.inodes.insert(victim.inode);
    }

    fn note_if_pinned(&mut self, store: &Inner, victim: &Victim) {
        if victim.names.first().is_some_and(|&name| store.is_pinned(name)) {
            self.add(victim);
        }
    }
}

/// The processes that hold these files, from the kernel's table of locks, which other containers don't appear in.
fn holders(inodes: &BTreeSet<u64>) -> String {
    const NAMED_MAX: usize = 5;
    let Ok(locks) = fs_err::read_to_string("/proc/locks") else { return String::new() };
    let pids: BTreeSet<i64> = locks
        .lines()
        .filter_map(|line| {
            // "1: FLOCK  ADVISORY  READ 1234 00:1a:5678 0 EOF"
            let mut fields = line.split_whitespace().skip_while(|field| *field != "FLOCK").skip(3);
            let pid = fields.next()?.parse().ok()?;
            let inode = fields.next()?.rsplit(':').next()?.parse().ok()?;
            inodes.contains(&inode).then_some(pid)
        })
        .filter(|&pid| pid > 0)
        .collect();
    if pids.is_empty() {
        return String::new();
    }
    let more = if pids.len() > NAMED_MAX { ", …" } else { "" };
    let pids: Vec<String> = pids.iter().take(NAMED_MAX).map(i64::to_string).collect();
    format!(" (processes {}{more})", pids.join(", "))
}

impl Inner {
    /// Whether a reader holds an object. Asks for its exclusive lock for a moment; readers wait that long.
    pub(crate) fn is_pinned(&self, name: ObjectName) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME | OFlags::NONBLOCK;
        fs::openat(&self.memory.objects, name.to_string(), flags, Mode::empty())
            .is_ok_and(|fd| fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK))
    }
}
