//! One object, from another host's store into this one's.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use airfreight_core::{ObjectName, format};
use airfreight_store::{Payload, Receiver, Store, StoreError, Turn};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::{TryStreamExt as _, stream};
use http::HeaderValue;
use tokio::time::sleep;

use crate::agent::{Block, Trouble};
use crate::error::Source;
use crate::{Agent, ClientError, Result};

/// What is asked for at once, compared with its checksum and written: large enough for huge pages.
const BLOCK_BYTES: u64 = 4 << 20;
/// Blocks on their way at a time; each takes its bytes of memory.
const STREAMS: usize = 4;
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

/// How far a transfer is.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Bytes that have arrived, also such as had to come again, and all that there are; 0 while that is not known.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).min(total), total)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One transfer.
struct Transfer<'a> {
    agent: &'a Agent,
    name: ObjectName,
    progress: &'a Progress,
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
        let transfer = Transfer {
            agent: self,
            name,
            progress,
            turn,
            heard: Mutex::new((Instant::now(), 0)),
            spare: Mutex::default(),
        };
        // Who has waited for somebody that found nobody there need not wait as long again.
        let doubt = self.settings().doubt.saturating_sub(asked_at.elapsed()).max(DOUBT_MIN);
        let first = transfer.block(0..BLOCK_BYTES, None, doubt).await?;
        let file_bytes = first.file_bytes;
        progress.total.store(file_bytes, Ordering::Relaxed);
        let receiver = {
            let store = store.clone();
            Arc::new(blocking(move || Ok(store.receive(name, file_bytes)?)).await?)
        };
        let (e_tag, patience) = (first.e_tag.clone(), self.settings().patience);
        transfer.write(&receiver, 0, first).await?;
        stream::iter(blocks(file_bytes).skip(1).map(Ok::<_, ClientError>))
            .try_for_each_concurrent(STREAMS, |range| {
                let (transfer, receiver, e_tag) = (&transfer, &receiver, e_tag.as_ref());
                async move {
                    let offset = range.start;
                    let block = transfer.block(range, e_tag, patience).await?;
                    transfer.write(receiver, offset, block).await
                }
            })
            .await?;
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

impl Transfer<'_> {
    /// A block with its checksum as it should be, asked for as often as it takes.
    async fn block(&self, range: Range<u64>, e_tag: Option<&HeaderValue>, patience: Duration) -> Result<Block> {
        let mut pauses = pauses();
        let mut damaged = 0;
        loop {
            let memory = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let trouble = match self.agent.block(self.name, range.clone(), e_tag, memory, self.progress).await {
                Ok(block) => {
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), 0);
                    let (crc64, block) = blocking(move || Ok((format::checksum(&block.bytes), block))).await?;
                    if crc64 == block.crc64 {
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

    /// Writes a block, where waiting for the kernel holds nobody up, and keeps its memory for the next.
    async fn write(&self, receiver: &Arc<Receiver>, offset: u64, block: Block) -> Result<()> {
        let receiver = Arc::clone(receiver);
        let memory = blocking(move || Ok(receiver.write(offset, &block.bytes).map(|()| block.bytes)?)).await;
        let memory = memory.map_err(|error| self.as_damage(error))?;
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        if let Some(turn) = &self.turn {
            turn.advance();
        }
        Ok(())
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
