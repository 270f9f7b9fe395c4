//! JSON whose members stay in their order: a preview's rows follow its columns.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value of an object's metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Json {
    #[default]
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Members(Vec<(String, Json)>),
}

impl Json {
    /// `Null` for what isn't JSON.
    pub(super) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// A member; `Null` where there is none.
    pub(super) fn at(&self, name: &str) -> &Self {
        match self {
            Self::Members(members) => members.iter().find(|(key, _)| key == name).map_or(&Self::Null, |(_, json)| json),
            _ => &Self::Null,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.parse().ok(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(serde_json::Number::from_f64(value).map_or_else(|| value.to_string(), |n| n.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(part) = parts.next_element()? {
            list.push(part);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            members.push(entry);
        }
        Ok(Json::Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_in_order_and_everything_else_as_it_is() {
        let json = Json::parse(r#"{"z": 1, "a": [null, true, -2, 1.50, "x"], "m": {"y": {}, "b": []}}"#);
        let Json::Members(members) = &json else { panic!("{json:?}") };
        assert_eq!(members.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
        let number = |text: &str| Json::Number(text.into());
        let list = vec![Json::Null, Json::Bool(true), number("-2"), number("1.5"), Json::Text("x".into())];
        assert_eq!(json.at("a"), &Json::List(list));
        assert_eq!(json.at("m").at("y"), &Json::Members(Vec::new()));
        assert_eq!((json.at("z").integer(), json.at("q"), json.at("z").at("q")), (Some(1), &Json::Null, &Json::Null));
        assert_eq!(Json::parse("nonsense"), Json::Null);
    }
}
