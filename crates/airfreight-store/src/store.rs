//! The store: one directory of objects, opened by whoever needs it, kept in order by whoever uses it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use airfreight_core::ObjectName;
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::arrival::Turn;
use crate::error::{Result, StoreError};
use crate::file::ObjectFile;
use crate::ledger::{Counter, Ledger};
use crate::location::{Location, available_bytes, default_spill_path, huge_pages, is_tmpfs, total_bytes};
use crate::read::{Description, Object};
use crate::receive::Receiver;
use crate::room::Moved;
use crate::spill::open_folder;
use crate::sweep::Collected;
use crate::sys::Access;
use crate::tier::{OURS, Tier, TierKind, entries, now_ns, open_root, private_subdir, random};
use crate::write::Writer;

/// How long an object lives after its last use, unless set otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_hours(7 * 24);
/// A store smaller than this can't hold anything worth storing.
pub const CAPACITY_BYTES_MIN: u64 = 1 << 20;
/// Coarser than any file system's clock.
const CLOCK_GRAIN_NS: i64 = 50_000_000;

/// How a store is opened. Everything has a default.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The store's directory; by default [`Location::find`]'s.
    pub path: Option<PathBuf>,
    /// The most that objects and warm segments may take; by default half of the file system (of what is free there,
    /// on a disk).
    pub capacity_bytes: Option<u64>,
    /// Where objects go when the store is over its limit; by default [`default_spill_path`].
    pub spill_path: Option<PathBuf>,
    /// The most that spilled objects may take; 0 turns spilling off; by default half of what is free there.
    pub spill_capacity_bytes: Option<u64>,
    /// The most that warm segments may take; by default a quarter of the capacity.
    pub pool_bytes: Option<u64>,
    /// How long an object lives after its last use; by default [`DEFAULT_TTL`].
    pub ttl: Option<Duration>,
    /// Refuse to make a store that isn't there.
    pub must_exist: bool,
}

/// Objects on this host.
///
/// Clones are cheap and share everything. A store may be used by many threads at once, and one that was opened before
/// `fork()` works in both processes: it holds directories and one page of counters, and takes every lock anew.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) id: String,
    pub(crate) memory: Tier,
    pub(crate) warm: Option<OwnedFd>,
    pub(crate) ledger: Ledger,
    pub(crate) limits: Limits,
    spill: OnceLock<Tier>,
    spill_capacity: OnceLock<u64>,
    notice: Option<String>,
}

pub(crate) struct Limits {
    pub(crate) capacity_bytes: u64,
    pub(crate) pool_bytes: u64,
    pub(crate) spill_path: PathBuf,
    spill_capacity_bytes: Option<u64>,
    ttl: Duration,
}

/// What a store holds, counted.
#[derive(Debug, Clone)]
pub struct Stat {
    /// Objects in memory (names of the same bytes count once).
    pub objects: u64,
    /// Bytes that objects, unfinished files and warm segments take.
    pub used_bytes: u64,
    /// Bytes of warm segments, part of `used_bytes`.
    pub warm_bytes: u64,
    /// The store's limit.
    pub capacity_bytes: u64,
    /// The most that warm segments may take.
    pub pool_bytes: u64,
    /// Objects that readers hold.
    pub pinned: u64,
    /// Objects on the spill disk.
    pub spilled_objects: u64,
    /// Bytes on the spill disk.
    pub spilled_bytes: u64,
    /// The spill disk's limit; 0 when spilling is off.
    pub spill_capacity_bytes: u64,
    /// Temporary files of writers, alive or dead.
    pub unfinished: u64,
    /// The mount's `huge=` option.
    pub huge_pages: Option<String>,
}

/// What a store takes, as its ledger knows: exact but for what processes had begun when they were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that objects, unfinished files and warm segments take.
    pub used_bytes: u64,
    /// Bytes of warm segments, part of `used_bytes`.
    pub warm_bytes: u64,
    /// The store's limit.
    pub capacity_bytes: u64,
    /// Bytes on the spill disk.
    pub spilled_bytes: u64,
    /// The spill disk's limit; 0 when spilling is off.
    pub spill_capacity_bytes: u64,
}

/// When names last came or went.
#[derive(Debug, Clone)]
pub struct Stamp {
    changed_ns: Vec<i64>,
    taken_ns: i64,
}

impl Stamp {
    /// Whether nothing has changed between the two. A clock ticks every few milliseconds, so what happened just before
    /// the earlier one was taken proves nothing.
    #[must_use]
    pub fn is_unchanged_since(&self, earlier: &Self) -> bool {
        let settled = earlier.changed_ns.iter().all(|&changed| earlier.taken_ns - changed > CLOCK_GRAIN_NS);
        settled && self.changed_ns == earlier.changed_ns
    }
}

impl Store {
    /// Opens the store, making it where there is none. Starts nothing; takes well under a millisecond.
    ///
    /// # Errors
    /// - [`StoreError::Foreign`]: the directory belongs to another user or is open to others.
    /// - [`StoreError::Missing`]: it isn't there and [`Options::must_exist`] is set.
    /// - [`StoreError::Options`]: a limit makes no sense.
    /// - [`StoreError::Io`]: the system refused.
    pub fn open(options: &Options) -> Result<Self> {
        let Location { path, notice } = match &options.path {
            Some(path) => Location { path: path.clone(), notice: None },
            None => Location::find(),
        };
        let path = std::path::absolute(&path).map_err(|source| StoreError::Io { action: "find", path, source })?;
        let root = open_root(&path, !options.must_exist)?;
        let stat = fs::fstatfs(&root).map_err(StoreError::io("examine", &path))?;
        let kind = if is_tmpfs(&stat) { TierKind::Memory } else { TierKind::Disk };
        let notice = notice.or_else(|| {
            (kind == TierKind::Disk).then(|| {
                format!("values are kept on disk because `{}` is not in shared memory (tmpfs)", path.display())
            })
        });
        let half = match kind {
            TierKind::Memory => total_bytes(&stat) / 2,
            TierKind::Disk | TierKind::Spill => available_bytes(&stat) / 2,
        };
        let limits = Limits::new(options, half)?;
        let (id, made) = store_id(&root, &path, options.must_exist)?;
        let memory = Tier::open(kind, path, root)?;
        let warm = (limits.pool_bytes > 0).then(|| private_subdir(&memory.root, &memory.path, c"warm")).transpose()?;
        let (ledger, ignorant) = Ledger::open(&memory)?;
        let inner =
            Inner { id, memory, warm, ledger, limits, spill: OnceLock::new(), spill_capacity: OnceLock::new(), notice };
        if made {
            // After a reboot the former store's spilled objects are nobody's.
            let _ = inner.remove_orphans();
        } else if ignorant {
            let lock = inner.ledger.count(&inner.memory)?;
            inner.recount(&lock)?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.memory.path
    }

    /// Random, made with the directory: an object is local when its reference names this id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// [`TierKind::Memory`] on tmpfs, else [`TierKind::Disk`].
    #[must_use]
    pub fn kind(&self) -> TierKind {
        self.inner.memory.kind
    }

    /// Why the store is not in shared memory and how to get there; `None` where it is.
    #[must_use]
    pub fn notice(&self) -> Option<&str> {
        self.inner.notice.as_deref()
    }

    /// Where objects are spilled to.
    #[must_use]
    pub fn spill_path(&self) -> &Path {
        &self.inner.limits.spill_path
    }

    /// How long an object lives after its last use, where nobody said otherwise of it.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.inner.limits.ttl
    }

    /// Begins an object.
    ///
    /// # Errors
    /// [`StoreError::Internal`] when the kernel gives no random numbers.
    pub fn create(&self) -> Result<Writer> {
        Writer::new(Arc::clone(&self.inner))
    }

    /// Begins an object whose file arrives from elsewhere: `file_bytes` of it, to be called `name`. Room for all of it
    /// is reserved now, so that nothing is sent for which there is none.
    ///
    /// # Errors
    /// - [`StoreError::Full`]: no room in memory nor on the spill disk.
    /// - [`StoreError::Damaged`]: no object is as short as that.
    /// - [`StoreError::Removed`], [`StoreError::Io`]: the directory or the system refused.
    pub fn receive(&self, name: ObjectName, file_bytes: u64) -> Result<Receiver> {
        Receiver::new(Arc::clone(&self.inner), name, file_bytes)
    }

    /// Opens a sealed object's file for reading its bytes as they are, header and footer included. It counts as use.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn file(&self, name: ObjectName) -> Result<ObjectFile> {
        self.inner.file(name)
    }

    /// Opens a sealed object and pins it for as long as the returned [`Object`] lives.
    ///
    /// Up to 72 KiB it is read and checked; a longer one costs one open, one lock and one `mmap`, whatever its size, and
    /// no payload byte is copied. A spilled object is checked against its checksum, which reads it once.
    ///
    /// # Errors
    /// - [`StoreError::NotFound`]: not in this store. The reference knows the other places.
    /// - [`StoreError::Foreign`]: the file has another owner or mode; it is not read.
    /// - [`StoreError::Corrupt`]: header, footer or payload don't match their checksums, or the file is cut.
    /// - [`StoreError::Removed`]: the directory went away.
    ///
    /// # Source
    /// Create, seal, get, release follow Ray's plasma; the lock that dies with its holder follows iceoryx2's monitoring
    /// by locked files. Layout: `docs/design/object.md`.
    pub fn get(&self, name: ObjectName, access: Access) -> Result<Object> {
        self.inner.get(name, access)
    }

    /// Tells what is known of an object without reading its payload and without counting as use.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn describe(&self, name: ObjectName) -> Result<Description> {
        self.inner.describe(name)
    }

    /// Whether the store has a name, in any tier.
    #[must_use]
    pub fn contains(&self, name: ObjectName) -> bool {
        self.inner.has(name)
    }

    /// Removes a name in every tier. Readers keep what they hold. `false` when nobody had it.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Removed`].
    pub fn delete(&self, name: ObjectName) -> Result<bool> {
        self.inner.delete(name)
    }

    /// Lets a name lapse after `in_seconds` unless it is used before; a further link goes at once. `false` when
    /// nobody had it.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub fn expire(&self, name: ObjectName, in_seconds: f64) -> Result<bool> {
        self.inner.expire(name, in_seconds)
    }

    /// Gives the same bytes a further name with a life of its own. Nothing is copied.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and as [`Self::delete`].
    pub fn link(&self, name: ObjectName) -> Result<ObjectName> {
        self.inner.link(name)
    }

    /// Every name in every tier.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a directory can't be listed.
    pub fn names(&self) -> Result<Vec<ObjectName>> {
        let mut names: Vec<_> = self.names_by_tier()?.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Every name with the tier that it is in, in no order; one that is being spilled may come twice.
    ///
    /// # Errors
    /// As [`Self::names`].
    pub fn names_by_tier(&self) -> Result<Vec<(ObjectName, TierKind)>> {
        use std::os::fd::AsFd;
        let mut names = Vec::new();
        for tier in self.inner.tiers() {
            let files = entries(tier.objects.as_fd(), &tier.path)?;
            names.extend(files.iter().filter_map(|file| Some((file.parse::<ObjectName>().ok()?, tier.kind))));
        }
        Ok(names)
    }

    /// When names last came or went in any tier, for who keeps what it has listed. Costs a microsecond.
    ///
    /// # Errors
    /// [`StoreError::Removed`] and [`StoreError::Io`].
    pub fn stamp(&self) -> Result<Stamp> {
        if self.inner.memory.is_removed() {
            return Err(StoreError::Removed { path: self.inner.memory.path.clone() });
        }
        let changed = |tier: &Tier| {
            let stat = fs::fstat(&tier.objects).map_err(tier.io("examine", tier.path.join("objects")))?;
            let nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
            Ok(stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nsec))
        };
        let taken_ns = now_ns();
        Ok(Stamp { changed_ns: self.inner.tiers().map(changed).collect::<Result<_>>()?, taken_ns })
    }

    /// What the store takes, from its ledger: nothing is scanned.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let inner = &self.inner;
        Usage {
            used_bytes: inner.ledger.used().get(),
            warm_bytes: inner.ledger.warm().get(),
            capacity_bytes: inner.limits.capacity_bytes,
            spilled_bytes: if inner.spill_if_any().is_some() { inner.ledger.spilled().get() } else { 0 },
            spill_capacity_bytes: inner.spill_capacity_bytes(),
        }
    }

    /// Makes room before a put needs it: moves what `is_wanted` takes out of memory, the least recently used first, until
    /// that has given back `bytes` at least. What has a copy in a bucket ([`Self::note_copy`]) goes, what has none goes
    /// to the spill disk; what a reader holds stays. Pages are kept as warm segments where there is room for those.
    ///
    /// `is_wanted` is given all names of an object. Nothing is moved while another process makes room.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Removed`]. That nothing more can be moved is no error: [`Moved::obstacle`].
    pub fn move_out(&self, bytes: u64, is_wanted: impl FnMut(&[ObjectName]) -> bool) -> Result<Moved> {
        self.inner.move_out(bytes, is_wanted)
    }

    /// Notes that a bucket has a copy of an object, which may go without another one from then on. `false` when the
    /// store has no such object.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Removed`].
    pub fn note_copy(&self, name: ObjectName) -> Result<bool> {
        self.inner.note_copy(name)
    }

    /// Takes back [`Self::note_copy`]; `false` when nothing was noted.
    ///
    /// # Errors
    /// As [`Self::note_copy`].
    pub fn forget_copy(&self, name: ObjectName) -> Result<bool> {
        self.inner.forget_copy(name)
    }

    /// Whether a copy of an object was noted.
    #[must_use]
    pub fn has_copy(&self, name: ObjectName) -> bool {
        self.inner.are_copied(&[name])
    }

    /// Takes the turn to fetch an object from elsewhere; `None` while another process, or thread, has it. Who gets none
    /// asks again, and looks whether the object has come.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Removed`].
    pub fn take_turn(&self, name: ObjectName) -> Result<Option<Turn>> {
        Turn::take(&self.inner, name)
    }

    /// For how long whoever has the turn to fetch an object has not got on; `None` when nobody has it.
    #[must_use]
    pub fn turn_silence(&self, name: ObjectName) -> Option<Duration> {
        Turn::silence(&self.inner, name)
    }

    /// Counts what the store holds: a scan, 1 µs to 3 µs a name.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a directory can't be listed.
    pub fn stat(&self) -> Result<Stat> {
        self.inner.stat()
    }

    /// Removes at most `limit` expired objects and, now and then, what dead writers left. Looks at a bounded number
    /// of names; the next call goes on from there.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Removed`].
    pub fn sweep(&self, limit: usize) -> Result<u64> {
        self.inner.sweep(limit)
    }

    /// A full pass: counts afresh, removes what is expired, unfinished or orphaned.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Removed`].
    pub fn collect(&self) -> Result<Collected> {
        self.inner.collect()
    }
}

impl Limits {
    fn new(options: &Options, half_of_file_system: u64) -> Result<Self> {
        let capacity_bytes = options.capacity_bytes.unwrap_or(half_of_file_system.max(CAPACITY_BYTES_MIN));
        if capacity_bytes < CAPACITY_BYTES_MIN {
            return Err(StoreError::Options {
                reason: format!("`capacity_bytes` is {capacity_bytes}, at least {CAPACITY_BYTES_MIN} are needed"),
            });
        }
        let spill_path = options.spill_path.clone().unwrap_or_else(default_spill_path);
        let spill_path = std::path::absolute(&spill_path).map_err(|source| StoreError::Io {
            action: "find",
            path: spill_path,
            source,
        })?;
        Ok(Self {
            capacity_bytes,
            pool_bytes: options.pool_bytes.unwrap_or(capacity_bytes / 4).min(capacity_bytes),
            spill_path,
            spill_capacity_bytes: options.spill_capacity_bytes,
            ttl: options.ttl.unwrap_or(DEFAULT_TTL),
        })
    }
}

impl Inner {
    pub(crate) fn has(&self, name: ObjectName) -> bool {
        let file = name.to_string();
        self.tiers().any(|tier| fs::statat(&tier.objects, &file, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// The tiers in the order in which they are looked at.
    pub(crate) fn tiers(&self) -> impl Iterator<Item = &Tier> {
        std::iter::once(&self.memory).chain(std::iter::once_with(|| self.spill_if_any()).flatten())
    }

    pub(crate) fn tier(&self, kind: TierKind) -> Result<&Tier> {
        match kind {
            TierKind::Memory | TierKind::Disk => Ok(&self.memory),
            TierKind::Spill => self.spill().map_err(|reason| StoreError::Options { reason }),
        }
    }

    pub(crate) fn counter(&self, kind: TierKind) -> Counter<'_> {
        match kind {
            TierKind::Memory | TierKind::Disk => self.ledger.used(),
            TierKind::Spill => self.ledger.spilled(),
        }
    }

    /// The spill folder, made on first need; the reason where there can be none.
    pub(crate) fn spill(&self) -> Result<&Tier, String> {
        if self.limits.spill_capacity_bytes == Some(0) {
            return Err("it is turned off (`spill_capacity_bytes` is 0)".into());
        }
        if let Some(spill) = self.spill.get() {
            return Ok(spill);
        }
        let opened = open_folder(&self.limits.spill_path, &self.id, &self.memory.path, true);
        match opened {
            Ok(Some(spill)) => Ok(self.spill.get_or_init(|| spill)),
            Ok(None) => Err("it has no directory".into()),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                Err(format!("{error}{cause}"))
            }
        }
    }

    /// The spill folder if there is one; asking makes none.
    pub(crate) fn spill_if_any(&self) -> Option<&Tier> {
        if let Some(spill) = self.spill.get() {
            return Some(spill);
        }
        let spill = open_folder(&self.limits.spill_path, &self.id, &self.memory.path, false).ok().flatten()?;
        Some(self.spill.get_or_init(|| spill))
    }

    /// How much may be spilled: what was set, else half of what was free when this process first asked.
    pub(crate) fn spill_capacity_bytes(&self) -> u64 {
        self.limits.spill_capacity_bytes.unwrap_or_else(|| {
            *self.spill_capacity.get_or_init(|| {
                let existing = self.limits.spill_path.ancestors().find_map(|path| fs::statfs(path).ok());
                existing.map_or(0, |stat| u64::midpoint(available_bytes(&stat), self.ledger.spilled().get()))
            })
        })
    }

    pub(crate) fn ttl_seconds(&self) -> i64 {
        i64::try_from(self.limits.ttl.as_secs()).unwrap_or(i64::MAX)
    }

    fn stat(&self) -> Result<Stat> {
        let lock = self.ledger.count(&self.memory)?;
        let counted = self.recount(&lock)?;
        drop(lock);
        let unfinished = |tier: &Tier| {
            use std::os::fd::AsFd;
            entries(tier.tmp.as_fd(), &tier.path).map_or(0, |files| files.len() as u64)
        };
        let distinct = |objects: &[crate::scan::Found]| objects.iter().filter(|found| found.bytes > 0).count() as u64;
        Ok(Stat {
            objects: distinct(&counted.objects),
            used_bytes: self.ledger.used().get(),
            warm_bytes: self.ledger.warm().get(),
            capacity_bytes: self.limits.capacity_bytes,
            pool_bytes: self.limits.pool_bytes,
            pinned: counted.objects.iter().filter(|found| found.bytes > 0 && self.is_pinned(found.name)).count() as u64,
            spilled_objects: distinct(&counted.spilled),
            spilled_bytes: if self.spill_if_any().is_some() { self.ledger.spilled().get() } else { 0 },
            spill_capacity_bytes: self.spill_capacity_bytes(),
            unfinished: unfinished(&self.memory) + self.spill_if_any().map_or(0, unfinished),
            huge_pages: huge_pages(&self.memory.path),
        })
    }
}

/// Reads the store's id, or gives the directory one. The second value says that it was given now.
fn store_id(root: &OwnedFd, path: &Path, must_exist: bool) -> Result<(String, bool)> {
    let file = || path.join("store");
    let read = || -> Result<Option<String>> {
        let fd = match fs::openat(root, c"store", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(StoreError::io("open", file())(errno)),
        };
        let mut text = [0; 64];
        let got = rustix::io::pread(&fd, &mut text, 0).map_err(StoreError::io("read", file()))?;
        let text = String::from_utf8_lossy(&text[..got]).trim_end().to_owned();
        let whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if whole {
            return Ok(Some(text));
        }
        Err(StoreError::Options {
            reason: format!(
                "`{}` does not hold a store's id; remove it if this directory is a store",
                file().display()
            ),
        })
    };
    if let Some(id) = read()? {
        return Ok((id, false));
    }
    if must_exist {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let id = format!("{:032x}", u128::from_le_bytes(random()?));
    let temp = format!("store.{id}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = fs::openat(root, &temp, flags, OURS).map_err(StoreError::io("create", file()))?;
    rustix::io::pwrite(&fd, id.as_bytes(), 0).map_err(StoreError::io("write", file()))?;
    match fs::renameat_with(root, &temp, root, c"store", RenameFlags::NOREPLACE) {
        Ok(()) => Ok((id, true)),
        Err(errno) => {
            let _ = fs::unlinkat(root, &temp, AtFlags::empty());
            match (errno, read()?) {
                // Another process was faster.
                (Errno::EXIST, Some(id)) => Ok((id, false)),
                _ => Err(StoreError::io("create", file())(errno)),
            }
        }
    }
}
