//! What can go wrong between us and a Ray cluster.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use airfreight_core::ErrorKind;
use airfreight_http::TlsError;

/// The cause of an error, whoever made it.
pub(crate) type Source = Box<dyn Error + Send + Sync>;

/// Why work on a Ray cluster failed. Addresses in it are without credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RayError {
    /// The address cannot be the dashboard of a Ray cluster.
    #[error("cannot use the Ray address `{address}`: {reason}")]
    Address {
        /// What was given, without credentials.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header, cookie, proxy or other setting cannot be used.
    #[error("cannot use the connection's {setting}: {reason}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it. Never its value, which may be a secret.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// No answer, or only failures that pass, for as long as was allowed.
    #[error("cannot {action}: no answer from {address} in {attempts} attempts over {:.1} s", elapsed.as_secs_f64())]
    Unavailable {
        /// What was wanted.
        action: String,
        /// The cluster.
        address: String,
        /// How often it was tried.
        attempts: u32,
        /// How long it took altogether.
        elapsed: Duration,
        /// The last attempt's failure.
        #[source]
        source: Source,
    },
    /// The connection broke in the middle of a log.
    #[error("{what} broke off after {bytes} bytes from {address}")]
    Cut {
        /// What was being read.
        what: String,
        /// The cluster, or the node's agent.
        address: String,
        /// How much had arrived.
        bytes: u64,
        /// How it broke.
        #[source]
        source: Source,
    },
    /// TLS did not come about: the certificate is not trusted, or the port speaks no TLS.
    #[error("cannot speak TLS with {address}")]
    Untrusted {
        /// The cluster.
        address: String,
        /// What TLS said.
        #[source]
        source: Source,
    },
    /// The cluster, or a proxy before it, wants other credentials.
    #[error("cannot {action}: {address} refused the credentials ({status}{})", with_colon(detail))]
    Denied {
        /// What was wanted.
        action: String,
        /// The cluster.
        address: String,
        /// 401, 403 or 407.
        status: u16,
        /// What the server said.
        detail: String,
        /// Which credentials were sent.
        sent: Sent,
    },
    /// A redirect to another host, which gets no credentials of ours. Mostly a login page.
    #[error("cannot {action}: {address} sends us to {target}")]
    Redirected {
        /// What was wanted.
        action: String,
        /// The cluster.
        address: String,
        /// Where to, without query and credentials.
        target: String,
    },
    /// An answer that another attempt would not change.
    #[error("cannot {action}: {address} answered {status}{}", with_colon(detail))]
    Rejected {
        /// What was wanted.
        action: String,
        /// The cluster.
        address: String,
        /// The HTTP status.
        status: u16,
        /// What Ray said about it: the last line of its traceback.
        detail: String,
    },
    /// An answer that is not Ray's.
    #[error("cannot {action}: the answer of {address} is not Ray's")]
    Unreadable {
        /// What was wanted.
        action: String,
        /// The cluster.
        address: String,
        /// What the parser said.
        #[source]
        source: Source,
    },
    /// Nothing has this name on the cluster.
    #[error("there is no {what} on {address}")]
    NotFound {
        /// A job or a file.
        what: String,
        /// The cluster.
        address: String,
    },
    /// Another job has this id.
    #[error("the job id `{submission_id}` belongs to another job on {address}")]
    Conflict {
        /// The id.
        submission_id: String,
        /// The cluster.
        address: String,
    },
    /// The cluster's Ray is older than this client understands.
    #[error("{address} runs Ray {ray_version}; 2.9 is the oldest that works")]
    TooOld {
        /// The cluster.
        address: String,
        /// Its version.
        ray_version: String,
    },
    /// The cluster's Ray cannot do this yet.
    #[error("Ray {ray_version} on {address} knows no {feature}; Ray {since} does")]
    Unsupported {
        /// The cluster.
        address: String,
        /// Its version.
        ray_version: String,
        /// What was asked for.
        feature: &'static str,
        /// The first version that can.
        since: &'static str,
    },
    /// The job cannot be submitted as it is described.
    #[error("cannot submit the job: {reason}")]
    Submission {
        /// What is wrong with it.
        reason: String,
    },
    /// A part of the runtime environment cannot be used.
    #[error("cannot use {key} of the runtime environment: {reason}")]
    RuntimeEnv {
        /// The key, with its place in a list.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory or file cannot be read into a package.
    #[error("cannot pack `{}`", path.display())]
    Pack {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Source,
    },
    /// Ray takes no package of this size.
    #[error("the package of `{}` is larger than the {limit} bytes that Ray takes{}", path.display(), Largest(largest))]
    PackageTooLarge {
        /// What was packed.
        path: PathBuf,
        /// Ray's limit.
        limit: u64,
        /// The largest files in it with their sizes before compression, largest first.
        largest: Vec<(String, u64)>,
    },
    /// The runner, or what it asked in the cluster, refused.
    #[error("cannot {action}: the runner on {address} answered {status}: {reason}")]
    Runner {
        /// What was wanted.
        action: String,
        /// The cluster.
        address: String,
        /// The HTTP status, or what it would be over HTTP.
        status: u16,
        /// What the runner says that it is.
        kind: ErrorKind,
        /// The runner's own words.
        reason: String,
        /// What the runner says to try.
        hint: Option<String>,
    },
    /// The runner cannot be started, or ends before it answers.
    #[error("there is no runner on {address}: {reason}")]
    NoRunner {
        /// The cluster.
        address: String,
        /// What became of it.
        reason: String,
    },
    /// Something that cannot happen.
    #[error("{what}")]
    Internal {
        /// What was found.
        what: String,
    },
}

/// Which credentials a request carried, so that a refusal can say what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// None.
    Nothing,
    /// A token in `Authorization`.
    Token,
    /// Login and password in `Authorization`.
    Basic,
    /// Both: the token in `X-Ray-Authorization`.
    BasicAndToken,
}

fn with_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

struct Largest<'a>(&'a [(String, u64)]);

impl fmt::Display for Largest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, bytes)) in self.0.iter().enumerate() {
            let before = if index == 0 { "; before compression its largest files are" } else { "," };
            write!(f, "{before} `{name}` ({bytes} bytes)")?;
        }
        Ok(())
    }
}

impl RayError {
    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Runner { kind, .. } => *kind,
            Self::Unavailable { .. } | Self::Cut { .. } | Self::NoRunner { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } | Self::Redirected { .. } => ErrorKind::Denied,
            Self::NotFound { .. } | Self::Rejected { status: 404, .. } => ErrorKind::NotFound,
            Self::Rejected { status, .. } if *status >= 500 => ErrorKind::Unavailable,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Internal { .. } => ErrorKind::Internal,
            Self::Address { .. }
            | Self::Setting { .. }
            | Self::Certificate(_)
            | Self::Untrusted { .. }
            | Self::Rejected { .. }
            | Self::Unreadable { .. }
            | Self::TooOld { .. }
            | Self::Unsupported { .. }
            | Self::Submission { .. }
            | Self::RuntimeEnv { .. }
            | Self::Pack { .. }
            | Self::PackageTooLarge { .. } => ErrorKind::Invalid,
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Runner { hint, .. } => return hint.as_deref(),
            Self::NoRunner { .. } => {
                "`airfreight ray logs <runner's id>` shows what it wrote; `mode = cold` works without a runner"
            }
            Self::Address { .. } => "give the address of the Ray dashboard, such as http://ray-head:8265",
            Self::Setting { .. } => "correct the connection's extra fields",
            Self::Certificate(_) => {
                "it must be in PEM files that the user who runs the task may read; or leave `verify` at its default"
            }
            Self::Unavailable { .. } | Self::Cut { .. } => {
                "is the cluster up, and is this its dashboard? `curl <address>/api/version` should answer from this host"
            }
            Self::Untrusted { .. } => {
                "set the connection's verify to the path of a bundle with your authority's certificate, or use http:// \
                 where the port speaks no TLS"
            }
            Self::Denied { status: 407, .. } => "the proxy wants a login: put it into the proxy's URL",
            Self::Denied { sent: Sent::Nothing, status: 401, .. } => {
                "the cluster wants its token: put it into the connection's password, or into RAY_AUTH_TOKEN"
            }
            Self::Denied { sent: Sent::BasicAndToken, status: 403, .. } => {
                "Ray looks at Authorization first: the proxy that takes the login must remove that header, so that Ray \
                 sees the token in X-Ray-Authorization"
            }
            Self::Denied { sent: Sent::Basic, .. } => {
                "a login is for a proxy; a cluster with a token wants the token, as the connection's password and \
                 without a login"
            }
            Self::Denied { .. } => {
                "compare the token with the cluster's: RAY_AUTH_TOKEN or ~/.ray/auth_token on its head node"
            }
            Self::Redirected { .. } => {
                "a proxy before the cluster wants a login of its own: give its cookie or header in the connection"
            }
            Self::Rejected { status: 404, .. } | Self::Unreadable { .. } => {
                "is this the dashboard of a Ray cluster? Give its address as far as `/api` excluded"
            }
            Self::Rejected { status: 405, .. } => {
                "Ray refuses requests that look like a browser's: remove Origin, Referer and Sec-Fetch headers from the \
                 connection or proxy"
            }
            Self::Rejected { status: 413, .. } => {
                "a proxy before the cluster takes no body of this size: raise its limit, or send less"
            }
            Self::Rejected { .. } => "the dashboard's log on the head node (dashboard.log) says more",
            Self::NotFound { .. } => "Ray forgets its jobs when the head node restarts, or when someone deletes them",
            Self::Conflict { .. } => "choose another id: Ray never takes one twice",
            Self::TooOld { .. } => "upgrade the cluster",
            Self::Unsupported { .. } => "leave it out, or upgrade the cluster",
            Self::Submission { .. } => return None,
            Self::RuntimeEnv { .. } => "see Ray's documentation of runtime_env for what the key takes",
            Self::Pack { .. } => {
                "exclude what cannot be read in .rayignore, or with the runtime environment's excludes"
            }
            Self::PackageTooLarge { .. } => {
                "exclude what the job does not need in a .rayignore file beside it (as .gitignore) or with the runtime \
                 environment's excludes, and put data into a bucket"
            }
            Self::Internal { .. } => "this is a bug of Airfreight; please report it",
        })
    }
}
