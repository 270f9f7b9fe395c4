//! What lies in a bucket, read from its keys alone.

use airfreight_bucket::{Bucket, Entry};
use jiff::Timestamp;
use serde::Serialize;

use super::arguments::Selection;
use crate::error::CliError;

/// What says beside the objects which one a task returned last.
const NEWEST: &str = "newest";

/// One checkpoint.
#[derive(Serialize)]
pub(super) struct Checkpoint {
    pub(super) key: String,
    #[serde(rename = "nbytes")]
    pub(super) bytes: u64,
    pub(super) written_at: Timestamp,
    pub(super) dag_id: String,
    pub(super) run_id: String,
    pub(super) task_id: String,
    pub(super) map_index: i32,
    pub(super) xcom_key: String,
    pub(super) object: String,
}

impl Checkpoint {
    /// `None` for what is no checkpoint: somebody's own file.
    pub(super) fn read(entry: &Entry) -> Option<Self> {
        let parts: Vec<String> = entry.key.split('/').map(unquoted).collect::<Option<_>>()?;
        let (owner, xcom_key, object) = match parts.as_slice() {
            [owner @ .., xcom_key, object] if matches!(owner.len(), 4 | 5) => (owner, xcom_key, object),
            _ => return None,
        };
        let map_index = owner.get(4).map_or(Ok(-1), |index| index.parse()).ok()?;
        let is_object = object.parse::<airfreight_core::ObjectName>().is_ok();
        (is_object || object == NEWEST).then(|| Self {
            key: entry.key.clone(),
            bytes: entry.nbytes,
            written_at: entry.modified_at,
            dag_id: owner[1].clone(),
            run_id: owner[2].clone(),
            task_id: owner[3].clone(),
            map_index,
            xcom_key: xcom_key.clone(),
            object: object.clone(),
        })
    }

    pub(super) fn is_pointer(&self) -> bool {
        self.object == NEWEST
    }

    /// `dag / run / task [3]`.
    pub(super) fn task(&self) -> String {
        let index = if self.map_index < 0 { String::new() } else { format!(" [{}]", self.map_index) };
        format!("{} / {} / {}{index}", self.dag_id, self.run_id, self.task_id)
    }

    fn is_in(&self, selection: &Selection, now: Timestamp) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let is_old = |age| now.checked_sub(age).is_ok_and(|then| self.written_at <= then);
        same(&selection.dag, &self.dag_id)
            && same(&selection.run, &self.run_id)
            && same(&selection.task, &self.task_id)
            && selection.older_than.is_none_or(is_old)
    }
}

/// The checkpoints of a selection with what points to them, the newest first.
pub(super) async fn list(bucket: &Bucket, selection: &Selection) -> Result<Vec<Checkpoint>, CliError> {
    let now = Timestamp::now();
    let entries = bucket.list("").await?;
    let mut found: Vec<_> = entries.iter().filter_map(Checkpoint::read).filter(|c| c.is_in(selection, now)).collect();
    found.sort_by(|one, other| other.written_at.cmp(&one.written_at).then_with(|| one.key.cmp(&other.key)));
    Ok(found)
}

fn unquoted(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str) -> Option<Checkpoint> {
        Checkpoint::read(&Entry { key: key.to_owned(), nbytes: 1, modified_at: Timestamp::UNIX_EPOCH })
    }

    #[test]
    fn a_key_tells_whose_it_is() {
        let object = "ab".repeat(16);
        let plain = read(&format!("1234abcd/d/run%2F1/t/return_value/{object}")).unwrap();
        assert_eq!(plain.task(), "d / run/1 / t");
        assert!(!plain.is_pointer());
        let mapped = read("1234abcd/d/r/t/3/return_value/newest").unwrap();
        assert_eq!((mapped.task(), mapped.is_pointer()), ("d / r / t [3]".into(), true));
    }

    #[test]
    fn other_files_are_none() {
        for key in ["readme.txt", "a/b/c/d/e/notes.txt", "x/d/r/t/word/return_value/newest", "x/d/r/t/k/%zz"] {
            assert!(read(key).is_none(), "{key}");
        }
    }
}
