//! References that can be trusted: a JSON object that carries an HMAC over the whole of itself.
//!
//! A reference travels through Airflow's database, where whoever may write `XComs` can put any JSON, and reading what
//! it names may run code. So it is signed where it is made and checked before anything else happens. The signature is
//! computed over a canonical form, because databases rewrite JSON: they sort members, drop spaces, and spell numbers
//! their own way (`PostgreSQL` turns `1e16` into `10000000000000000`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

use crate::ErrorKind;

/// The member that holds the signature.
const HMAC: &str = "hmac";

/// Separates a fingerprint from every other use of the key.
const FINGERPRINT_DOMAIN: &[u8] = b"airfreight key fingerprint\0";

/// Why a reference could not be signed or is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The document is not JSON, or not an object.
    #[error("a reference must be a JSON object")]
    NotAnObject(#[source] Option<serde_json::Error>),
    /// There is no key to sign or verify with.
    #[error("no secret key is given to sign or verify references with")]
    NoKey,
    /// The reference has no signature, or one of another shape.
    #[error("the reference is not signed (this host's key is {ours})")]
    Unsigned {
        /// The fingerprints of the keys that would have been accepted.
        ours: String,
    },
    /// The reference names a key that is not among ours.
    #[error("the reference is signed with the key {theirs}, but this host's key is {ours}")]
    OtherKey {
        /// The fingerprint that the reference names.
        theirs: String,
        /// The fingerprints of the keys that would have been accepted.
        ours: String,
    },
    /// The reference names one of our keys, but that key did not sign this document.
    #[error("the reference names the key {theirs}, but was changed or not signed by it (this host's key is {ours})")]
    Forged {
        /// The fingerprint that the reference names.
        theirs: String,
        /// The fingerprints of the keys that would have been accepted.
        ours: String,
    },
}

impl ReferenceError {
    /// What the caller should do next.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnObject(_) | Self::NoKey => ErrorKind::Invalid,
            Self::Unsigned { .. } | Self::OtherKey { .. } | Self::Forged { .. } => ErrorKind::Denied,
        }
    }

    /// What to try, where there is something to try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAnObject(_) => None,
            Self::NoKey => Some("set [airfreight] secret_key"),
            Self::Unsigned { .. } | Self::Forged { .. } => Some(
                "somebody wrote or edited this XCom by hand; clear the task that should have made it, and look at who may write XComs",
            ),
            Self::OtherKey { .. } => Some(
                "give every host the same [airfreight] secret_key; after a rotation keep the old key in the list until its values have expired",
            ),
        }
    }
}

/// Eight hexadecimal digits that name a key without telling it.
#[must_use]
pub fn key_fingerprint(key: &[u8]) -> String {
    let digest = Sha256::new().chain_update(FINGERPRINT_DOMAIN).chain_update(key).finalize();
    digest.iter().take(4).fold(String::with_capacity(8), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Signs a reference with the first key.
///
/// Returns the document with its `hmac` member set to `<key fingerprint>:<HMAC-SHA256 in base64url>`. A signature that
/// it already has is replaced.
///
/// # Errors
/// - [`ReferenceError::NotAnObject`]: the document is not a JSON object.
/// - [`ReferenceError::NoKey`]: `keys` is empty, or its first key is.
pub fn sign_reference<K: AsRef<[u8]>>(document: &str, keys: &[K]) -> Result<String, ReferenceError> {
    let mut object = parse(document)?;
    object.remove(HMAC);
    let key = keys.first().map(AsRef::as_ref).filter(|key| !key.is_empty()).ok_or(ReferenceError::NoKey)?;
    let tag = mac(key, &object)?.finalize().into_bytes();
    let signature = format!("{}:{}", key_fingerprint(key), URL_SAFE_NO_PAD.encode(tag));
    object.insert(HMAC.to_owned(), Value::String(signature));
    Ok(Value::Object(object).to_string())
}

/// Checks the signature of a reference against every key, in constant time for each.
///
/// # Errors
/// - [`ReferenceError::NotAnObject`]: the document is not a JSON object.
/// - [`ReferenceError::NoKey`]: `keys` is empty.
/// - [`ReferenceError::Unsigned`], [`ReferenceError::OtherKey`], [`ReferenceError::Forged`]: it must not be followed.
pub fn verify_reference<K: AsRef<[u8]>>(document: &str, keys: &[K]) -> Result<(), ReferenceError> {
    let mut object = parse(document)?;
    let signature = object.remove(HMAC);
    if keys.is_empty() {
        return Err(ReferenceError::NoKey);
    }
    let fingerprints: Vec<String> = keys.iter().map(|key| key_fingerprint(key.as_ref())).collect();
    let ours = fingerprints.join(", ");
    let Some((theirs, tag)) = signature.as_ref().and_then(Value::as_str).and_then(split) else {
        return Err(ReferenceError::Unsigned { ours });
    };
    let mut trusted = false;
    for key in keys {
        let key = key.as_ref();
        trusted |= !key.is_empty() && mac(key, &object)?.verify_slice(&tag).is_ok();
    }
    if trusted {
        Ok(())
    } else if fingerprints.iter().any(|fingerprint| fingerprint == theirs) {
        Err(ReferenceError::Forged { theirs: theirs.to_owned(), ours })
    } else {
        Err(ReferenceError::OtherKey { theirs: theirs.to_owned(), ours })
    }
}

fn parse(document: &str) -> Result<Map<String, Value>, ReferenceError> {
    match serde_json::from_str(document) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ReferenceError::NotAnObject(None)),
        Err(error) => Err(ReferenceError::NotAnObject(Some(error))),
    }
}

/// Splits `<eight hexadecimal digits>:<base64url>`; the strict shape keeps foreign text out of error messages.
fn split(signature: &str) -> Option<(&str, Vec<u8>)> {
    let (fingerprint, tag) = signature.split_once(':')?;
    let named = fingerprint.len() == 8 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    named.then_some((fingerprint, tag))
}

fn mac(key: &[u8], object: &Map<String, Value>) -> Result<Hmac<Sha256>, ReferenceError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| ReferenceError::NoKey)?;
    let mut text = String::new();
    write_object(object, &mut text);
    mac.update(text.as_bytes());
    Ok(mac)
}

/// The form over which a reference is signed: members sorted by their bytes, no spaces, one spelling for each number.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
        Value::Number(number) => write_number(number, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(object) => write_object(object, text),
    }
}

fn write_object(object: &Map<String, Value>, text: &mut String) {
    let mut members: Vec<(&String, &Value)> = object.iter().collect();
    members.sort_unstable_by_key(|(name, _)| name.as_bytes());
    text.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        write_canonical(value, text);
    }
    text.push('}');
}

/// Whole numbers are written as integers however they were spelled; the rest as the shortest text that reads back.
fn write_number(number: &Number, text: &mut String) {
    let float = number.as_f64().unwrap_or_default();
    let whole = !number.is_i64() && !number.is_u64() && float.fract() == 0.0;
    // Every whole f64 prints exactly without an exponent, and -0 must not differ from 0.
    let _ = match whole {
        true if float == 0.0 => write!(text, "0"),
        true => write!(text, "{float:.0}"),
        false => write!(text, "{number}"),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEYS: [&[u8]; 2] = [b"the first key of this host", b"the key before it"];

    fn canonical(value: &Value) -> String {
        let mut text = String::new();
        write_canonical(value, &mut text);
        text
    }

    fn signed(document: &Value) -> Value {
        serde_json::from_str(&sign_reference(&document.to_string(), &KEYS).unwrap()).unwrap()
    }

    #[test]
    fn signature_is_what_the_format_says() {
        let key: &[u8] = b"k";
        let mut expected = Hmac::<Sha256>::new_from_slice(key).unwrap();
        expected.update(br#"{"a":[1,"\n"],"b":null}"#);
        let tag = URL_SAFE_NO_PAD.encode(expected.finalize().into_bytes());
        let text = sign_reference("{ \"b\": null, \"a\": [1.0, \"\\u000a\"] }", &[key]).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document[HMAC], json!(format!("{}:{tag}", key_fingerprint(key))));
    }

    #[test]
    fn every_key_verifies_and_the_first_signs() {
        let document = signed(&json!({"id": "x"}));
        assert!(document[HMAC].as_str().unwrap().starts_with(&key_fingerprint(KEYS[0])));
        verify_reference(&document.to_string(), &[KEYS[1], KEYS[0]]).unwrap();
    }

    #[test]
    fn unsigned_and_malformed_signatures_are_refused() {
        for hmac in [json!(null), json!(7), json!(""), json!("0123abcd"), json!("nothex!!:AAAA"), json!("0123abcd:=")] {
            let error = verify_reference(&json!({"id": "x", "hmac": hmac}).to_string(), &KEYS).unwrap_err();
            assert!(matches!(error, ReferenceError::Unsigned { .. }), "{hmac}: {error}");
            assert_eq!(error.kind(), ErrorKind::Denied);
        }
        let error = verify_reference(r#"{"id": "x"}"#, &KEYS).unwrap_err();
        assert!(error.to_string().contains(&key_fingerprint(KEYS[0])), "{error}");
    }

    #[test]
    fn another_key_is_refused_and_both_are_named() {
        let document = sign_reference(r#"{"id": "x"}"#, &[b"foreign key"]).unwrap();
        let error = verify_reference(&document, &KEYS).unwrap_err();
        assert!(matches!(error, ReferenceError::OtherKey { .. }));
        let text = error.to_string();
        assert!(text.contains(&key_fingerprint(b"foreign key")) && text.contains(&key_fingerprint(KEYS[0])), "{text}");
    }

    #[test]
    fn every_member_is_covered() {
        let document = signed(&json!({"id": "x", "nbytes": 5, "preview": {"rows": [1, 2]}}));
        for (name, value) in
            [("id", json!("y")), ("nbytes", json!(6)), ("preview", json!({"rows": [1, 3]})), ("new", json!(1))]
        {
            let mut forged = document.clone();
            forged[name] = value;
            let error = verify_reference(&forged.to_string(), &KEYS).unwrap_err();
            assert!(matches!(error, ReferenceError::Forged { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn only_objects_and_only_with_a_key() {
        assert!(matches!(sign_reference("[]", &KEYS), Err(ReferenceError::NotAnObject(None))));
        assert!(matches!(verify_reference("{", &KEYS), Err(ReferenceError::NotAnObject(Some(_)))));
        assert!(matches!(sign_reference::<&[u8]>("{}", &[]), Err(ReferenceError::NoKey)));
        assert!(matches!(sign_reference("{}", &[b""]), Err(ReferenceError::NoKey)));
        assert!(matches!(verify_reference::<&[u8]>("{}", &[]), Err(ReferenceError::NoKey)));
        let empty = sign_reference("{}", &[b"k"]).unwrap();
        assert!(verify_reference(&empty, &[b"" as &[u8]]).is_err());
    }

    #[test]
    fn numbers_that_a_database_respells_stay_the_same() {
        for (written, read) in [
            ("1e16", "10000000000000000"),
            ("1.0", "1"),
            ("-0.0", "0"),
            ("1.5e300", &format!("15{}", "0".repeat(299))),
            ("1.5e-10", "0.00000000015"),
            ("1e19", "10000000000000000000"),
            ("0.1", "0.10"),
            ("-3e2", "-300"),
        ] {
            let [written, read] = [written, read].map(|text| canonical(&serde_json::from_str(text).unwrap()));
            assert_eq!(written, read);
        }
        assert_ne!(canonical(&json!(u64::MAX)), canonical(&json!(u64::MAX - 1)));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            proptest::num::f64::NORMAL.prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map(".{0,8}", any_json(), 0..6)
            .prop_map(|members| Value::Object(members.into_iter().filter(|(name, _)| name != HMAC).collect()))
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_after_any_respelling(document in any_object()) {
            let document = signed(&document);
            verify_reference(&document.to_string(), &KEYS).unwrap();
            verify_reference(&serde_json::to_string_pretty(&document).unwrap(), &KEYS).unwrap();
        }

        #[test]
        fn canonical_form_is_a_fixed_point(document in any_json()) {
            let once = canonical(&document);
            prop_assert_eq!(canonical(&serde_json::from_str(&once).unwrap()), once);
        }

        #[test]
        fn changing_one_bit_of_the_tag_is_refused(document in any_object(), bit in 0_usize..256) {
            let mut document = signed(&document);
            let text = document[HMAC].as_str().unwrap().to_owned();
            let (fingerprint, tag) = split(&text).unwrap();
            let mut tag = tag;
            tag[bit / 8] ^= 1 << (bit % 8);
            document[HMAC] = json!(format!("{fingerprint}:{}", URL_SAFE_NO_PAD.encode(tag)));
            let refused = matches!(
                verify_reference(&document.to_string(), &KEYS),
                Err(ReferenceError::Forged { .. })
            );
            prop_assert!(refused);
        }
    }
}
