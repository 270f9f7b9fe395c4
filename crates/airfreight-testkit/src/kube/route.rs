//! What a request's path and query mean.

use hyper::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::answer::{Answer, refuse};
use super::kinds;
use super::store::Key;

/// What a path means.
pub(super) struct Route {
    pub(super) key: Key,
    pub(super) subresource: Option<String>,
    pub(super) query: Vec<(String, String)>,
}

impl Route {
    /// `None`: nobody serves it.
    pub(super) fn of(path: &str, query: Option<&str>, ray_kinds: &[String]) -> Option<Self> {
        let parts: Vec<String> =
            path.trim_matches('/').split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            ["api", "v1", rest @ ..] => ("", "v1", rest),
            _ => return None,
        };
        let (namespace, plural, name, subresource) = match rest {
            ["namespaces", namespace, plural] => (*namespace, *plural, "", None),
            ["namespaces", namespace, plural, name] => (*namespace, *plural, *name, None),
            ["namespaces", namespace, plural, name, subresource] => {
                (*namespace, *plural, *name, Some((*subresource).to_owned()))
            }
            // Of the whole cluster, or of all namespaces.
            [plural] => ("", *plural, "", None),
            [plural, name] => ("", *plural, *name, None),
            _ => return None,
        };
        if !kinds::is_served(group, version, plural, ray_kinds) {
            return None;
        }
        let query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        Some(Self { key: Key::new(plural, namespace, name), subresource, query })
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn verb(&self, method: &Method) -> &'static str {
        match *method {
            _ if self.subresource.as_deref() == Some("portforward") => "create",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if self.query("watch").is_some_and(|watch| watch == "true") => "watch",
            _ if self.key.name.is_empty() => "list",
            _ => "get",
        }
    }

    /// Why nothing can be selected like that.
    pub(super) fn unselectable(&self) -> Option<Answer> {
        let refuse = |message: String| Some(refuse(400, "BadRequest", &message, Value::Null));
        if self.query("labelSelector").is_some_and(|labels| labels.contains("===")) {
            return refuse("unable to parse requirement: found '=', expected: identifier".into());
        }
        let fields = self.query("fieldSelector").unwrap_or_default();
        let names = fields.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
        let is_known = |name: &&str| self.key.group() != Some("ray.io") || name.starts_with("metadata.");
        names
            .into_iter()
            .find(|name| !is_known(name))
            .and_then(|name| refuse(format!("field label not supported: {name}")))
    }

    /// Whether the selectors take an object.
    pub(super) fn takes(&self, object: &Value) -> bool {
        let pairs = |name: &str| {
            let text = self.query(name).unwrap_or_default().to_owned();
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned())).collect::<Vec<_>>()
        };
        pairs("labelSelector").iter().all(|(key, value)| object["metadata"]["labels"][key] == value.as_str())
            && pairs("fieldSelector")
                .iter()
                .all(|(key, value)| object.pointer(&format!("/{}", key.replace('.', "/"))) == Some(&json!(value)))
    }
}
