//! What a store's user was told, to be compared with what is there after a kill.

use std::collections::{BTreeMap, BTreeSet};

use airfreight_core::ObjectName;

use crate::{Audit, Event};

/// What workers told: it must hold whatever happened to them.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// Names that were given out and not taken back, with the seed of what they hold.
    pub kept: BTreeMap<ObjectName, u64>,
    /// Names whose removal was begun: there or not.
    pub going: BTreeMap<ObjectName, u64>,
    /// Names that were removed.
    pub gone: BTreeSet<ObjectName>,
}

impl Promise {
    /// Takes an event into account.
    ///
    /// # Errors
    /// What a worker found wrong.
    pub fn hear(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Put { name, seed, .. } | Event::Linked(name, seed) => {
                self.kept.insert(name, seed);
            }
            Event::Deleting(name) => {
                let seed = self.kept.remove(&name).unwrap_or_default();
                self.going.insert(name, seed);
            }
            Event::Deleted(name) => {
                self.going.remove(&name);
                self.gone.insert(name);
            }
            Event::Failed(what) => return Err(what),
            Event::Ready | Event::Verified | Event::Forked | Event::Full => {}
        }
        Ok(())
    }

    /// Compares with what an audit found; at most `unheard_max` names may be there that nobody told of, because their
    /// writer was killed just before it could.
    ///
    /// # Errors
    /// What was promised and isn't so.
    pub fn check(&self, found: &Audit, unheard_max: usize) -> Result<(), String> {
        for (name, seed) in &self.kept {
            match found.seeds.get(name) {
                Some(there) if there == seed => {}
                Some(there) => return Err(format!("object {name} holds the content {there}, not {seed}")),
                None => return Err(format!("object {name} was acknowledged and is gone")),
            }
        }
        if let Some(name) = self.gone.iter().find(|name| found.seeds.contains_key(name)) {
            return Err(format!("object {name} was deleted and came back"));
        }
        let told = |name: &&ObjectName| self.kept.contains_key(name) || self.going.contains_key(name);
        let unheard: Vec<_> = found.seeds.keys().filter(|name| !told(name)).collect();
        if unheard.len() > unheard_max {
            return Err(format!("nobody told of {unheard:?}"));
        }
        Ok(())
    }
}
