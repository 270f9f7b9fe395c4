//! What can go wrong with a bucket.

use std::path::PathBuf;

use airfreight_core::ErrorKind;
use airfreight_core::format::FormatError;
use airfreight_http::TlsError;
use airfreight_store::StoreError;

use crate::Location;
use crate::connect::NO_CREDENTIALS;

const REASON_CHARACTERS_MAX: usize = 300;

/// Why a bucket can't do what was asked. Branch on [`BucketError::kind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// The URL is none of a bucket.
    #[error("cannot use `{url}` as a bucket: {reason}")]
    Url {
        /// What was given, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option is unknown, or has a value that can't be used.
    #[error("cannot use the bucket `{bucket}`: {reason}")]
    Option {
        /// Which bucket.
        bucket: String,
        /// Which option, and why; without its value.
        reason: String,
    },
    /// A certificate can't be used.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// The storage refuses these credentials, or there are none.
    #[error("the bucket refused to {action} `{place}`: {reason}")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// The object's URL.
        place: String,
        /// What the storage said.
        reason: String,
    },
    /// There is no such bucket.
    #[error("there is no bucket `{bucket}`")]
    NoBucket {
        /// Its URL.
        bucket: String,
    },
    /// There is no such object.
    #[error("there is no checkpoint `{place}`")]
    NotFound {
        /// The object's URL.
        place: String,
    },
    /// The storage asked to slow down for longer than we had patience.
    #[error("the bucket throttled every attempt to {action} `{place}`: {reason}")]
    Throttled {
        /// What was tried.
        action: &'static str,
        /// The object's URL.
        place: String,
        /// What the storage said last.
        reason: String,
    },
    /// The storage doesn't answer, or with errors.
    #[error("the bucket failed to {action} `{place}`: {reason}")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// The object's URL.
        place: String,
        /// What happened last.
        reason: String,
    },
    /// The bytes that came are not those that were put there.
    #[error("the checkpoint `{place}` is damaged")]
    Corrupt {
        /// The object's URL.
        place: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// What the storage holds after an upload is not what was sent.
    #[error("the checkpoint `{place}` was not stored as it was sent: {reason}")]
    Altered {
        /// The object's URL.
        place: String,
        /// What differs.
        reason: String,
    },
    /// Another object has this key.
    #[error("there is another checkpoint at `{place}` already")]
    Conflict {
        /// The object's URL.
        place: String,
    },
    /// This storage can't do that.
    #[error("cannot {action} `{place}`: this kind of bucket cannot do that")]
    Unsupported {
        /// What was asked for.
        action: &'static str,
        /// The object's URL.
        place: String,
    },
    /// Azure would refuse a URL that is signed for this key.
    #[error(
        "cannot sign a URL for `{place}`: Azure refuses those of names with other characters than letters, digits and -_.~:+="
    )]
    Unsignable {
        /// The object's URL.
        place: String,
    },
    /// What waits to be uploaded can't be read.
    #[error("cannot use the queued upload `{}`: {reason}", path.display())]
    Queued {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of ours failed.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl BucketError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Url { .. }
            | Self::Option { .. }
            | Self::Certificate(_)
            | Self::Unsupported { .. }
            | Self::Unsignable { .. } => ErrorKind::Invalid,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::NoBucket { .. } | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Throttled { .. } | Self::Unavailable { .. } | Self::File { .. } => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::Altered { .. } | Self::Queued { .. } => ErrorKind::Corrupt,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Store(error) => error.kind(),
        }
    }

    /// What to try, where something can be tried.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Url { .. } => {
                "for example: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, \
                                 file:///mnt/shared/checkpoints"
            }
            Self::Option { .. } => "check the connection's fields and extras, or the variables of the environment",
            Self::Certificate(_) => "name a PEM file that this user may read",
            Self::Denied { .. } => {
                "check the connection's credentials and what they allow: reading, writing, listing and deleting below \
                 the prefix; without a connection they come from the environment"
            }
            Self::NoBucket { .. } => "make it, or correct its name; checkpoints don't make buckets",
            Self::Throttled { .. } => "run the task again later, or ask for a higher request rate",
            Self::Unavailable { .. } => {
                "check the endpoint, region and network of this worker, then run the task again"
            }
            Self::Corrupt { .. } => "clear the task that returned the value, so that it is made again",
            Self::Altered { .. } => "run the task again; if it stays so, look at what lies between here and the bucket",
            Self::Conflict { .. } => "remove it with `airfreight checkpoint rm`, then run the task again",
            Self::Unsupported { .. } => "use a bucket of S3, Google Cloud Storage or Azure",
            Self::Unsignable { .. } => "use a container and a prefix of such characters",
            Self::Queued { .. } => {
                "clear the task that returned the value, and remove the file; after an upgrade restart the agent first"
            }
            Self::Store(error) => return error.hint(),
            Self::NotFound { .. } | Self::File { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// An error of the storage as one of ours.
    pub(crate) fn from_storage(
        action: &'static str,
        place: &str,
        bucket: &Location,
        error: &object_store::Error,
    ) -> Self {
        let said = Said::of(error);
        let reason = said.reason();
        let place = place.to_owned();
        match error {
            _ if said.is(&["NoSuchBucket", "ContainerNotFound"]) => Self::NoBucket { bucket: bucket.bucket_url() },
            object_store::Error::NotFound { .. } if action == "write" => Self::NoBucket { bucket: bucket.bucket_url() },
            object_store::Error::NotFound { .. } => Self::NotFound { place },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { action, place, reason }
            }
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                Self::Conflict { place }
            }
            object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
                Self::Unsupported { action, place }
            }
            _ if said.is_throttling() => Self::Throttled { action, place, reason },
            _ if said.is_denial() => Self::Denied { action, place, reason },
            _ => Self::Unavailable { action, place, reason },
        }
    }
}

/// What a storage said in an error; its URLs, which may hold signatures, are left out.
struct Said {
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    rest: String,
}

impl Said {
    /// The client's error is no public type; what it displays is.
    fn of(error: &object_store::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(deeper) = cause {
            text = deeper.to_string();
            cause = deeper.source();
            if text.contains("status code: ") || text.contains("<Code>") {
                break;
            }
        }
        Self::read(&text)
    }

    fn read(text: &str) -> Self {
        let between = |from: &str, to: &str| {
            let rest = text.split_once(from)?.1;
            Some(rest.split_once(to)?.0.trim().to_owned())
        };
        let plain = text.split_whitespace().map(without_query).collect::<Vec<_>>().join(" ");
        Self {
            status: text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok()),
            code: between("<Code>", "</Code>"),
            message: between("<Message>", "</Message>"),
            rest: plain.chars().take(REASON_CHARACTERS_MAX).collect(),
        }
    }

    fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    fn is_throttling(&self) -> bool {
        matches!(self.status, Some(429 | 503))
            || self.is(&["SlowDown", "ServerBusy", "RequestLimitExceeded", "Throttling"])
    }

    fn is_denial(&self) -> bool {
        matches!(self.status, Some(401 | 403)) || self.rest.contains(NO_CREDENTIALS)
    }

    fn reason(&self) -> String {
        match (&self.code, &self.message, self.status) {
            (Some(code), Some(message), _) => format!("{code}: {message}"),
            (Some(code), None, _) => code.clone(),
            (None, _, Some(status)) => format!("it answered with status {status}"),
            _ => self.rest.clone(),
        }
    }
}

/// An address without its query, which may be a signature.
fn without_query(word: &str) -> &str {
    if word.contains("://") { word.split('?').next().unwrap_or_default() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_storage_said_is_told_without_addresses() {
        let text = "Error performing PUT https://b.s3.amazonaws.com/k?X-Amz-Signature=hunter2 in 2s - Server returned \
                    non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code><Message>Access \
                    Denied</Message></Error>";
        let said = Said::read(text);
        assert!(said.is_denial());
        assert_eq!(said.reason(), "AccessDenied: Access Denied");
        assert!(!said.rest.contains("hunter2"));

        let said = Said::read("status code: 503 Service Unavailable: <Error><Code>SlowDown</Code></Error>");
        assert!(said.is_throttling());
        assert_eq!(said.reason(), "SlowDown");
    }
}
