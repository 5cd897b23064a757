//! JWKS: where the keys are fetched from, and how the document is read.

use std::{fmt, fs::File, io::Read, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use ureq::{Agent, Proxy, http::Uri, tls::TlsConfig};

use super::keys::{Jwk, VerifyingKey};

/// A larger document is not read.
const MAX_BYTES: u64 = 1024 * 1024;
/// A token without a key id may have to be tried with every key.
const MAX_KEYS: usize = 100;
/// Resolving, connecting, and the last byte of the answer.
const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// Where the keys of others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// An `https` address, or an `http` one of this machine.
    Url(String),
    /// A file.
    File(PathBuf),
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    File(#[source] std::io::Error),
    /// The address does not answer, or not in time.
    #[error("the address does not answer")]
    Unreachable(#[source] ureq::Error),
    /// It answers something else; redirects are not followed.
    #[error("the address answers {0}")]
    Status(u16),
    /// More than anybody's keys.
    #[error("the document is larger than 1 MiB")]
    TooLarge,
    /// The same.
    #[error("the document holds more than {MAX_KEYS} keys")]
    TooMany,
    /// HTML, for instance.
    #[error("the document is not a JWKS")]
    NotJwks(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl JwksSource {
    /// Reads the option: an address or a path.
    ///
    /// # Errors
    /// What it must be; continues a sentence that begins with the option.
    pub fn parse(got: &str) -> Result<Self, &'static str> {
        if !got.contains("://") {
            return Ok(Self::File(got.into()));
        }
        let uri: Uri = got.parse().map_err(|_| NOT_URL)?;
        let authority = uri.authority().ok_or(NOT_URL)?;
        if authority.as_str().contains('@') {
            return Err("must not hold a user name or password");
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self::Url(got.to_owned())),
            Some("http") if is_loopback(authority.host()) => Ok(Self::Url(got.to_owned())),
            Some("http") => Err(
                "must begin with https://, because who can change the keys on their way lets in whom they like; http:// \
                 only for this machine",
            ),
            _ => Err(NOT_URL),
        }
    }

    /// Fetches or reads the keys. Blocks for `FETCH_WITHIN` at most where it is an address.
    ///
    /// # Errors
    /// There are none, or not within the limits.
    pub fn read(&self) -> Result<Vec<VerifyingKey>, JwksError> {
        match self {
            Self::Url(url) => keys(&fetch(url)?, false),
            Self::File(path) => keys(&read(path)?, true),
        }
    }

    /// Whether keys of others may be secrets: not where others can read them.
    pub(super) fn may_hold_secrets(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// For logs: without the query, which may hold a secret.
impl fmt::Display for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url.split(['?', '#']).next().unwrap_or_default()),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

const NOT_URL: &str =
    "must be a path, or an address such as https://login.example/.well-known/jwks.json";

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

fn fetch(url: &str) -> Result<Vec<u8>, JwksError> {
    let mut answer = agent(url)
        .get(url)
        .header("accept", "application/jwk-set+json, application/json")
        .call()
        .map_err(JwksError::Unreachable)?;
    if answer.status() != 200 {
        return Err(JwksError::Status(answer.status().as_u16()));
    }
    let body = answer.body_mut().with_config().limit(MAX_BYTES);
    body.read_to_vec().map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => JwksError::TooLarge,
        error => JwksError::Unreachable(error),
    })
}

/// An agent of its own each time: what is asked every few minutes needs no connection kept open.
fn agent(url: &str) -> Agent {
    let provider = crate::tls::provider();
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .build();
    // What is not encrypted stays on this machine, whatever proxy the environment names.
    let proxy = url.starts_with("https").then(Proxy::try_from_env).flatten();
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(FETCH_WITHIN))
        .proxy(proxy)
        .tls_config(tls)
        .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, JwksError> {
    let file = File::open(path).map_err(JwksError::File)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(JwksError::File)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(JwksError::TooLarge);
    }
    Ok(bytes)
}

/// The keys of a document that are of use here; others are no mistake (RFC 7517, section 5).
fn keys(document: &[u8], may_be_secret: bool) -> Result<Vec<VerifyingKey>, JwksError> {
    let document: Document = serde_json::from_slice(document).map_err(JwksError::NotJwks)?;
    if document.keys.len() > MAX_KEYS {
        return Err(JwksError::TooMany);
    }
    let mut keys = Vec::with_capacity(document.keys.len());
    for value in document.keys {
        let read = serde_json::from_value::<Jwk>(value)
            .map_err(|_| (None, "is malformed"))
            .and_then(|jwk| {
                VerifyingKey::from_jwk(&jwk, may_be_secret).map_err(|why| (jwk.kid, why))
            });
        match read {
            Ok(key) => keys.push(key),
            Err((id, why)) => tracing::debug!(key.id = id, "a key of the JWKS {why}; not used"),
        }
    }
    Ok(keys)
}
