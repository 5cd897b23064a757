//! What a request to enter carries, resume tokens, and the pages of lists.

use std::{cell::OnceCell, sync::Arc};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::BodyExt;
use rollcall::{
    admission::{Credential, Query, ResumeKey},
    doors::Doors,
    http,
};
use rollcall_protocol::{BEARER_PREFIX, ProblemCode, RESUME_PREFIX, SUBPROTOCOL};
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};
use tower::ServiceExt;

use crate::stage::{Stage, config, paused};

/// Longer is no credential.
const CREDENTIAL_BYTES: usize = 8 * 1024;
/// A shorter text may well be a piece of what every refusal of its kind says.
const TELLING: usize = 100;
/// What a resume token holds before its signature.
const RESUME_BODY: usize = 49;
const RESUME_SECRET: [u8; 32] = [7; 32];
/// Lists with pages.
const LISTS: [&str; 4] = [
    "/v1/rooms",
    "/v1/rooms/room/participants",
    "/v1/rooms/room/presence",
    "/v1/rooms/room/invites",
];

/// The first byte says what the rest is: `R` what a resume token is to say, `T` the text of one, `P` a page of a list, `C` a
/// cursor; anything else is a query in the first line, and headers in those that follow.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((b'R', body)) => check_signed(body),
        Some((b'T', token)) => {
            check_resume(&String::from_utf8_lossy(token));
        }
        Some((b'P', query)) => check_pages(&String::from_utf8_lossy(query)),
        Some((b'C', cursor)) => {
            check_pages(&format!(
                "limit=1&cursor={}",
                URL_SAFE_NO_PAD.encode(cursor)
            ));
        }
        _ => check_entry(data),
    }
}

/// What is signed with the key is read if its layout is the one we write, and then says what was written.
fn check_signed(body: &[u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &RESUME_SECRET);
    let tag = hmac::sign(&key, body);
    let token = URL_SAFE_NO_PAD.encode([body, tag.as_ref()].concat());
    let read = check_resume(&token);
    assert_eq!(read, body.len() == RESUME_BODY && body[0] == 1, "{body:?}");
}

/// Whether a token was read; then one issued for the same is read as the same.
fn check_resume(token: &str) -> bool {
    let key = ResumeKey::new(&RESUME_SECRET);
    let read = key.read(token);
    if let Some(claims) = &read {
        assert_eq!(key.read(&key.issue(claims)).as_ref(), Some(claims));
    }
    read.is_some()
}

fn check_entry(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let query = lines.next().unwrap_or_default();
    let query = String::from_utf8_lossy(query);
    let headers = headers(lines);
    let model = Model::read(&query, &headers);
    match Query::parse(Some(&query), &headers) {
        Ok(parsed) => {
            assert!(model.is_good(), "{query:?} {headers:?} gave {parsed:?}");
            let (kind, value) = match &parsed.credential {
                Credential::Invite(value) => ("invite", value),
                Credential::AccessToken(value) => ("token", value),
                Credential::Resume(value) => ("resume", value),
            };
            assert_eq!(model.credentials, [(kind, value.clone())]);
            assert_eq!(
                parsed.name.map(|name| name.as_str().to_owned()),
                model.names.first().map(|name| name.trim().to_owned())
            );
            assert_eq!(parsed.client, model.clients.first().cloned());
            assert_eq!(
                parsed.room.map(|room| room.as_str().to_owned()),
                model.rooms.first().cloned()
            );
        }
        Err(problem) => {
            assert!(!model.is_good(), "{query:?} {headers:?}: {problem:?}");
            assert!(matches!(
                problem.code,
                ProblemCode::BadRequest
                    | ProblemCode::CredentialMissing
                    | ProblemCode::UnsupportedProtocol
            ));
            assert!(problem.detail.len() <= 256, "{}", problem.detail);
            for (_, secret) in &model.credentials {
                let is_told = secret.len() >= TELLING && problem.detail.contains(secret.as_str());
                assert!(!is_told, "{} repeats a credential", problem.detail);
            }
        }
    }
}

/// The headers that a request to enter is read from.
fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name = match name {
            b"p" => Ok(header::SEC_WEBSOCKET_PROTOCOL),
            b"a" => Ok(header::AUTHORIZATION),
            name => HeaderName::from_bytes(name),
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// What the protocol's text says of a request to enter, read in the plainest way.
#[derive(Debug, Default)]
struct Model {
    credentials: Vec<(&'static str, String)>,
    names: Vec<String>,
    clients: Vec<String>,
    rooms: Vec<String>,
    offers: usize,
    is_v1: bool,
    is_malformed: bool,
}

impl Model {
    fn read(query: &str, headers: &HeaderMap) -> Self {
        let mut model = Self::default();
        for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
            match value.to_str() {
                Ok(value) => value.split(',').for_each(|offer| model.offer(offer.trim())),
                Err(_) => model.is_malformed = true,
            }
        }
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match decode(key).as_str() {
                "invite" => model.credentials.push(("invite", value)),
                "token" => model.credentials.push(("token", value)),
                "resume" => model.credentials.push(("resume", value)),
                "name" => model.names.push(value),
                "client" => model.clients.push(value),
                "room" => model.rooms.push(value),
                _ => {}
            }
        }
        for value in headers.get_all(header::AUTHORIZATION) {
            let value = value.to_str().ok();
            match value.and_then(|value| value.split_once(' ')) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                    model.credentials.push(("token", token.trim().to_owned()));
                }
                _ => model.is_malformed = true,
            }
        }
        model
    }

    fn offer(&mut self, offer: &str) {
        self.offers += usize::from(!offer.is_empty());
        self.is_v1 |= offer == SUBPROTOCOL;
        if let Some(token) = offer.strip_prefix(BEARER_PREFIX) {
            self.credentials.push(("token", token.to_owned()));
        } else if let Some(token) = offer.strip_prefix(RESUME_PREFIX) {
            self.credentials.push(("resume", token.to_owned()));
        }
    }

    fn is_good(&self) -> bool {
        let is_room = |room: &String| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.:@|-".contains(c);
            (1..=128).contains(&room.len()) && room.chars().all(is_allowed)
        };
        let is_name = |name: &String| {
            let name = name.trim();
            (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        };
        let is_credential =
            |(_, value): &(_, String)| (1..=CREDENTIAL_BYTES).contains(&value.len());
        !self.is_malformed
            && (self.offers == 0 || self.is_v1)
            && self.credentials.len() == 1
            && self.credentials.iter().all(is_credential)
            && [&self.names, &self.clients, &self.rooms]
                .iter()
                .all(|given| given.len() <= 1)
            && self.names.iter().all(is_name)
            && self.rooms.iter().all(is_room)
            && self
                .clients
                .iter()
                .all(|client| (16..=64).contains(&client.chars().count()))
    }
}

/// Form decoding: plus is a space, `%XX` a byte; what is no UTF-8 is replaced.
fn decode(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let high = digit(bytes.get(at + 1));
        match (byte, high, digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) => decoded.push(b' '),
            (byte, ..) => decoded.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

thread_local! {
    /// Made once: nothing that is asked here changes it.
    static API: OnceCell<(Runtime, Stage, Router)> = const { OnceCell::new() };
}

/// Whatever a page is asked by, the answer is a list or says what is wrong with the question.
fn check_pages(query: &str) {
    API.with(|api| {
        let (runtime, _, router) = api.get_or_init(|| {
            let runtime = paused();
            let stage = runtime.block_on(Stage::set(config()));
            let listen = stage.node.config.listen;
            let node = &stage.node;
            let doors = Doors::new(&node.config, None, Arc::clone(&node.metrics));
            let router =
                runtime.block_on(async { http::router(node, doors, listen, Handle::current()) });
            (runtime, stage, router)
        });
        for list in LISTS {
            if let Ok(uri) = format!("{list}?{query}").parse::<Uri>() {
                runtime.block_on(check_page(router.clone(), uri));
            }
        }
    });
}

async fn check_page(router: Router, uri: Uri) {
    let request = Request::get(&uri).header(header::HOST, "localhost");
    let request = request.body(Body::empty()).expect("a request");
    let Ok(response) = router.oneshot(request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole body");
    let body: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    match status {
        200 => assert!(body["items"].is_array(), "{uri}: {body}"),
        400 => assert_eq!(body["code"], "bad_request", "{uri}"),
        _ => panic!("{uri}: {status} {body}"),
    }
}
