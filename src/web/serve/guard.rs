//! Who may ask, and what browsers may do with the answers.
//!
//! - A page of another site must not read the cameras through the operator's browser. Browsers send such requests with
//!   the name that the other site has (DNS rebinding), so `Host` has to be an address, `localhost` or a name that the
//!   configuration lists; and what changes anything needs an `Origin` that is this page.
//! - Where others than this machine can ask, a token is needed: in a cookie after the login, or as `Authorization:
//!   Bearer TOKEN` for Prometheus and scripts. Comparisons take the same time whatever is wrong, and tries are limited.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use subtle::ConstantTimeEq as _;

use super::answer::Problem;
use crate::clock::{Moment, SharedClock};
use crate::shown::Secret;

/// Name of the cookie.
pub(super) const COOKIE: &str = "spotd-session";
/// The one address of what is described that needs no token.
pub(super) const ALIVE: &str = "/healthz";
/// Wrong tokens that are checked within [`WINDOW`]; further ones are refused unchecked.
const TRIES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// What browsers may do: nothing but load the page's own files from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Decides about requests.
pub(super) struct Guard {
    names: Vec<String>,
    login: Option<Login>,
    /// Whether cookies are for TLS alone.
    encrypted: bool,
}

/// The login, where a token is configured.
struct Login {
    token: Secret,
    /// The cookie's value, made at start: a restart ends all logins.
    session: String,
    tries: Mutex<(Moment, u32)>,
    clock: SharedClock,
}

/// How a login has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The token is right.
    Right,
    /// It is not.
    Wrong,
    /// Too many were wrong; it was not checked.
    TooMany,
}

impl Guard {
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn new(
        names: Vec<String>,
        token: Option<Secret>,
        encrypted: bool,
        clock: SharedClock,
    ) -> Result<Self, getrandom::Error> {
        let login = token.map(|token| {
            let mut random = [0; 32];
            getrandom::fill(&mut random)?;
            let session = random.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Login { token, session, tries: Mutex::new((clock.now(), 0)), clock })
        });
        Ok(Self { names, login: login.transpose()?, encrypted })
    }

    /// Whether a request's `Host` is a name of this box.
    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        name == "localhost"
            || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
            || self.names.contains(&name)
    }

    /// Whether the request has proved that it knows the token.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(login) = &self.login else { return true };
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
        let mut pairs = cookies.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let session = pairs.any(|(name, value)| name == COOKIE && same(value, &login.session));
        session || bearer(headers).is_some_and(|token| login.attempt(token) == Attempt::Right)
    }

    /// Looks at a token; with the right one, the value of the cookie.
    pub(crate) fn log_in(&self, token: &str) -> (Attempt, Option<HeaderValue>) {
        let Some(login) = &self.login else { return (Attempt::Right, None) };
        let attempt = login.attempt(token);
        let secure = if self.encrypted { "; Secure" } else { "" };
        let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/{secure}", login.session);
        (attempt, HeaderValue::from_str(&cookie).ok().filter(|_| attempt == Attempt::Right))
    }

    /// What ends a login in this browser.
    pub(crate) fn log_out() -> HeaderValue {
        HeaderValue::from_static("spotd-session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0")
    }
}

impl Login {
    fn attempt(&self, token: &str) -> Attempt {
        let now = self.clock.now();
        let mut tries = self.tries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.saturating_sub(tries.0) >= WINDOW {
            *tries = (now, 0);
        }
        if tries.1 >= TRIES {
            return Attempt::TooMany;
        }
        if same(token, self.token.expose()) {
            return Attempt::Right;
        }
        tries.1 += 1;
        log::warn!("web: a wrong token was given ({} in this minute)", tries.1);
        Attempt::Wrong
    }
}

/// Whether two texts are the same, in a time that says nothing of how far they are.
fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // An IPv6 address has its port behind the bracket.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Checks every request and adds headers to every answer.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&guard, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not "no-referrer": browsers would then hide the Origin of the login too.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Evidence never changes and says so itself; all else is of this moment.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(guard: &Guard, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !guard.knows(host) {
        let why = format!(
            "this box is not asked by the name '{}'; use its address, or list the name in [web] names",
            crate::shown::plain(without_port(host))
        );
        return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, why).into_response());
    }
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !is_own(headers, host) {
        let why = "a change has to come from this page itself (its Origin is another, or missing)";
        return Some(Problem::new(StatusCode::FORBIDDEN, why).into_response());
    }
    // The one that says whether the process is alive tells nothing else; the login page needs its looks.
    let open = matches!(path, ALIVE | "/login") || path.starts_with("/assets/");
    if open || guard.admits(headers) {
        return None;
    }
    if path == "/" {
        return Some(Redirect::to("/login").into_response());
    }
    let why = "a token is needed: log in at /login, or send Authorization: Bearer TOKEN";
    Some(Problem::new(StatusCode::UNAUTHORIZED, why).into_response())
}

/// Whether a request that changes something comes from this page, or from a program, which sends no cookie by itself.
fn is_own(headers: &HeaderMap, host: &str) -> bool {
    match headers.get(header::ORIGIN).map(HeaderValue::to_str) {
        Some(Ok(origin)) => origin
            .split_once("://")
            .is_some_and(|(scheme, at)| at == host && matches!(scheme, "http" | "https")),
        Some(Err(_)) => false,
        None => bearer(headers).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::SystemTime;

    fn guard(token: Option<&str>) -> (Guard, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH));
        let token = token.map(|t| Secret::new(t.to_owned()));
        (Guard::new(vec!["ingest-1.lan".into()], token, true, clock.clone()).expect("random"), clock)
    }

    #[test]
    fn only_addresses_and_names_of_this_box_are_answered() {
        let (guard, _) = guard(None);
        for host in
            ["127.0.0.1:8642", "[::1]:8642", "[fe80::1]", "localhost", "LOCALHOST:1", "Ingest-1.lan:80"]
        {
            assert!(guard.knows(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.evil"] {
            assert!(!guard.knows(host), "{host}");
        }
    }

    #[test]
    fn after_ten_wrong_tokens_the_right_one_is_not_looked_at_for_a_minute() {
        let (guard, clock) = guard(Some("correct horse battery"));
        for _ in 0..TRIES {
            assert_eq!(guard.log_in("wrong").0, Attempt::Wrong);
        }
        assert_eq!(guard.log_in("correct horse battery").0, Attempt::TooMany);
        clock.advance(WINDOW);
        let (attempt, cookie) = guard.log_in("correct horse battery");
        assert_eq!(attempt, Attempt::Right);
        let cookie = cookie.expect("a cookie");
        let cookie = cookie.to_str().expect("text");
        let members = ["HttpOnly", "SameSite=Strict", "Secure"];
        assert!(members.iter().all(|member| cookie.contains(member)), "{cookie}");
        let mut headers = HeaderMap::new();
        assert!(!guard.admits(&headers));
        let pair = cookie.split(';').next().expect("a pair");
        headers.insert(header::COOKIE, format!("a=b; {pair}").parse().expect("a header"));
        assert!(guard.admits(&headers));
    }

    #[test]
    fn a_change_comes_from_the_page_itself_or_from_a_program_with_a_token() {
        let with = |name, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            headers
        };
        let host = "box:8642";
        assert!(is_own(&with(header::ORIGIN, "http://box:8642"), host));
        assert!(is_own(&with(header::AUTHORIZATION, "Bearer x"), host));
        for origin in ["http://evil", "null", "http://box", "ftp://box:8642", "http://box:8642.evil"] {
            assert!(!is_own(&with(header::ORIGIN, origin), host), "{origin}");
        }
        assert!(!is_own(&HeaderMap::new(), host));
    }
}
