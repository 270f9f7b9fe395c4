//! Who sees the page: who shows a token as everywhere else, or has put one into the form not long ago.
//!
//! A browser can't send a bearer token by itself. With basic authentication it would keep the token until it is closed,
//! send it with every request, those that delete included, whoever made it do so, and know no way out. So the form
//! takes the token in exchange for a session: random, good for the page alone, and over after a working day, on
//! request, with the agent, and once the token isn't accepted any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use maud::html;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tracing::info;

use super::{Visit, answer, sorry};
use crate::access::Fingerprint;
use crate::error::Refusal;
use crate::routes::Shared;

const LIFETIME: Duration = Duration::from_hours(8);
/// Who comes when so many are in takes the place of the one who would have to go first.
const SESSIONS_MAX: usize = 1000;

/// Who is in, by the hash of what their browsers know.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Fingerprint, Session>>);

struct Session {
    reader: Fingerprint,
    ends_at: Instant,
}

impl Sessions {
    fn begin(&self, reader: Fingerprint) -> Result<String, Refusal> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(|error| Refusal::broken(&error))?;
        let secret = format!("{:032x}", u128::from_le_bytes(bits));
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, session| session.ends_at > now);
        if known.len() >= SESSIONS_MAX
            && let Some(first) = known.iter().min_by_key(|(_, session)| session.ends_at).map(|(key, _)| *key)
        {
            known.remove(&first);
        }
        known.insert(key(&secret), Session { reader, ends_at: now + LIFETIME });
        Ok(secret)
    }

    /// The token for which a session was begun.
    fn reader(&self, secret: &str) -> Option<Fingerprint> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(secret)).filter(|session| session.ends_at > Instant::now()).map(|session| session.reader)
    }

    fn end(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(secret));
    }
}

fn key(secret: &str) -> Fingerprint {
    Sha256::digest(secret).into()
}

/// Lets a request for the page pass, or asks for a token.
pub(super) async fn admit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let mut visit = Visit::of(&shared, request.uri(), request.headers());
    if let Err(refusal) = shared.gate.admit(request.method(), request.headers()) {
        if refusal.status != StatusCode::UNAUTHORIZED {
            return sorry(&shared, &visit, &refusal);
        }
        let reader = secret(&shared, request.headers()).and_then(|secret| shared.page.sessions.reader(secret));
        if !reader.is_some_and(|reader| shared.gate.still_reads(&reader)) {
            let target = request.uri().path_and_query().map_or("", |target| target.as_str());
            return form(&shared, &visit, target.trim_start_matches('/'), None);
        }
        visit.is_signed_in = true;
    }
    request.extensions_mut().insert(visit);
    next.run(request).await
}

#[derive(Deserialize)]
pub(super) struct SignIn {
    token: String,
    /// Where to go then, below the page's root.
    #[serde(default)]
    next: String,
}

/// Takes a token and begins a session.
pub(super) async fn sign_in(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    sent: Result<Form<SignIn>, FormRejection>,
) -> Response {
    let visit = Visit::of(&shared, &http::Uri::from_static("/sign-in"), &headers);
    let Form(SignIn { token, next }) = match sent {
        Ok(sent) => sent,
        Err(error) => return sorry(&shared, &visit, &Refusal::invalid(error.body_text())),
    };
    if !shared.gate.is_closed() {
        return go(&next, None);
    }
    let Some(reader) = shared.gate.reader(&token) else {
        return form(&shared, &visit, &next, Some("The agent does not know this token."));
    };
    match shared.page.sessions.begin(reader) {
        Ok(secret) => {
            info!("somebody has signed in");
            go(&next, Some(cookie(&shared, &secret, LIFETIME)))
        }
        Err(refusal) => sorry(&shared, &visit, &refusal),
    }
}

/// Ends the session.
pub(super) async fn sign_out(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Some(secret) = secret(&shared, &headers) {
        shared.page.sessions.end(secret);
    }
    go("", Some(cookie(&shared, "", Duration::ZERO)))
}

/// Hosts have one cookie jar for all their ports, so each store's has a name of its own.
fn cookie_name(shared: &Shared) -> String {
    format!("airfreight-{}", shared.store.id().get(..8).unwrap_or_default())
}

fn cookie(shared: &Shared, secret: &str, lifetime: Duration) -> String {
    let secure = if shared.page.is_secure { "; Secure" } else { "" };
    let (name, seconds) = (cookie_name(shared), lifetime.as_secs());
    format!("{name}={secret}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

fn secret<'a>(shared: &Shared, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = cookie_name(shared);
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(found, _)| *found == name).map(|(_, secret)| secret)
}

/// To a place of the page: it begins with `./`, so that it leads nowhere else.
fn go(next: &str, cookie: Option<String>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let target = HeaderValue::try_from(format!("./{next}")).unwrap_or(HeaderValue::from_static("./"));
    response.headers_mut().insert(LOCATION, target);
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn form(shared: &Shared, visit: &Visit, next: &str, problem: Option<&str>) -> Response {
    let body = html! {
        form.sign-in method="post" action={ (visit.up) "sign-in" } {
            h1 { "Sign in" }
            p { "This agent gives its objects to those who have its token: a line of the file that "
                code { "[airfreight] agent_token_file" } " names." }
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            input type="hidden" name="next" value=(next);
            label for="token" { "Token" }
            input #token type="password" name="token" required autocomplete="current-password"
                aria-invalid=[problem.map(|_| "true")];
            button type="submit" { "Sign in" }
            p.quiet { "For eight hours, or until you sign out." }
            @if visit.is_framed {
                p.quiet { "In a frame of another site browsers don't remember that you have signed in. Open "
                    span.address { (visit.address) } " in a tab of its own then." }
            }
        }
    };
    answer(shared, visit, StatusCode::UNAUTHORIZED, "Sign in", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_and_there_are_never_too_many() {
        let sessions = Sessions::default();
        let first = sessions.begin([1; 32]).unwrap();
        assert_eq!(first.len(), 32);
        assert_eq!(sessions.reader(&first), Some([1; 32]));
        for stranger in ["", &first[1..], &format!("{first} ")] {
            assert_eq!(sessions.reader(stranger), None);
        }
        let second = sessions.begin([2; 32]).unwrap();
        sessions.end(&second);
        assert_eq!((sessions.reader(&second), sessions.reader(&first)), (None, Some([1; 32])));
        for _ in 0..SESSIONS_MAX {
            sessions.begin([3; 32]).unwrap();
        }
        assert_eq!(sessions.reader(&first), None);
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS_MAX);
        let newest = sessions.begin([4; 32]).unwrap();
        sessions.0.lock().unwrap().get_mut(&key(&newest)).unwrap().ends_at = Instant::now();
        assert_eq!(sessions.reader(&newest), None);
    }

    #[test]
    fn a_sign_in_leads_nowhere_else() {
        for next in ["//evil.example", "https://evil.example", "\r\nSet-Cookie: x=y", "/evil", "?dag_id=d"] {
            let answer = go(next, None);
            assert!(answer.headers()[LOCATION].to_str().unwrap().starts_with("./"), "{next}");
        }
    }
}
