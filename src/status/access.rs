//! Who may read.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// How long an answer to a wrong password takes: with all connections in use, some thirty guesses a second.
pub(super) const WRONG_PASSWORD_PAUSE: Duration = Duration::from_secs(1);

/// What is asked of a request.
pub(super) struct Access {
    /// The digest of the password, so that comparing takes one time whatever is guessed, its length included.
    password: Option<[u8; 32]>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may read.
    Welcome,
    /// It has to give the password.
    NoPassword,
    /// It gave another one.
    WrongPassword,
    /// It stems from a page of somebody else, whose name was made to point here (DNS rebinding).
    ForeignName,
}

impl Access {
    pub(super) fn new(password: Option<&str>) -> Access {
        Access { password: password.map(|password| sha256(password.as_bytes())) }
    }

    /// Judges a request. The user's name does not matter.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> Verdict {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let Some(password) = &self.password else {
            // A foreign page can ask in a reader's name but cannot choose the name it asks for.
            return match header(HOST).is_none_or(is_local_name) {
                true => Verdict::Welcome,
                false => Verdict::ForeignName,
            };
        };
        match header(AUTHORIZATION).and_then(given_password) {
            None => Verdict::NoPassword,
            Some(given) if bool::from(sha256(&given).ct_eq(password)) => Verdict::Welcome,
            Some(_) => Verdict::WrongPassword,
        }
    }
}

fn sha256(text: &[u8]) -> [u8; 32] {
    let mut value = [0; 32];
    value.copy_from_slice(digest(&SHA256, text).as_ref());
    value
}

/// The password of basic authentication (RFC 7617 §2).
fn given_password(header: &str) -> Option<Vec<u8>> {
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let credentials = STANDARD.decode(credentials.trim()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    Some(credentials[colon + 1..].to_vec())
}

/// `localhost` or an address, with or without a port: no name that somebody else decides about.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(password: Option<&str>, headers: &[(&str, &str)]) -> Verdict {
        let request =
            headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        Access::new(password).judge(&request.body(()).expect("a request"))
    }

    fn basic(user_and_password: &str) -> String {
        format!("Basic {}", STANDARD.encode(user_and_password))
    }

    #[test]
    fn with_a_password_only_that_counts() {
        let given =
            |value: &str| judge(Some("correct-horse"), &[("Authorization", value), ("Host", "x.example")]);
        assert_eq!(given(&basic("anybody:correct-horse")), Verdict::Welcome);
        assert_eq!(given(&basic(":correct-horse").replace("Basic", "basic")), Verdict::Welcome);
        for wrong in ["a:", "a:correct", "a:correct-horsE", "a:correct-horse ", "a:x:correct-horse"] {
            assert_eq!(given(&basic(wrong)), Verdict::WrongPassword, "{wrong}");
        }
        for none in ["", "Basic", "Basic !", "Bearer correct-horse", &basic("correct-horse")] {
            assert_eq!(given(none), Verdict::NoPassword, "{none}");
        }
        assert_eq!(judge(Some("correct-horse"), &[]), Verdict::NoPassword);
    }

    #[test]
    fn without_one_the_page_has_no_foreign_name() {
        let host = |name: &str| judge(None, &[("Host", name)]);
        for own in ["localhost", "LocalHost:8475", "127.0.0.1:8475", "[::1]:8475", "[::1]", "10.0.0.1"] {
            assert_eq!(host(own), Verdict::Welcome, "{own}");
        }
        for foreign in ["evil.example", "evil.example:8475", "127.0.0.1.evil.example:8475", "[::1].x:1", ""] {
            assert_eq!(host(foreign), Verdict::ForeignName, "{foreign}");
        }
        assert_eq!(judge(None, &[]), Verdict::Welcome, "HTTP/1.0 has no names");
    }
}
