//! Fixed courses of operations that between them pass every crash point of the store.

use airfreight_core::ObjectName;
use airfreight_store::{Access, Options, Payload, Store, StoreError};

use crate::{Event, Reporter, Sample, Scratch, fork};

const MIB: usize = 1 << 20;

/// A course of operations. [`Script::ALL`] lists them.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// What it is called.
    pub name: &'static str,
    capacity_mib: u64,
    spill_mib: u64,
    body: fn(&mut Cast<'_>) -> Result<(), StoreError>,
}

/// Who takes part in a script: the store, and whoever hears of what is done.
struct Cast<'a> {
    store: Store,
    reporter: &'a Reporter,
    seed: u64,
}

impl Cast<'_> {
    fn sample(&mut self, bytes: usize) -> Sample {
        self.seed += 1;
        Sample::new(self.seed, bytes)
    }

    fn put(&mut self, bytes: usize) -> Result<ObjectName, StoreError> {
        let sample = self.sample(bytes);
        self.put_sample(&sample)
    }

    fn put_stream(&mut self, bytes: usize) -> Result<ObjectName, StoreError> {
        let sample = Sample { stream_bytes: bytes, ..self.sample(5) };
        self.put_sample(&sample)
    }

    /// Receives an object in parts that come in no order.
    fn receive(&mut self, bytes: usize) -> Result<ObjectName, StoreError> {
        let sample = self.sample(bytes);
        let (id, file) = sample.file().unwrap_or_else(|wrong| panic!("{wrong}"));
        let receiver = self.store.receive(ObjectName::new(id), file.len() as u64)?;
        for (index, part) in file.chunks(300_001).enumerate().rev() {
            receiver.write(index as u64 * 300_001, part)?;
        }
        let name = receiver.seal(Payload::Verified)?;
        self.reporter.tell(&Event::Put { name, seed: sample.seed, bytes: sample.bytes(), inode: 0 });
        Ok(name)
    }

    fn put_sample(&self, sample: &Sample) -> Result<ObjectName, StoreError> {
        let name = sample.put(&self.store)?;
        self.reporter.tell(&Event::Put { name, seed: sample.seed, bytes: sample.bytes(), inode: 0 });
        Ok(name)
    }

    fn link(&self, name: ObjectName) -> Result<ObjectName, StoreError> {
        let link = self.store.link(name)?;
        let object = self.store.get(link, Access::ReadOnly)?;
        let sample = Sample::of(&object).unwrap_or_else(|wrong| panic!("{wrong}"));
        self.reporter.tell(&Event::Linked(link, sample.seed));
        Ok(link)
    }

    fn delete(&self, name: ObjectName) -> Result<(), StoreError> {
        self.reporter.tell(&Event::Deleting(name));
        assert!(self.store.delete(name)?, "object {name} was gone before it was deleted");
        self.reporter.tell(&Event::Deleted(name));
        Ok(())
    }

    fn expire(&self, name: ObjectName) -> Result<(), StoreError> {
        self.reporter.tell(&Event::Deleting(name));
        assert!(self.store.expire(name, 0.0)?, "object {name} was gone before it expired");
        Ok(())
    }
}

/// Fresh and recycled files, shorter and longer ones, and the names that come and go.
fn life(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    let small = cast.put(1000)?;
    let large = cast.put(MIB)?;
    let streamed = cast.put_stream(3 * MIB)?;
    let link = cast.link(large)?;
    cast.delete(large)?;
    cast.delete(link)?;
    let same = cast.put(MIB)?;
    cast.delete(same)?;
    let shorter = cast.put(MIB * 3 / 4)?;
    cast.delete(shorter)?;
    let longer = cast.put(MIB * 7 / 8)?;
    cast.delete(small)?;
    cast.delete(streamed)?;
    cast.link(longer)?;
    cast.store.collect()?;
    Ok(())
}

/// Values that are long enough for huge pages: fresh, behind a stream, and in pages that were another's.
fn huge(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    let fresh = cast.put(5 * MIB)?;
    cast.put_stream(5 * MIB)?;
    cast.delete(fresh)?;
    let same = cast.put(5 * MIB)?;
    cast.delete(same)?;
    cast.put(4 * MIB)?;
    Ok(())
}

/// Three times as much as memory may hold, with links among it; then reads and deletes of what was moved.
fn overflow(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    let mut names = Vec::new();
    for round in 0..12 {
        names.push(cast.put(MIB)?);
        if round % 3 == 0 {
            names.push(cast.link(names[names.len() - 1])?);
        }
        if round == 1 {
            cast.delete(names.remove(0))?;
        }
    }
    for &name in &names {
        cast.store.get(name, Access::ReadOnly)?;
    }
    names.into_iter().step_by(2).try_for_each(|name| cast.delete(name))
}

/// Warm segments give way before objects do.
fn warm_gives_way(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    let names = (0..3).map(|_| cast.put(MIB)).collect::<Result<Vec<_>, _>>()?;
    names.into_iter().try_for_each(|name| cast.delete(name))?;
    // Far from the warm lengths, so that none of them serves.
    cast.put(7 * MIB / 2)?;
    cast.put_stream(3 * MIB / 2)?;
    Ok(())
}

/// Streams that outgrow memory while they are written, and objects that never fit.
fn outgrow(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    // A stream's file grows by 16 MiB at a time.
    let stream = cast.put_stream(19 * MIB)?;
    cast.put(18 * MIB)?;
    cast.delete(stream)
}

/// Names lapse, in memory and on the spill disk, by steps and by a full pass.
fn lapse(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    for round in 0..8 {
        let name = cast.put(MIB)?;
        if round % 2 == 0 {
            cast.expire(name)?;
        }
        if round % 4 == 0 {
            cast.store.sweep(4)?;
        }
    }
    for bytes in [100, 2 * MIB] {
        let name = cast.put(bytes)?;
        cast.expire(name)?;
    }
    cast.store.collect()?;
    Ok(())
}

/// Writers that died before this one, and the pass that finds what they left.
fn remains(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    for _ in 0..3 {
        let mut writer = cast.store.create()?;
        let died = fork(|| {
            // As Airflow's tasks do, the child ends without running any destructor.
            let left = writer.write(&vec![1; 2 * MIB]).is_ok();
            std::mem::forget(writer);
            left
        });
        died.map_err(|error| error.to_string()).and_then(crate::Forked::wait).unwrap_or_else(|what| panic!("{what}"));
    }
    let kept = cast.put(MIB)?;
    cast.store.sweep(4)?;
    cast.store.collect()?;
    cast.delete(kept)
}

/// Objects that arrive from elsewhere: short, fresh, into a recycled file, and more than memory holds.
fn arrivals(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    cast.receive(1000)?;
    let fresh = cast.receive(2 * MIB)?;
    cast.delete(fresh)?;
    cast.receive(2 * MIB)?;
    for _ in 0..4 {
        cast.receive(MIB)?;
    }
    Ok(())
}

/// Objects leave memory ahead of need: some have copies elsewhere and go, some are spilled.
fn ahead(cast: &mut Cast<'_>) -> Result<(), StoreError> {
    let copied = (0..3).map(|_| cast.put(MIB)).collect::<Result<Vec<_>, _>>()?;
    let kept = (0..3).map(|_| cast.put(MIB)).collect::<Result<Vec<_>, _>>()?;
    cast.link(kept[0])?;
    for &name in &copied {
        cast.reporter.tell(&Event::Deleting(name));
        cast.store.note_copy(name)?;
    }
    cast.store.move_out(5 << 20, |_| true)?;
    for &name in copied.iter().filter(|name| !cast.store.contains(**name)) {
        cast.reporter.tell(&Event::Deleted(name));
    }
    cast.put(MIB)?;
    cast.store.collect()?;
    Ok(())
}

impl Script {
    /// All scripts.
    pub const ALL: &[Self] = &[
        Self { name: "life", capacity_mib: 64, spill_mib: 0, body: life },
        Self { name: "huge", capacity_mib: 64, spill_mib: 0, body: huge },
        Self { name: "overflow", capacity_mib: 4, spill_mib: 64, body: overflow },
        Self { name: "warm-gives-way", capacity_mib: 4, spill_mib: 64, body: warm_gives_way },
        Self { name: "outgrow", capacity_mib: 17, spill_mib: 256, body: outgrow },
        Self { name: "arrivals", capacity_mib: 4, spill_mib: 64, body: arrivals },
        Self { name: "lapse", capacity_mib: 4, spill_mib: 64, body: lapse },
        Self { name: "ahead", capacity_mib: 64, spill_mib: 64, body: ahead },
        Self { name: "remains", capacity_mib: 64, spill_mib: 64, body: remains },
    ];

    /// How a script's store is opened.
    #[must_use]
    pub fn options(&self, scratch: &Scratch) -> Options {
        scratch.options_with_spill(self.capacity_mib << 20, self.spill_mib << 20)
    }

    /// Runs the script in this process.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Panics
    /// When the store says one thing and does another.
    pub fn run(&self, options: &Options, reporter: &Reporter) -> Result<(), StoreError> {
        let mut cast = Cast { store: Store::open(options)?, reporter, seed: 0 };
        (self.body)(&mut cast)
    }
}
