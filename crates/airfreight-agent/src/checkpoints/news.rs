//! Hears of uploads as they come, so that an agent that has nothing to do need not look for them.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// The kernel's word that something has come into a folder. Where it gives none, nothing is ever heard.
pub(super) struct News {
    folder: PathBuf,
    watch: Option<AsyncFd<OwnedFd>>,
    /// Whether the folder is there and followed; before that, it is its parent.
    is_followed: bool,
}

impl News {
    /// Follows a folder that may not be there yet.
    pub(super) fn of(folder: &Path) -> Self {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let watch = watch.and_then(registered);
        let mut news = Self { folder: folder.to_owned(), watch, is_followed: false };
        if let (Some(watch), Some(parent)) = (&news.watch, folder.parent()) {
            let _ = inotify::add_watch(watch, parent, WatchFlags::CREATE | WatchFlags::ONLYDIR);
        }
        news.follow();
        news
    }

    /// Returns when something has come since it returned last. Dropped before that, it misses nothing.
    pub(super) async fn heard(&mut self) {
        let Some(watch) = &self.watch else { return pending().await };
        if let Ok(mut ready) = watch.readable().await {
            // What it was doesn't matter: the folder is looked at.
            let mut events = [0; 4096];
            while rustix::io::read(watch, &mut events).is_ok_and(|bytes| bytes > 0) {}
            ready.clear_ready();
        } else {
            self.watch = None;
        }
        self.follow();
    }

    fn follow(&mut self) {
        if let (Some(watch), false) = (&self.watch, self.is_followed) {
            // A file gets its name when it is whole.
            let flags = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            self.is_followed = inotify::add_watch(watch, &self.folder, flags).is_ok();
        }
    }
}

#[expect(unsafe_code, reason = "tokio asks for a promise that an owned descriptor keeps")]
fn registered(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open as long as its owner, which stays within the `AsyncFd` and is always the same.
    unsafe { AsyncFd::register(fd) }.ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn is_heard(news: &mut News) -> bool {
        timeout(Duration::from_secs(10), news.heard()).await.is_ok()
    }

    #[tokio::test]
    async fn what_comes_into_a_folder_that_is_made_later_is_heard() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("uploads");
        let mut news = News::of(&folder);
        fs_err::create_dir(&folder).unwrap();
        assert!(is_heard(&mut news).await, "the folder itself");
        for name in ["one", "two"] {
            fs_err::write(folder.join("draft"), name).unwrap();
            fs_err::rename(folder.join("draft"), folder.join(name)).unwrap();
            assert!(is_heard(&mut news).await, "{name}");
        }
        let nothing = timeout(Duration::from_millis(50), news.heard()).await;
        assert!(nothing.is_err(), "nothing has come since");
    }
}
