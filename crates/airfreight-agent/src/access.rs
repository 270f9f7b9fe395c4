//! Who may do what: bearer tokens, from files that may change while the agent runs, or from the environment.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use airfreight_core::ErrorKind;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tracing::{error, info};

use crate::error::{AgentError, Refusal};

/// Shorter ones could be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// What is kept of a token.
pub(crate) type Fingerprint = [u8; 32];

/// Where tokens of one right come from.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// A file with a token on each line, read again when it has changed.
    pub file: Option<PathBuf>,
    /// Tokens with commas between them, and where they stood, for messages.
    pub text: Option<(String, SecretString)>,
}

/// Who may read, and who may also send and delete.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Without any, everybody who reaches the agent may read.
    pub read: Tokens,
    /// These may read, too. Without any, nobody may send or delete.
    pub write: Tokens,
}

/// The tokens that are good at the moment. Only their hashes are kept.
pub(crate) struct Gate {
    read: Source,
    write: Source,
}

struct Source {
    fixed: Vec<Fingerprint>,
    file: Option<(PathBuf, Mutex<Known>)>,
}

/// What a file held when it was last read.
struct Known {
    stamp: Option<Stamp>,
    tokens: Vec<Fingerprint>,
}

/// Changes when a file is written or replaced, also behind a link.
#[derive(PartialEq, Eq)]
struct Stamp(u64, u64, Option<SystemTime>);

impl Gate {
    pub(crate) fn new(access: &Access) -> Result<Self, AgentError> {
        Ok(Self { read: Source::new(&access.read)?, write: Source::new(&access.write)? })
    }

    /// Whether there are tokens at all.
    pub(crate) fn is_closed(&self) -> bool {
        self.read.exists() || self.write.exists()
    }

    /// What stands for a token with which one may read, in place of the token.
    pub(crate) fn reader(&self, token: &str) -> Option<Fingerprint> {
        let fingerprint = Sha256::digest(token.trim()).into();
        self.still_reads(&fingerprint).then_some(fingerprint)
    }

    /// Whether one may still read with a token.
    pub(crate) fn still_reads(&self, fingerprint: &Fingerprint) -> bool {
        bool::from(self.read.knows(fingerprint) | self.write.knows(fingerprint))
    }

    /// Lets a request pass, or says why not.
    pub(crate) fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let writes = !matches!(*method, Method::GET | Method::HEAD);
        if !self.is_closed() && !writes {
            return local_host(headers);
        }
        let denied = |status, message: &str| Refusal::new(status, ErrorKind::Denied, message);
        let Some(token) = bearer(headers) else {
            return Err(denied(StatusCode::UNAUTHORIZED, "the request has no token")
                .hint("send `Authorization: Bearer <token>`; tasks take it from [airfreight] agent_token_file"));
        };
        let fingerprint: Fingerprint = Sha256::digest(token).into();
        let (may_read, may_write) = (self.read.knows(&fingerprint), self.write.knows(&fingerprint));
        if bool::from(may_write) || (!writes && bool::from(may_read)) {
            return Ok(());
        }
        if bool::from(may_read) {
            return Err(denied(StatusCode::FORBIDDEN, "the token may read, not send or delete")
                .hint("use a token of the agent's --write-token-file"));
        }
        Err(denied(StatusCode::UNAUTHORIZED, "the agent does not know the token")
            .hint("compare the task's [airfreight] agent_token_file with the agent's --token-file"))
    }
}

impl Source {
    fn new(tokens: &Tokens) -> Result<Self, AgentError> {
        let fixed = match &tokens.text {
            None => Vec::new(),
            Some((origin, text)) => parse(text.expose_secret().split(','))
                .map_err(|reason| AgentError::Tokens { origin: origin.clone(), reason })?,
        };
        let file = match &tokens.file {
            None => None,
            Some(path) => {
                let known = Known { stamp: stamp(path), tokens: read(path)? };
                Some((path.clone(), Mutex::new(known)))
            }
        };
        Ok(Self { fixed, file })
    }

    fn exists(&self) -> bool {
        !self.fixed.is_empty() || self.file.is_some()
    }

    /// Compares with every token, so that the time it takes tells nothing of them.
    fn knows(&self, candidate: &Fingerprint) -> Choice {
        let compare = |found: Choice, token: &Fingerprint| found | token.ct_eq(candidate);
        let found = self.fixed.iter().fold(Choice::from(0), compare);
        let Some((path, known)) = &self.file else { return found };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(path);
        if stamp != known.stamp {
            match read(path) {
                Ok(tokens) => {
                    info!(path = %path.display(), tokens = tokens.len(), "read the tokens again");
                    known.tokens = tokens;
                }
                // A file that is being replaced must not lock everybody out.
                Err(error) => {
                    error!(error = %airfreight_core::chain(&error), "going on with the tokens from before");
                }
            }
            known.stamp = stamp;
        }
        known.tokens.iter().fold(found, compare)
    }
}

fn read(path: &Path) -> Result<Vec<Fingerprint>, AgentError> {
    // The path stands in our own message.
    #[expect(clippy::disallowed_methods, reason = "our own message names the path")]
    let text = std::fs::read_to_string(path)
        .map(SecretString::from)
        .map_err(|source| AgentError::TokenFile { path: path.to_owned(), source })?;
    parse(text.expose_secret().lines())
        .map_err(|reason| AgentError::Tokens { origin: format!("`{}`", path.display()), reason })
}

fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Fingerprint>, &'static str> {
    let tokens: Vec<&str> = texts.map(str::trim).filter(|token| !token.is_empty()).collect();
    if tokens.is_empty() {
        return Err("there is none");
    }
    if tokens.iter().any(|token| token.len() < TOKEN_CHARACTERS_MIN) {
        return Err("one is shorter than 16 characters");
    }
    if tokens.iter().any(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err("one holds something else than printable ASCII");
    }
    Ok(tokens.into_iter().map(|token| Sha256::digest(token).into()).collect())
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs_err::metadata(path).ok()?;
    Some(Stamp(metadata.ino(), metadata.len(), metadata.modified().ok()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Without tokens, only what this host calls itself is answered: a browser that was led here by another name isn't.
fn local_host(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority: Option<http::uri::Authority> = host.parse().ok();
    let name = authority.as_ref().map_or("", |authority| authority.host().trim_matches(['[', ']']));
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    if host.is_empty() || name == "localhost" || is_address {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, ErrorKind::Denied, "without a token the agent answers to `localhost` only")
        .hint("ask http://localhost or the host's address, or give the agent a token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: &str = "a-token-that-may-read";
    const WRITER: &str = "a-token-that-may-write";

    fn headers(token: &str) -> HeaderMap {
        [(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
    }

    fn text(text: &str) -> Tokens {
        Tokens { file: None, text: Some(("TEST".into(), text.to_owned().into())) }
    }

    #[test]
    fn rights_are_ordered_and_strangers_are_told_apart_from_readers() {
        let gate = Gate::new(&Access { read: text(READER), write: text(WRITER) }).unwrap();
        let status = |method: Method, token: &str| gate.admit(&method, &headers(token)).map_err(|r| r.status.as_u16());
        assert_eq!(status(Method::GET, READER), Ok(()));
        assert_eq!(status(Method::HEAD, WRITER), Ok(()));
        assert_eq!(status(Method::PUT, WRITER), Ok(()));
        assert_eq!(status(Method::PUT, READER), Err(403));
        assert_eq!(status(Method::DELETE, READER), Err(403));
        for stranger in ["", "a-token-that-may-reaD", "a-token-that-may-read ", "a-token-that-may-read2"] {
            let found = status(Method::GET, stranger);
            assert!(found == Err(401) || stranger.trim() == READER, "{stranger:?}");
        }
        assert_eq!(gate.admit(&Method::GET, &HeaderMap::new()).map_err(|r| r.status.as_u16()), Err(401));
        let basic = [(AUTHORIZATION, "Basic YTpi".parse().unwrap())].into_iter().collect();
        assert_eq!(gate.admit(&Method::GET, &basic).map_err(|r| r.status.as_u16()), Err(401));
    }

    #[test]
    fn without_tokens_reading_is_for_those_who_mean_this_host() {
        let gate = Gate::new(&Access::default()).unwrap();
        let host = |name: &str| [(HOST, name.parse().unwrap())].into_iter().collect::<HeaderMap>();
        for good in ["localhost:8733", "127.0.0.1:8733", "[::1]:8733", "localhost"] {
            assert!(gate.admit(&Method::GET, &host(good)).is_ok(), "{good}");
        }
        for bad in ["evil.example:8733", "localhost.evil.example"] {
            assert!(gate.admit(&Method::GET, &host(bad)).is_err(), "{bad}");
        }
        assert!(gate.admit(&Method::DELETE, &host("localhost")).is_err());
    }

    #[test]
    fn a_file_is_read_again_when_it_has_changed_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let replace = |text: &str| {
            fs_err::write(folder.path().join("next"), text).unwrap();
            fs_err::rename(folder.path().join("next"), &path).unwrap();
        };
        replace(&format!("{READER}\n"));
        let read = Tokens { file: Some(path.clone()), text: None };
        let gate = Gate::new(&Access { read, ..Access::default() }).unwrap();
        let knows = |token: &str| gate.admit(&Method::GET, &headers(token)).is_ok();
        assert!(knows(READER) && !knows("the-token-that-comes-next"));
        replace(&format!("the-token-that-comes-next\n\n{READER}"));
        assert!(knows(READER) && knows("the-token-that-comes-next"));
        replace("the-token-that-comes-next");
        assert!(!knows(READER) && knows("the-token-that-comes-next"));
        for bad in ["", "short", "\n \n"] {
            replace(bad);
            assert!(knows("the-token-that-comes-next"), "{bad:?}");
        }
        fs_err::remove_file(&path).unwrap();
        assert!(knows("the-token-that-comes-next"));
        replace(READER);
        assert!(knows(READER) && !knows("the-token-that-comes-next"));
    }

    #[test]
    fn tokens_that_could_be_guessed_are_refused() {
        for bad in ["", "brief", "fifteen-letters,sixteen-letters-", "sixteen letters-x"] {
            let error = Gate::new(&Access { read: text(bad), ..Access::default() }).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}");
            assert!(bad.is_empty() || !error.to_string().contains(bad), "{error}");
        }
    }
}
