//! How objects end: at once, or when those that hold them let go.

use serde_json::{Value, json};

use super::answer::{self, Answer, not_found, refuse};
use super::store::{Key, Store};

const ENDED_AT: &str = "2026-11-21T03:41:55Z";
/// What holds an object until all that belongs to it is gone.
const FOREGROUND: &str = "foregroundDeletion";

pub(super) fn delete(store: &mut Store, key: &Key, options: &Value, policy: Option<&str>) -> Answer {
    let Some(live) = store.object(key).cloned() else { return not_found(key) };
    let text = |place: &str| live.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (uid, version) = (text("/metadata/uid"), text("/metadata/resourceVersion"));
    let conflict = |what: &str, wanted: &str, known: &str, end: &str| {
        let message = format!(
            "Operation cannot be fulfilled on {}.{} \"{}\": the {what} in the precondition ({wanted}) does not match the \
             {what} in record ({known}). The object might have been {end}",
            key.kind(),
            key.group().unwrap_or_default(),
            key.name
        );
        refuse(409, "Conflict", &message, answer::details(key))
    };
    let conditions = &options["preconditions"];
    if let Some(wanted) = conditions["uid"].as_str().filter(|wanted| *wanted != uid) {
        return conflict("UID", wanted, &uid, "deleted and then recreated");
    }
    if let Some(wanted) = conditions["resourceVersion"].as_str().filter(|wanted| *wanted != version) {
        return conflict("ResourceVersion", wanted, &version, "modified");
    }
    let policy = options["propagationPolicy"].as_str().or(policy).unwrap_or("Background");
    if !matches!(policy, "Foreground" | "Background" | "Orphan") {
        let message = format!(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{policy}\": supported \
             values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
        );
        return refuse(422, "Invalid", &message, Value::Null);
    }
    let mut details = answer::details(key);
    details["uid"] = uid.into();
    let done = answer::json(
        200,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    );
    if options["dryRun"] == json!(["All"]) {
        return done;
    }
    let held = live["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let mut holding: Vec<Value> = held.into_iter().filter(|each| *each != FOREGROUND).collect();
    if policy == "Foreground" {
        holding.push(FOREGROUND.into());
    }
    let is_namespace = key.plural == "namespaces";
    if holding.is_empty() && !is_namespace {
        store.remove(key);
        return done;
    }
    let mut ending = live;
    if ending["metadata"]["deletionTimestamp"].is_null() {
        ending["metadata"]["deletionTimestamp"] = ENDED_AT.into();
    }
    if is_namespace {
        ending["status"] = json!({"phase": "Terminating"});
    } else {
        ending["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        ending["metadata"]["finalizers"] = holding.into();
    }
    answer::json(200, &store.update(key, ending))
}
