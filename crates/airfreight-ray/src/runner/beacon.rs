//! What a runner says of itself, in a file below the session's log directory, and how it proves to be that runner.

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::Sha256;

use crate::error::Source;
use crate::logs::Blocks;

/// The only protocol there is.
const PROTOCOL: u64 = 1;

/// A runner's file. Whoever may read the cluster's logs may read it, and so may talk to the runner.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Beacon {
    protocol: u64,
    /// The submission id of its job.
    #[serde(default)]
    pub(crate) job: Option<String>,
    /// Changes when the actor is made anew.
    pub(crate) generation: String,
    /// Changes when its events begin to be counted anew.
    pub(crate) epoch: String,
    /// The node on which it, and its files, are.
    pub(crate) node_id: String,
    pub(crate) node_ip: String,
    /// Its own port; none if it could not have one.
    #[serde(default)]
    pub(crate) port: Option<u16>,
    pub(crate) token: SecretString,
    #[serde(default)]
    pub(crate) python: String,
    #[serde(default)]
    pub(crate) ray: String,
}

impl Beacon {
    /// Reads the file as it came; a file that isn't whole yet is none.
    pub(crate) fn read(file: &Bytes) -> Result<Self, Source> {
        let beacon: Self = serde_json::from_slice(file)?;
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if beacon.protocol != PROTOCOL {
            return Err(format!("it speaks protocol {} where this client speaks {PROTOCOL}", beacon.protocol).into());
        }
        // The generation names a directory, and the node's id goes into a path, too.
        if !is_name(&beacon.generation) || !is_name(&beacon.node_id) {
            return Err("its file names no generation or no node".into());
        }
        Ok(beacon)
    }

    /// Whether this is the same life of the same runner.
    pub(crate) fn is_same_life(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.epoch == other.epoch
            && self.port == other.port
            && self.token.expose_secret() == other.token.expose_secret()
    }

    /// Whether who answered `proof` to `nonce` knows the token, which it was not sent.
    pub(crate) fn is_proved_by(&self, nonce: &str, proof: &str) -> bool {
        let Some(proof) = from_hex(proof) else { return false };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.token.expose_secret().as_bytes()) else { return false };
        mac.update(nonce.as_bytes());
        mac.verify_slice(&proof).is_ok()
    }

    /// Below the session's log directory: where its answers and events are.
    pub(crate) fn folder(&self) -> String {
        format!("airfreight/{}", self.generation)
    }
}

/// A file of JSON as the state API of any Ray hands it out; `None` if it says that there is none.
///
/// Which Ray it is doesn't matter: JSON of ours begins with `{`, what old versions wrap it in with `1` or `0`.
pub(crate) fn unwrapped(file: Bytes) -> Result<Option<Bytes>, Source> {
    match file.first() {
        Some(b'{') => Ok(Some(file)),
        Some(b'1') => {
            let mut blocks = Blocks::default();
            let text = blocks.decode(&file)?;
            blocks.finish().map(|()| Some(text).filter(|text| !text.is_empty()))
        }
        // Where a file is missed after the answer has begun, the answer ends there.
        None | Some(b'0') => Ok(None),
        Some(_) if file.starts_with(b"[get_logs]") => Ok(None),
        Some(_) => Err("it is not JSON of a runner".into()),
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // A string takes whatever is written into it.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon() -> Beacon {
        let file = br#"{"protocol": 1, "runner": "airfreight-runner-0", "generation": "0123456789abcdef",
            "epoch": "00", "node_id": "a7", "node_ip": "10.0.0.1", "port": 7, "token": "secret", "python": "3.11.7",
            "ray": "2.60.0", "pid": 5}"#;
        Beacon::read(&Bytes::from_static(file)).unwrap()
    }

    #[test]
    fn only_who_knows_the_token_can_prove_it() {
        let another = "7dc2b2f4deddac11d3cd2ec8f9f40bf8f0aa0bb0a8ddf7ab8b5a3bc7b5ed4ee5";
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
        mac.update(b"nonce");
        let right = to_hex(&mac.finalize().into_bytes());
        assert!(beacon().is_proved_by("nonce", &right));
        for wrong in [another, "", "zz", "0", &right[2..]] {
            assert!(!beacon().is_proved_by("nonce", wrong), "{wrong}");
        }
        assert!(!beacon().is_proved_by("another nonce", &right));
    }

    #[test]
    fn a_file_comes_as_each_ray_sends_it() {
        let read = |text: &'static str| unwrapped(Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(read("{}").unwrap(), "{}");
        assert_eq!(read("1{}").unwrap(), "{}");
        for missing in ["", "0Closing HTTP stream", "[get_logs] Fetch log error: no file"] {
            assert_eq!(read(missing), None);
        }
        assert!(unwrapped(Bytes::from_static(b"<html>")).is_err());
    }

    #[test]
    fn nothing_that_could_be_a_path_is_taken_from_it() {
        let file = |generation: &str| {
            Bytes::from(format!(
                r#"{{"protocol": 1, "generation": "{generation}", "epoch": "e", "node_id": "n", "node_ip": "i", "token": "t"}}"#
            ))
        };
        assert!(Beacon::read(&file("abc")).is_ok());
        for generation in ["", "../x", "a/b"] {
            assert!(Beacon::read(&file(generation)).is_err(), "{generation}");
        }
        let other = Bytes::from_static(
            br#"{"protocol": 2, "generation": "a", "epoch": "e", "node_id": "n", "node_ip": "i", "token": "t"}"#,
        );
        assert!(Beacon::read(&other).unwrap_err().to_string().contains("protocol 2"));
    }

    #[test]
    fn the_token_is_not_shown() {
        assert!(!format!("{:?}", beacon()).contains("secret"));
    }
}
