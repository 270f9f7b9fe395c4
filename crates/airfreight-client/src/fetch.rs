//! One object, from another host's store into this one's.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airfreight_core::ObjectName;
use airfreight_store::{Payload, Receiver, Store, StoreError, Turn};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use http::HeaderValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::agent::{Block, Place, Trouble};
use crate::error::Source;
use crate::{Agent, ClientError, Result};

/// What is asked for at once, compared with its checksum and written: large enough for huge pages.
const BLOCK_BYTES: u64 = 4 << 20;
/// Blocks on their way at a time; each takes its bytes of memory.
const STREAMS: usize = 6;
/// A block that has come damaged so often will not come otherwise.
const DAMAGED_MAX: u32 = 3;
/// Who has the turn and has not got on for so long is stopped: nobody waits for it.
const STOPPED: Duration = Duration::from_mins(1);
/// How long those who wait wait between two looks.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
const DOUBT_MIN: Duration = Duration::from_millis(200);

/// How an object came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It was here, or another task of this host has brought it meanwhile.
    Here,
    /// It was brought now.
    Moved {
        /// Length of its file.
        file_bytes: u64,
    },
}

/// How far a transfer is. Clones are of the same one.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Bytes that have arrived, also such as had to come again, and all that there are; 0 while that is not known.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        let total = self.0.total.load(Ordering::Relaxed);
        (self.0.done.load(Ordering::Relaxed).min(total), total)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One transfer.
struct Transfer {
    agent: Agent,
    name: ObjectName,
    progress: Progress,
    turn: Option<Turn>,
    /// When something last arrived, and how often nothing did since.
    heard: Mutex<(Instant, u32)>,
    /// Memory of blocks that were written.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Agent {
    /// Brings an object into the store, unless it is there. Whoever else on this host asks for it meanwhile waits for
    /// what the first one brings.
    ///
    /// # Errors
    /// - [`ClientError::NotFound`]: that host doesn't have it.
    /// - [`ClientError::Unavailable`]: nothing answers; soon where nothing ever has.
    /// - [`ClientError::Denied`], [`ClientError::Untrusted`]: it isn't for us.
    /// - [`ClientError::Corrupt`]: it comes damaged. Nothing of it is kept.
    /// - [`ClientError::Store`]: no room here; then nothing but its first block was sent.
    pub async fn fetch(&self, store: &Store, name: ObjectName, progress: &Progress) -> Result<Fetched> {
        let asked_at = Instant::now();
        let Some(turn) = turn(store, name).await? else { return Ok(Fetched::Here) };
        let transfer = Arc::new(Transfer {
            agent: self.clone(),
            name,
            progress: progress.clone(),
            turn,
            heard: Mutex::new((Instant::now(), 0)),
            spare: Mutex::default(),
        });
        // Who has waited for somebody that found nobody there need not wait as long again.
        let doubt = self.settings().doubt.saturating_sub(asked_at.elapsed()).max(DOUBT_MIN);
        let first = transfer.block(0..BLOCK_BYTES, None, doubt, None).await?;
        let (file_bytes, e_tag) = (first.file_bytes, first.e_tag.clone());
        progress.0.total.store(file_bytes, Ordering::Relaxed);
        let receiver = {
            let store = store.clone();
            Arc::new(blocking(move || Ok(store.receive(name, file_bytes)?)).await?)
        };
        transfer.write(&receiver, 0, first).await?;
        let rest = Arc::new(Mutex::new(blocks(file_bytes).skip(1)));
        // Tasks, so that the bytes of a block are taken up by the thread that has read them.
        let mut streams = JoinSet::new();
        for _ in 0..STREAMS {
            let (transfer, receiver, rest) = (Arc::clone(&transfer), Arc::clone(&receiver), Arc::clone(&rest));
            let e_tag = e_tag.clone();
            streams.spawn(async move {
                loop {
                    let next = rest.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(range) = next else { return Ok(()) };
                    transfer.bring(range, e_tag.as_ref(), &receiver).await?;
                }
            });
        }
        while let Some(ended) = streams.join_next().await {
            if let Err(error) = ended.map_err(ClientError::Broken).flatten() {
                // Nothing of it is left when this returns.
                streams.shutdown().await;
                return Err(error);
            }
        }
        blocking(move || {
            let receiver = Arc::into_inner(receiver).ok_or(StoreError::Internal("a transfer went on after its end"))?;
            Ok(receiver.seal(Payload::Verified)?)
        })
        .await
        .map_err(|error| transfer.as_damage(error))?;
        Ok(Fetched::Moved { file_bytes })
    }
}

/// Waits for the turn to fetch an object. The outer `None`: it is here now; the inner one: whoever has it is stopped.
async fn turn(store: &Store, name: ObjectName) -> Result<Option<Option<Turn>>> {
    let mut pause = LOOK_EVERY.0;
    loop {
        if store.contains(name) {
            return Ok(None);
        }
        if let Some(turn) = store.take_turn(name)? {
            // Who had it before may have brought the object and left in between.
            return Ok((!store.contains(name)).then_some(Some(turn)));
        }
        if store.turn_silence(name).is_some_and(|silence| silence > STOPPED) {
            return Ok(Some(None));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_EVERY.1);
    }
}

impl Transfer {
    /// A block, into its place in the object.
    async fn bring(&self, range: Range<u64>, e_tag: Option<&HeaderValue>, receiver: &Arc<Receiver>) -> Result<()> {
        let patience = self.agent.settings().patience;
        loop {
            let block = self.block(range.clone(), e_tag, patience, Some(receiver)).await?;
            if self.write(receiver, range.start, block).await? {
                return Ok(());
            }
        }
    }

    /// A block with its checksum as it should be, asked for as often as it takes; in its place where `receiver` has
    /// pages for it.
    async fn block(
        &self,
        range: Range<u64>,
        e_tag: Option<&HeaderValue>,
        patience: Duration,
        receiver: Option<&Arc<Receiver>>,
    ) -> Result<Block> {
        let mut pauses = pauses();
        let mut damaged = 0;
        loop {
            let place = match receiver.and_then(|receiver| receiver.window(range.clone())) {
                Some(window) => Place::Window(window),
                None => Place::Memory(self.memory()),
            };
            let trouble = match self.agent.block(self.name, range.clone(), e_tag, place, &self.progress).await {
                Ok(block) => {
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), 0);
                    if block.is_whole {
                        return Ok(block);
                    }
                    damaged += 1;
                    if damaged == DAMAGED_MAX {
                        return Err(self.corrupt(format!("bytes from {} on don't match their checksum", range.start)));
                    }
                    Trouble::Passing("it came damaged".into())
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Lasting(error) => return Err(error),
                Trouble::Passing(source) => self.wait(source, patience, &mut pauses).await?,
            }
        }
    }

    /// Waits before the next attempt, or says that there is none.
    async fn wait(&self, source: Source, patience: Duration, pauses: &mut ExponentialBackoff) -> Result<()> {
        let pause = pauses.next().unwrap_or_default();
        let (elapsed, attempts) = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.1 += 1;
            (heard.0.elapsed(), heard.1)
        };
        if elapsed + pause > patience {
            return Err(ClientError::Unavailable {
                address: self.agent.address().to_owned(),
                attempts,
                elapsed,
                source,
            });
        }
        sleep(pause).await;
        Ok(())
    }

    /// Memory for a block, of one that was written.
    fn memory(&self) -> Vec<u8> {
        let mut memory = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        memory.clear();
        memory
    }

    /// Adds a block to the object; `false`: it must come again. Waiting for the kernel holds nobody up.
    async fn write(&self, receiver: &Arc<Receiver>, offset: u64, block: Block) -> Result<bool> {
        let is_written = match block.place {
            Place::Window(window) => receiver.accept(window),
            Place::Memory(bytes) => {
                let receiver = Arc::clone(receiver);
                let written = blocking(move || Ok(receiver.write(offset, &bytes).map(|()| bytes)?)).await;
                let memory = written.map_err(|error| self.as_damage(error))?;
                self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
                true
            }
        };
        if let Some(turn) = &self.turn {
            turn.advance();
        }
        Ok(is_written)
    }

    /// What is wrong with the bytes that came is the other copy's fault.
    fn as_damage(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Store(StoreError::Damaged { source, .. }) => self.corrupt(source.to_string()),
            other => other,
        }
    }

    fn corrupt(&self, message: String) -> ClientError {
        ClientError::Corrupt { name: self.name, address: self.agent.address().to_owned(), message }
    }
}

/// The blocks of a file.
fn blocks(file_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    (0..file_bytes.div_ceil(BLOCK_BYTES))
        .map(move |index| index * BLOCK_BYTES..file_bytes.min((index + 1) * BLOCK_BYTES))
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .without_max_times()
        .with_jitter()
        .build()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(ClientError::Broken)?
}
