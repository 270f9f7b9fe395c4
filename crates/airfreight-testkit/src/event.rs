//! What a worker tells its supervisor, one line each: written before the worker goes on, so that a kill can't lose it.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use airfreight_core::ObjectName;

/// Something that a worker did, or is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The worker is past its preparations.
    Ready,
    /// An object was put.
    Put {
        /// What it is called.
        name: ObjectName,
        /// The seed of its content.
        seed: u64,
        /// What its parts have together.
        bytes: u64,
        /// Its file's inode, 0 where it was moved or deleted at once.
        inode: u64,
    },
    /// A further name was made for an object of this seed.
    Linked(ObjectName, u64),
    /// A name is about to be deleted: from here on it may be gone.
    Deleting(ObjectName),
    /// A name was deleted: it must not come back.
    Deleted(ObjectName),
    /// An object was read and every byte was right.
    Verified,
    /// A forked child looked at everything that it had inherited.
    Forked,
    /// A put found no room.
    Full,
    /// Something was wrong.
    Failed(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "ready"),
            Self::Put { name, seed, bytes, inode } => write!(f, "put {name} {seed} {bytes} {inode}"),
            Self::Linked(name, seed) => write!(f, "linked {name} {seed}"),
            Self::Deleting(name) => write!(f, "deleting {name}"),
            Self::Deleted(name) => write!(f, "deleted {name}"),
            Self::Verified => write!(f, "verified"),
            Self::Forked => write!(f, "forked"),
            Self::Full => write!(f, "full"),
            Self::Failed(what) => write!(f, "failed {}", what.replace('\n', " ")),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let strange = || format!("a worker said {line:?}");
        let mut fields = rest.split(' ');
        let mut name = || fields.next().and_then(|text| text.parse().ok()).ok_or_else(strange);
        let event = match verb {
            "ready" => Self::Ready,
            "verified" => Self::Verified,
            "forked" => Self::Forked,
            "full" => Self::Full,
            "failed" => Self::Failed(rest.to_owned()),
            "deleting" => Self::Deleting(name()?),
            "deleted" => Self::Deleted(name()?),
            "put" | "linked" => {
                let name = name()?;
                let mut number = || fields.next().and_then(|text| text.parse().ok()).ok_or_else(strange);
                let seed = number()?;
                if verb == "put" {
                    Self::Put { name, seed, bytes: number()?, inode: number()? }
                } else {
                    Self::Linked(name, seed)
                }
            }
            _ => return Err(strange()),
        };
        Ok(event)
    }
}

/// Tells events to whoever reads this process's standard output.
#[derive(Debug, Default)]
pub struct Reporter;

impl Reporter {
    /// Makes a panic anywhere in this process, forked children included, a failure that the supervisor hears of.
    #[must_use]
    pub fn install() -> Self {
        std::panic::set_hook(Box::new(|info| Self.tell(&Event::Failed(info.to_string()))));
        Self
    }

    /// Writes one line, whole even when several processes share the pipe. Ends this process when nobody reads.
    pub fn tell(&self, event: &Event) {
        let line = format!("{event}\n");
        // A pipe takes up to 4096 bytes at once or not at all.
        let line = &line.as_bytes()[..line.len().min(4000)];
        if std::io::stdout().lock().write_all(line).and_then(|()| std::io::stdout().flush()).is_err() {
            std::process::abort();
        }
    }
}
