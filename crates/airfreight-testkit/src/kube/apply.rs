//! Patches: server-side apply with its owners, merge patches, JSON patches.

use airfreight_schemas::{Wrong, strangers};
use serde_json::{Map, Value, json};

use super::answer::{Answer, changed_meanwhile, json as answer_json, not_found, refuse};
use super::store::{Key, Store};

const MANAGERS_BY: &str = "the managedBy field value must be either 'ray.io/kuberay-operator' or \
                           'kueue.x-k8s.io/multikueue'";

const UNCHECKED: &str = ", <nil>: Invalid value: null: some validation rules were not checked because the object was \
                         invalid; correct the existing errors to complete validation]";

/// What becomes of fields that the schema doesn't know, where an object is created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strangers {
    Refused,
    Dropped,
}

/// Who patches, and how.
pub(super) struct Manner<'a> {
    pub(super) manager: &'a str,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    pub(super) strangers: Strangers,
    pub(super) is_status: bool,
}

pub(super) fn apply(store: &mut Store, key: &Key, wanted: &Value, manner: &Manner<'_>) -> Answer {
    if manner.manager.is_empty() {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply \
                       patch";
        return refuse(422, "Invalid", message, Value::Null);
    }
    if wanted["metadata"]["name"] != key.name.as_str() {
        let given = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let message = format!("the name of the object ({given}) does not match the name on the URL ({})", key.name);
        return refuse(400, "BadRequest", &message, Value::Null);
    }
    let live = store.object(key).cloned();
    if let Some(wrong) = untyped(key, &wanted["spec"], live.as_ref()) {
        // Not a client's error in the server's eyes, and without a reason.
        let message = format!(
            "failed to create typed patch object ({}/{}; ray.io/v1, Kind={}): {wrong}",
            key.namespace,
            key.name,
            key.kind()
        );
        return refuse(500, "", &message, Value::Null);
    }
    let mut merged = live.clone().unwrap_or_else(|| json!({"metadata": {}, "spec": {}}));
    if let Some(live) = &live {
        if is_stale(wanted, live) {
            return changed_meanwhile(key);
        }
        if let Some(other) = wanted["metadata"]["uid"].as_str().filter(|uid| live["metadata"]["uid"] != *uid) {
            let wrong = format!("metadata.uid: Invalid value: \"{other}\": field is immutable");
            return unprocessable(key, &wrong);
        }
        let owner = store.scalers.get(key).map_or(manner.manager, String::as_str);
        if owner != manner.manager && wanted["spec"].get("workerGroupSpecs").is_some() && !manner.force {
            let conflict = format!("conflict with \"{owner}\" using ray.io/v1");
            let message = format!("Apply failed with 1 conflict: {conflict}: .spec.workerGroupSpecs");
            let causes = json!([{
                "reason": "FieldManagerConflict", "message": conflict, "field": ".spec.workerGroupSpecs",
            }]);
            return refuse(409, "Conflict", &message, json!({"causes": causes}));
        }
    }
    let before = store.applied.get(&(key.clone(), manner.manager.to_owned())).cloned().unwrap_or(Value::Null);
    for place in ["/metadata/labels", "/metadata/annotations", "/spec"] {
        merge_fields(&mut merged, place, wanted.pointer(place), before.pointer(place));
    }
    if key.group() != Some("ray.io") {
        // What other kinds have besides: rules, subjects, data.
        let own = ["apiVersion", "kind", "metadata", "spec", "status"];
        let more = wanted.as_object().into_iter().flatten().filter(|(field, _)| !own.contains(&field.as_str()));
        for (field, value) in more {
            merged[field.as_str()] = value.clone();
        }
    }
    complete(key, &mut merged["spec"]);
    if let Some(answer) = invalid(key, &merged) {
        return answer;
    }
    if manner.dry_run {
        // What it would be called, without a version of its own.
        (merged["apiVersion"], merged["kind"]) = (key.api_version().into(), key.kind().into());
        merged["metadata"]["name"] = key.name.clone().into();
        merged["metadata"]["namespace"] = key.namespace.clone().into();
        return answer_json(if live.is_some() { 200 } else { 201 }, &merged);
    }
    store.applied.insert((key.clone(), manner.manager.to_owned()), wanted.clone());
    store.scalers.insert(key.clone(), manner.manager.to_owned());
    match live {
        Some(_) => answer_json(200, &store.update(key, merged)),
        None => answer_json(201, &store.create(key, merged)),
    }
}

pub(super) fn merge(store: &mut Store, key: &Key, patch: &Value, manner: &Manner<'_>) -> Answer {
    if manner.force {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply \
                       patch";
        return refuse(422, "Invalid", message, Value::Null);
    }
    let Some(live) = store.object(key).cloned() else { return not_found(key) };
    if is_stale(patch, &live) {
        return changed_meanwhile(key);
    }
    let mut patch = patch.clone();
    let Some(fields) = patch.as_object_mut() else { return refuse(400, "BadRequest", "no object", Value::Null) };
    // Each of the two ways writes its own part.
    fields.retain(|field, _| if manner.is_status { field == "status" } else { field != "status" });
    let mut merged = live.clone();
    merge_values(&mut merged, &patch);
    finish(store, key, &live, merged, manner)
}

pub(super) fn json_patch(store: &mut Store, key: &Key, steps: &Value, manner: &Manner<'_>) -> Answer {
    let Some(live) = store.object(key).cloned() else { return not_found(key) };
    let mut changed = live.clone();
    for step in steps.as_array().into_iter().flatten() {
        let place = changed.pointer_mut(step["path"].as_str().unwrap_or_default());
        let done = match (step["op"].as_str(), place) {
            (Some("replace" | "add"), Some(place)) => {
                *place = step["value"].clone();
                true
            }
            (Some("test"), Some(place)) => *place == step["value"],
            _ => false,
        };
        if !done {
            let message = "the server rejected our request due to an error in our request";
            return refuse(422, "Invalid", message, json!({}));
        }
    }
    finish(store, key, &live, changed, manner)
}

pub(super) fn put(store: &mut Store, key: &Key, wanted: &Value, manner: &Manner<'_>) -> Answer {
    let Some(live) = store.object(key).cloned() else { return not_found(key) };
    if wanted["metadata"]["resourceVersion"].is_null() {
        let message = format!(
            "{} \"{}\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
            key.resource(),
            key.name
        );
        return refuse(422, "Invalid", &message, Value::Null);
    }
    if is_stale(wanted, &live) {
        return changed_meanwhile(key);
    }
    let mut next = live.clone();
    for field in ["labels", "annotations"] {
        next["metadata"][field] = wanted["metadata"][field].clone();
    }
    next["spec"] = wanted["spec"].clone();
    finish(store, key, &live, next, manner)
}

pub(super) fn create(store: &mut Store, key: &Key, wanted: &Value, manner: &Manner<'_>) -> Answer {
    if let Some(live) = store.object(key) {
        let ending = if live["metadata"]["deletionTimestamp"].is_string() { "object is being deleted: " } else { "" };
        let message = format!("{ending}{} \"{}\" already exists", key.resource(), key.name);
        return refuse(409, "AlreadyExists", &message, super::answer::details(key));
    }
    if !is_name(&key.name) {
        let wrong = format!(
            "metadata.name: Invalid value: \"{}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
             characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
             used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            key.name
        );
        return unprocessable(key, &wrong);
    }
    let mut object = wanted.clone();
    if let Some(unknown) = drop_strangers(key, &mut object["spec"], manner.strangers) {
        let message = format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: strict decoding error: {unknown}",
            kind = key.kind()
        );
        return refuse(400, "BadRequest", &message, Value::Null);
    }
    complete(key, &mut object["spec"]);
    if let Some(answer) = invalid(key, &object) {
        return answer;
    }
    if key.plural == "namespaces" {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = key.name.clone().into();
        object["spec"] = json!({"finalizers": ["kubernetes"]});
        object["status"] = json!({"phase": "Active"});
    }
    if manner.dry_run {
        return answer_json(201, &object);
    }
    answer_json(201, &store.create(key, object))
}

/// Whether something may be called so.
fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.chars().all(is_allowed) && is_end(name.chars().next()) && is_end(name.chars().last())
}

/// What the schema refuses, as it says so.
fn unprocessable(key: &Key, wrong: &str) -> Answer {
    let group = key.group().map(|group| format!(".{group}")).unwrap_or_default();
    let message = format!("{}{group} \"{}\" is invalid: {wrong}", key.kind(), key.name);
    let details = json!({"name": key.name, "group": key.group(), "kind": key.kind()});
    refuse(422, "Invalid", &message, details)
}

fn finish(store: &mut Store, key: &Key, live: &Value, mut next: Value, manner: &Manner<'_>) -> Answer {
    if manner.is_status {
        for field in ["failed", "succeeded"] {
            if key.plural == "rayjobs" && next["status"][field].is_null() {
                next["status"][field] = 0.into();
            }
        }
        if let Some(answer) = invalid_status(key, &next) {
            return answer;
        }
    } else {
        if let Some(unknown) = drop_strangers(key, &mut next["spec"], manner.strangers) {
            let message =
                format!(" \"\" is invalid: patch: Invalid value: \"{next}\": strict decoding error: {unknown}");
            return refuse(422, "Invalid", &message, Value::Null);
        }
        complete(key, &mut next["spec"]);
        if let Some(answer) = invalid(key, &next) {
            return answer;
        }
    }
    if let Some(answer) = held_anew(key, live, &next) {
        return answer;
    }
    if manner.dry_run {
        return answer_json(200, &next);
    }
    if live["spec"]["workerGroupSpecs"] != next["spec"]["workerGroupSpecs"] {
        store.scalers.insert(key.clone(), manner.manager.to_owned());
    }
    let is_over = next["metadata"]["deletionTimestamp"].is_string()
        && next["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    if is_over {
        store.remove(key);
        return answer_json(200, &next);
    }
    answer_json(200, &store.update(key, next))
}

fn is_stale(wanted: &Value, live: &Value) -> bool {
    let given = &wanted["metadata"]["resourceVersion"];
    given.is_string() && *given != live["metadata"]["resourceVersion"]
}

/// Fields one level down: those that are wanted, and not those that the same manager wanted before.
fn merge_fields(merged: &mut Value, place: &str, wanted: Option<&Value>, before: Option<&Value>) {
    let (parent, field) = place.rsplit_once('/').unwrap_or(("", place));
    let Some(parent) = merged.pointer_mut(parent) else { return };
    let mut fields = parent[field].as_object().cloned().unwrap_or_else(Map::new);
    for old in before.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        fields.remove(old);
    }
    if let Some(wanted) = wanted.and_then(Value::as_object) {
        fields.extend(wanted.clone());
    }
    if fields.is_empty() && field != "spec" {
        parent.as_object_mut().map(|parent| parent.remove(field));
    } else {
        parent[field] = Value::Object(fields);
    }
}

fn merge_values(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (field, value) in patch {
        if value.is_null() {
            into.as_object_mut().map(|into| into.remove(field));
        } else {
            merge_values(&mut into[field.as_str()], value);
        }
    }
}

/// What the schema puts where nothing was said.
fn complete(key: &Key, spec: &mut Value) {
    let cluster = match key.plural.as_str() {
        "rayclusters" => spec,
        "rayjobs" => {
            for field in ["backoffLimit", "ttlSecondsAfterFinished"] {
                if spec[field].is_null() {
                    spec[field] = 0.into();
                }
            }
            let Some(cluster) = spec.get_mut("rayClusterSpec") else { return };
            cluster
        }
        _ => return,
    };
    for group in cluster["workerGroupSpecs"].as_array_mut().into_iter().flatten() {
        let defaults =
            [("maxReplicas", i32::MAX), ("minReplicas", 0), ("numOfHosts", 1), ("priority", 0), ("replicas", 0)];
        for (field, value) in defaults {
            if group[field].is_null() {
                group[field] = value.into();
            }
        }
    }
    if cluster["workerGroupSpecs"].is_null() {
        cluster.as_object_mut().map(|cluster| cluster.remove("workerGroupSpecs"));
    }
}

/// Takes out what the schema doesn't know; where that is refused, the answer is what there is.
fn drop_strangers(key: &Key, spec: &mut Value, manner: Strangers) -> Option<String> {
    // What can't be read at all is told by who checks the rest.
    let found = strangers(&key.plural, spec).unwrap_or_default();
    if manner == Strangers::Refused && !found.is_empty() {
        let unknown: Vec<String> =
            found.iter().map(|stranger| format!("unknown field \"spec.{}\"", stranger.path())).collect();
        return Some(unknown.join(", "));
    }
    for stranger in found {
        stranger.remove_from(spec);
    }
    None
}

/// Who ends can't be held by somebody new.
fn held_anew(key: &Key, live: &Value, next: &Value) -> Option<Answer> {
    let held = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let before = held(live);
    let new: Vec<Value> = held(next).into_iter().filter(|each| !before.contains(each)).collect();
    if new.is_empty() || !live["metadata"]["deletionTimestamp"].is_string() {
        return None;
    }
    let names: Vec<String> = new.iter().map(Value::to_string).collect();
    let wrong = format!(
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
         finalizers []string{{{}}}",
        names.join(", ")
    );
    Some(unprocessable(key, &wrong))
}

/// What the schema refuses of a status.
fn invalid_status(key: &Key, object: &Value) -> Option<Answer> {
    let mut conditions = object["status"]["conditions"].as_array()?.iter();
    let index = conditions.position(|one| {
        key.group() == Some("ray.io") && !matches!(one["status"].as_str(), Some("True" | "False" | "Unknown"))
    })?;
    let given = &object["status"]["conditions"][index]["status"];
    let wrong = format!(
        "[status.conditions[{index}].status: Unsupported value: {given}: supported values: \"True\", \"False\", \
         \"Unknown\"{UNCHECKED}"
    );
    Some(unprocessable(key, &wrong))
}

/// What apply can't even read. It may say a part only: what is missing, then, is as it was.
fn untyped(key: &Key, spec: &Value, live: Option<&Value>) -> Option<String> {
    let mut whole = live.map_or_else(|| json!({}), |live| live["spec"].clone());
    if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(spec.clone());
    }
    match strangers(&key.plural, &whole) {
        Ok(found) => found.first().map(|first| format!(".spec.{}: field not declared in schema", first.path())),
        Err(Wrong::Mistyped { field, given, wanted }) => {
            let wanted = if wanted == "integer" { "numeric (int or float)" } else { &wanted };
            Some(format!(".spec.{field}: expected {wanted}, got {given}"))
        }
        Err(Wrong::Missing { .. } | Wrong::Unsupported { .. }) => None,
    }
}

/// What the schema refuses.
fn invalid(key: &Key, object: &Value) -> Option<Answer> {
    let (spec, rest) = (&object["spec"], UNCHECKED);
    let wrong = match strangers(&key.plural, spec) {
        Err(Wrong::Missing { field }) => format!("[spec.{field}: Required value{rest}"),
        Err(Wrong::Mistyped { field, given, wanted }) => format!(
            "[spec.{field}: Invalid value: \"{given}\": spec.{field} in body must be of type {wanted}: \"{given}\"{rest}"
        ),
        Err(Wrong::Unsupported { field, given, supported }) => {
            let supported: Vec<String> = supported.iter().map(|value| format!("\"{value}\"")).collect();
            let supported = supported.join(", ");
            format!("[spec.{field}: Unsupported value: \"{given}\": supported values: {supported}{rest}")
        }
        Ok(_) => {
            let manager = spec["managedBy"].as_str().filter(|_| key.plural == "rayclusters")?;
            if matches!(manager, "ray.io/kuberay-operator" | "kueue.x-k8s.io/multikueue") {
                return None;
            }
            format!("spec.managedBy: Invalid value: \"{manager}\": {MANAGERS_BY}")
        }
    };
    Some(unprocessable(key, &wrong))
}
