//! A worker that does everything that a store allows, at random, and looks at every byte it is given.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::{Access, Object, Options, Store, StoreError};

use crate::{Event, Forked, Reporter, Sample, fork};

/// How often a worker does what. The numbers are weights.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Put an object.
    pub put: u32,
    /// Read one and hold it for a while.
    pub hold: u32,
    /// Fork a child that looks at everything held, and uses the store itself.
    pub fork: u32,
    /// Delete a name.
    pub delete: u32,
    /// Make a further name.
    pub link: u32,
    /// Let a name lapse.
    pub expire: u32,
    /// Describe, count, sweep or collect.
    pub tidy: u32,
}

/// What a worker is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the store is opened.
    pub options: Options,
    /// Where the worker's randomness starts.
    pub seed: u64,
    /// How often what is done.
    pub mix: Mix,
    /// Objects' lengths, from and to.
    pub bytes: (usize, usize),
    /// The longest that a reader holds an object.
    pub hold_ms_max: u64,
    /// Whether names are only this worker's own, so that what it told is the whole truth about them.
    pub own_names_only: bool,
    /// When to stop; never, otherwise.
    pub run_for: Option<Duration>,
}

/// The most objects that a worker holds at a time.
const HELD_MAX: usize = 24;
/// The most forked children that a worker has at a time.
const CHILDREN_MAX: usize = 3;

struct Held {
    object: Object,
    sample: Sample,
    until: Instant,
}

struct Chaos<'a> {
    plan: &'a Plan,
    store: Store,
    rng: fastrand::Rng,
    reporter: &'a Reporter,
    held: Vec<Held>,
    children: Vec<Forked>,
    own: Vec<(ObjectName, u64)>,
}

/// Runs a plan. Returns when its time is over; `Err` at the first thing that is wrong.
///
/// # Errors
/// What is wrong, in words.
pub fn run(plan: &Plan, reporter: &Reporter) -> Result<(), String> {
    let store = Store::open(&plan.options).map_err(|error| said("open", &error))?;
    let rng = fastrand::Rng::with_seed(plan.seed);
    let (held, children, own) = (Vec::new(), Vec::new(), Vec::new());
    let mut chaos = Chaos { plan, store, rng, reporter, held, children, own };
    reporter.tell(&Event::Ready);
    let began = Instant::now();
    while plan.run_for.is_none_or(|limit| began.elapsed() < limit) {
        chaos.step()?;
    }
    chaos.release(usize::MAX)?;
    chaos.children.drain(..).try_for_each(Forked::wait)
}

fn said(action: &str, error: &StoreError) -> String {
    let mut text = format!("{action}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Lets others do something, such as deleting what is held here.
#[expect(clippy::unnecessary_wraps, reason = "one of several steps")]
fn pause() -> Result<(), String> {
    std::thread::sleep(Duration::from_millis(1));
    Ok(())
}

impl Chaos<'_> {
    fn step(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.held.sort_by_key(|held| held.until);
        let due = self.held.partition_point(|held| held.until <= now);
        self.release(due)?;
        self.reap()?;

        let mix = self.plan.mix;
        let steps = [
            (mix.put, Self::put as fn(&mut Self) -> Result<(), String>),
            (mix.hold, Self::hold),
            (mix.fork, Self::fork),
            (mix.delete, Self::delete),
            (mix.link, Self::link),
            (mix.expire, Self::expire),
            (mix.tidy, Self::tidy),
        ];
        let weights: u32 = steps.iter().map(|(weight, _)| weight).sum();
        let mut pick = self.rng.u32(..weights);
        for (weight, step) in steps {
            if pick < weight {
                return step(self);
            }
            pick -= weight;
        }
        Ok(())
    }

    /// Looks once more at the first `count` objects, then lets go of them.
    fn release(&mut self, count: usize) -> Result<(), String> {
        let count = count.min(self.held.len());
        for held in self.held.drain(..count) {
            held.sample.verify(&held.object).map_err(|wrong| format!("when let go of: {wrong}"))?;
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(), String> {
        let mut ended = Vec::new();
        for (index, child) in self.children.iter_mut().enumerate() {
            if self.rng.u8(..) == 0 {
                child.kill();
            }
            if child.ended()? {
                ended.push(index);
            }
        }
        for index in ended.into_iter().rev() {
            self.children.swap_remove(index);
        }
        Ok(())
    }

    /// A name to do something with, and the seed where it is known.
    fn any(&mut self) -> Result<Option<(ObjectName, Option<u64>)>, String> {
        if self.plan.own_names_only {
            return Ok(self.rng.choice(&self.own).map(|&(name, seed)| (name, Some(seed))));
        }
        let names = self.store.names().map_err(|error| said("list", &error))?;
        Ok(self.rng.choice(names).map(|name| (name, None)))
    }

    fn put(&mut self) -> Result<(), String> {
        let (from, to) = self.plan.bytes;
        // Mostly of the lower half: lengths near each other recycle each other's files.
        let to = if self.rng.u8(..8) == 0 { to } else { from + (to - from) / 2 };
        let bytes = self.rng.usize(from..=to);
        let sample = Sample::random(&mut self.rng, bytes);
        match sample.put(&self.store) {
            Ok(name) => {
                let file = self.store.path().join("objects").join(name.to_string());
                let inode = fs_err::symlink_metadata(file).map_or(0, |file| file.ino());
                self.reporter.tell(&Event::Put { name, seed: sample.seed, bytes: sample.bytes(), inode });
                self.own.push((name, sample.seed));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Full => {
                self.reporter.tell(&Event::Full);
                self.delete()
            }
            Err(error) => Err(said("put", &error)),
        }
    }

    fn hold(&mut self) -> Result<(), String> {
        let Some((name, seed)) = self.any()? else { return Ok(()) };
        let access = if self.rng.bool() { Access::PrivateWritable } else { Access::ReadOnly };
        match self.store.get(name, access) {
            Ok(object) => {
                let sample = Sample::of(&object).map_err(|wrong| wrong.to_string())?;
                if seed.is_some_and(|seed| seed != sample.seed) {
                    return Err(format!("object {name} holds another one's content"));
                }
                sample.verify(&object).map_err(|wrong| format!("when read: {wrong}"))?;
                self.reporter.tell(&Event::Verified);
                if self.held.len() == HELD_MAX {
                    self.release(1)?;
                }
                let until = Instant::now() + Duration::from_millis(self.rng.u64(..=self.plan.hold_ms_max));
                self.held.push(Held { object, sample, until });
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !self.plan.own_names_only => Ok(()),
            Err(error) => Err(said("get", &error)),
        }
    }

    /// The child looks at its inherited mappings after the parent may have let go of them.
    fn fork(&mut self) -> Result<(), String> {
        if self.children.len() == CHILDREN_MAX {
            return Ok(());
        }
        let wait = Duration::from_millis(self.rng.u64(..=self.plan.hold_ms_max));
        let seed = self.rng.u64(..);
        let child = fork(|| {
            // The parent waits for its own children.
            std::mem::forget(std::mem::take(&mut self.children));
            self.rng = fastrand::Rng::with_seed(seed);
            let inherited = std::mem::take(&mut self.held);
            let until = Instant::now() + wait;
            let mut done = Ok(());
            while done.is_ok() && Instant::now() < until {
                done = match self.rng.u8(..4) {
                    // The parent deletes its own names meanwhile.
                    _ if self.plan.own_names_only => pause(),
                    0 => self.put().and_then(|()| self.hold()),
                    1 => self.delete(),
                    2 => self.hold(),
                    _ => pause(),
                };
            }
            let done = done.and_then(|()| self.release(usize::MAX)).and_then(|()| {
                inherited.iter().try_for_each(|held| {
                    held.sample.verify(&held.object).map_err(|wrong| format!("in a forked child: {wrong}"))
                })
            });
            match done {
                Ok(()) => {
                    self.reporter.tell(&Event::Forked);
                    true
                }
                Err(what) => {
                    self.reporter.tell(&Event::Failed(what));
                    false
                }
            }
        });
        self.children.push(child.map_err(|error| format!("cannot fork: {error}"))?);
        Ok(())
    }

    fn delete(&mut self) -> Result<(), String> {
        let Some((name, _)) = self.any()? else { return Ok(()) };
        self.reporter.tell(&Event::Deleting(name));
        self.own.retain(|(own, _)| *own != name);
        match self.store.delete(name) {
            Ok(true) => {}
            Ok(false) if !self.plan.own_names_only => {}
            Ok(false) => return Err(format!("object {name} was gone before it was deleted")),
            Err(error) => return Err(said("delete", &error)),
        }
        self.reporter.tell(&Event::Deleted(name));
        Ok(())
    }

    fn link(&mut self) -> Result<(), String> {
        let Some((name, seed)) = self.any()? else { return Ok(()) };
        match self.store.link(name) {
            Ok(link) => {
                if let Some(seed) = seed {
                    self.reporter.tell(&Event::Linked(link, seed));
                    self.own.push((link, seed));
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !self.plan.own_names_only => Ok(()),
            Err(error) => Err(said("link", &error)),
        }
    }

    fn expire(&mut self) -> Result<(), String> {
        let Some((name, _)) = self.any()? else { return Ok(()) };
        self.reporter.tell(&Event::Deleting(name));
        self.own.retain(|(own, _)| *own != name);
        self.store.expire(name, 0.0).map_err(|error| said("expire", &error))?;
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), String> {
        match self.rng.u8(..8) {
            0 => self.store.collect().map(|_| ()).map_err(|error| said("collect", &error)),
            1 => self.store.stat().map(|_| ()).map_err(|error| said("count", &error)),
            2 | 3 => self.store.sweep(16).map(|_| ()).map_err(|error| said("sweep", &error)),
            _ => {
                let Some((name, _)) = self.any()? else { return Ok(()) };
                match self.store.describe(name) {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(said("describe", &error)),
                    _ => Ok(()),
                }
            }
        }
    }
}
