//! Between the watcher, which produces events, and the one who takes them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Event;
use crate::{Cursor, RayError};

/// How much text waits to be taken before no more is read.
const HELD_BYTES_MAX: usize = 128 << 10;
/// Lines that wait are joined into events of up to this size.
const EVENT_BYTES_MAX: usize = 64 << 10;

/// A bounded queue of events with one who takes them, from a task or a thread.
#[derive(Debug)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    /// Something was taken, or it was closed.
    taken: Notify,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Event>,
    held_bytes: usize,
    last_bytes: usize,
    over: Option<Over>,
    cursor: Cursor,
    wakers: Vec<Waker>,
    closed: bool,
}

/// What is said again and again.
#[derive(Clone, Debug)]
enum Over {
    Event(Event),
    Error(Arc<RayError>),
}

impl Outlet {
    pub(crate) fn new(cursor: Cursor) -> Self {
        let state = State {
            queue: VecDeque::new(),
            held_bytes: 0,
            last_bytes: 0,
            over: None,
            cursor,
            wakers: Vec::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), taken: Notify::new() }
    }

    /// The next event; after the last one, that one again.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Event, Arc<RayError>>> {
        let mut state = self.lock();
        if let Some(event) = state.queue.pop_front() {
            if let Event::Lines { lines, cursor } = &event {
                state.held_bytes -= text_bytes(lines);
                state.cursor = cursor.clone();
                drop(state);
                self.taken.notify_waiters();
            }
            return Poll::Ready(Ok(event));
        }
        match state.over.clone() {
            Some(Over::Event(event)) => Poll::Ready(Ok(event)),
            Some(Over::Error(error)) => Poll::Ready(Err(error)),
            None => {
                if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Where what has been taken ends.
    pub(crate) fn cursor(&self) -> Cursor {
        let state = self.lock();
        let cursor = state.cursor.clone();
        // When everything has been taken and nothing will come, it cannot be behind.
        if state.over.is_some() && state.queue.is_empty() { cursor.into_exact() } else { cursor }
    }

    /// Adds an event; the last one stays.
    pub(crate) fn push(&self, event: Event) {
        self.change(|state| {
            if event.is_last() {
                state.over = Some(Over::Event(event));
            } else if let Event::Deadline = event {
                // Whoever is busy with the log shall hear of it in time.
                state.queue.push_front(event);
            } else {
                state.queue.push_back(event);
            }
        });
    }

    /// Adds lines.
    pub(crate) fn push_lines(&self, new: Vec<String>, after: Cursor) {
        let bytes = text_bytes(&new);
        self.change(|state| {
            state.held_bytes += bytes;
            match state.queue.back_mut() {
                Some(Event::Lines { lines, cursor }) if state.last_bytes + bytes <= EVENT_BYTES_MAX => {
                    lines.extend(new);
                    *cursor = after;
                    state.last_bytes += bytes;
                }
                _ => {
                    state.queue.push_back(Event::Lines { lines: new, cursor: after });
                    state.last_bytes = bytes;
                }
            }
        });
    }

    /// Ends with an error.
    pub(crate) fn fail(&self, error: Arc<RayError>) {
        self.change(|state| state.over = Some(Over::Error(error)));
    }

    /// Waits until there is room for more lines; `false` if there was none for so long.
    pub(crate) async fn room(&self, patience: Duration) -> bool {
        let room = async {
            loop {
                let taken = self.taken.notified();
                if self.has_room() {
                    return;
                }
                taken.await;
            }
        };
        timeout(patience, room).await.is_ok()
    }

    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.closed || state.held_bytes < HELD_BYTES_MAX
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Nobody takes anything any more.
    pub(crate) fn close(&self) {
        self.change(|state| {
            state.closed = true;
            state.queue.clear();
            state.held_bytes = 0;
        });
        self.taken.notify_waiters();
    }

    /// Ends when it is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let taken = self.taken.notified();
            if self.lock().closed {
                return;
            }
            taken.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if state.over.is_none() && !state.closed {
            change(&mut state);
        }
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text_bytes(lines: &[String]) -> usize {
    // An empty line takes room, too.
    lines.iter().map(|line| line.len() + size_of::<String>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(outlet: &Outlet) -> Option<&'static str> {
        match outlet.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(event)) => Some(event.name()),
            Poll::Ready(Err(_)) => Some("error"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn events_come_in_order_and_the_last_one_stays() {
        let outlet = Outlet::new(Cursor::default());
        assert_eq!(next(&outlet), None);
        outlet.push_lines(vec!["one".to_owned()], Cursor::new(4, b"one\n"));
        outlet.push(Event::Deadline);
        outlet.push(Event::Gone { replaced: true });
        outlet.push(Event::Deadline);
        outlet.fail(Arc::new(RayError::Internal { what: "too late".to_owned() }));
        let all: Vec<_> = (0..4).map(|_| next(&outlet)).collect();
        assert_eq!(all, [Some("deadline"), Some("lines"), Some("gone"), Some("gone")]);
    }

    #[test]
    fn the_cursor_follows_what_was_taken() {
        let outlet = Outlet::new(Cursor::default());
        outlet.push_lines(vec!["one".to_owned()], Cursor::new(4, b"one\n"));
        assert_eq!(outlet.cursor().offset(), 0);
        outlet.push_lines(vec!["two".to_owned()], Cursor::new(8, b"one\ntwo\n"));
        assert_eq!((next(&outlet), next(&outlet)), (Some("lines"), None), "small events are joined");
        assert_eq!(outlet.cursor().offset(), 8);
    }

    #[tokio::test]
    async fn lines_wait_for_room() {
        let outlet = Arc::new(Outlet::new(Cursor::default()));
        let line = "x".repeat(EVENT_BYTES_MAX);
        outlet.push_lines(vec![line.clone()], Cursor::default());
        assert!(outlet.room(Duration::ZERO).await);
        outlet.push_lines(vec![line.clone()], Cursor::default());
        assert!(!outlet.room(Duration::ZERO).await);
        let waiting = tokio::spawn({
            let outlet = Arc::clone(&outlet);
            async move { outlet.room(Duration::from_mins(1)).await }
        });
        tokio::task::yield_now().await;
        next(&outlet);
        assert!(waiting.await.unwrap());
        outlet.push_lines(vec![line.clone(), line], Cursor::default());
        outlet.close();
        assert!(outlet.room(Duration::ZERO).await, "nothing waits for one who has gone");
        outlet.closed().await;
    }
}
