//! Objects as the commands show them.

use airfreight_airflow::Owner;
use airfreight_core::{ErrorKind, ObjectName};
use airfreight_store::{Description, Store};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::error::CliError;

/// One object, without its payload.
#[derive(Serialize)]
pub(super) struct Object {
    pub(super) name: String,
    #[serde(rename = "nbytes")]
    pub(super) payload_bytes: u64,
    pub(super) file_bytes: u64,
    pub(super) tier: &'static str,
    pub(super) created_at: Timestamp,
    pub(super) used_at: Timestamp,
    pub(super) links: u64,
    pub(super) pinned: bool,
    pub(super) metadata: Value,
    #[serde(skip)]
    pub(super) owner: Option<Owner>,
}

impl Object {
    /// The value's type, as the codec named it.
    pub(super) fn kind(&self) -> &str {
        self.metadata["type"].as_str().unwrap_or("?")
    }
}

impl From<Description> for Object {
    fn from(description: Description) -> Self {
        let metadata = serde_json::from_str(&description.metadata).unwrap_or(Value::Null);
        Self {
            name: description.name.to_string(),
            payload_bytes: description.payload_bytes,
            file_bytes: description.file_bytes,
            tier: description.kind.as_str(),
            created_at: timestamp(description.created_ns),
            used_at: timestamp(description.used_ns),
            links: description.links,
            pinned: description.pinned,
            owner: Owner::in_metadata(&metadata),
            metadata,
        }
    }
}

/// An object that cannot be read.
#[derive(Serialize)]
pub(super) struct Damaged {
    pub(super) name: String,
    pub(super) error: String,
}

/// Everything that a store holds.
#[derive(Default, Serialize)]
pub(super) struct Listing {
    pub(super) objects: Vec<Object>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) damaged: Vec<Damaged>,
}

impl Listing {
    pub(super) fn read(store: &Store) -> Result<Self, CliError> {
        let mut listing = Self::default();
        for name in store.names()? {
            match store.describe(name) {
                Ok(description) => listing.objects.push(description.into()),
                // It went between the listing and now.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Denied | ErrorKind::Conflict) => {
                    listing.damaged.push(Damaged { name: name.to_string(), error: error.to_string() });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(listing)
    }
}

/// The only name that begins with `id`.
pub(super) fn find(names: &[ObjectName], id: &str) -> Result<ObjectName, CliError> {
    let id = id.trim();
    let texts = names.iter().map(|name| (*name, name.to_string()));
    let mut found: Vec<(ObjectName, String)> = texts.filter(|(_, text)| text.starts_with(id)).collect();
    // A further link's name begins with the whole of the first one's.
    if let Some(exact) = found.iter().position(|(_, text)| text == id) {
        return Ok(found.swap_remove(exact).0);
    }
    match found.as_slice() {
        [(name, _)] => Ok(*name),
        [] => Err(CliError::NoSuchObject { id: id.to_owned() }),
        _ => Err(CliError::Ambiguous { id: id.to_owned(), count: found.len() }),
    }
}

/// `dag / run / task [3]`.
pub(super) fn describe(owner: &Owner) -> String {
    let index = if owner.map_index < 0 { String::new() } else { format!(" [{}]", owner.map_index) };
    format!("{} / {} / {}{index}", owner.dag_id, owner.run_id, owner.task_id)
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owner_is_told_with_its_map_index() {
        let owner = |map_index| {
            let metadata = json!({"owner": {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": map_index}});
            describe(&Owner::in_metadata(&metadata).unwrap())
        };
        assert_eq!([owner(json!(null)), owner(json!(3))], ["d / r / t", "d / r / t [3]"]);
    }

    #[test]
    fn a_beginning_of_a_name_is_enough_if_it_is_the_only_one() {
        let name = |text: &str| text.parse::<ObjectName>().unwrap();
        let (one, two) = ("ab".repeat(16), "ac".repeat(16));
        let link = format!("{one}-{}", "0".repeat(15) + "1");
        let names = [name(&one), name(&link), name(&two)];

        assert_eq!(find(&names, "ac").unwrap(), names[2]);
        assert_eq!(find(&names, &one).unwrap(), names[0]);
        assert_eq!(find(&names, &format!("{one}-")).unwrap(), names[1]);
        assert!(matches!(find(&names, "a"), Err(CliError::Ambiguous { count: 3, .. })));
        assert!(matches!(find(&names, "ff"), Err(CliError::NoSuchObject { .. })));
    }
}
