//! What is not a client: each senseless connection must get the right word, and none may do harm.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{doors::ODD_HOST, stage::Stage};
use crate::{
    chance::Chance,
    fault::Fault,
    message::Message,
    scenario::{Flood, Garbage},
    wire::{Entry, Opcode, Route, Socket},
};

/// A server that has no word for anything within this time has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Random bytes of one connection, at most.
const BYTES: usize = 2048;
/// Larger than a message may be.
const OVERSIZE: usize = 17 * 1024;
/// So many messages that are none end a connection.
const BAD_MESSAGES: usize = 20;

/// Requests that are nearly a handshake: what is wrong with them, and what they get.
const HANDSHAKES: [(&str, &str, &str, u16, &str); 7] = [
    ("GET", "", FULL, 401, "credential_missing"),
    ("GET", "?invite=a&resume=b", FULL, 400, "bad_request"),
    ("GET", "?token=a.b.c", FULL, 401, "credential_invalid"),
    ("GET", "?resume=nothing", FULL, 401, "credential_invalid"),
    (
        "GET",
        "?invite=AAAAAAAAAAAAAAAAAAAAAA",
        FULL,
        404,
        "invite_not_found",
    ),
    (
        "GET",
        "?invite=AAAAAAAAAAAAAAAAAAAAAA",
        OTHER,
        400,
        "unsupported_protocol",
    ),
    (
        "GET",
        "?invite=AAAAAAAAAAAAAAAAAAAAAA",
        BARE,
        426,
        "upgrade_missing",
    ),
];
const FULL: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const OTHER: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other.v9\r\n";
const BARE: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// Frames that RFC 6455 forbids, and the close codes they may get.
const FRAMES: [(&[u8], &[u16]); 4] = [
    // A reserved bit.
    (&[0xc1, 0x80, 0, 0, 0, 0], &[1002]),
    // Without a mask.
    (&[0x81, 0x02, b'h', b'i'], &[1002]),
    // An opcode that is none.
    (&[0x83, 0x80, 0, 0, 0, 0], &[1002]),
    // Text that is not UTF-8.
    (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], &[1007]),
];

/// Lets them come for as long as the phase lasts, at an even rate; `began` is when the run did.
pub(super) async fn pour(stage: Arc<Stage>, at: usize, tickets: Arc<Vec<String>>, began: Instant) {
    let flood: Flood = stage.scenario.floods[at].clone();
    let phase = stage.scenario.phase(flood.phase.get_ref()).unwrap_or(0);
    let span = stage.scenario.span(phase);
    let count = (span.end - span.start).as_secs_f64() * flood.per_second;
    let mut chance = Chance::of(at as u64);
    let mut under_way = JoinSet::new();
    for one in 0..count as usize {
        let due = Duration::from_secs_f64(one as f64 / flood.per_second);
        sleep_until(began + span.start + due).await;
        while under_way.try_join_next().is_some() {}
        let kind = flood.kinds.draw(&mut chance);
        let (stage, tickets) = (Arc::clone(&stage), Arc::clone(&tickets));
        let chance = Chance::of((at as u64) << 32 | one as u64);
        under_way.spawn(async move { try_one(&stage, kind, &tickets, chance).await });
    }
    while under_way.join_next().await.is_some() {}
}

async fn try_one(stage: &Stage, kind: Garbage, tickets: &[String], mut chance: Chance) {
    stage.books.count("flood_attempts");
    let route = Route::toward(stage.to, ODD_HOST - 1 - chance.below(2) as u8);
    let ticket = &tickets[chance.below(tickets.len())];
    let attempt = async {
        match kind {
            Garbage::Bytes => bytes(&route, &mut chance).await,
            Garbage::Handshake => handshake(&route, &mut chance).await,
            Garbage::Messages => messages(&route, ticket).await,
            Garbage::Oversize => oversize(&route, ticket).await,
            Garbage::Frame => frame(&route, ticket, &mut chance).await,
        }
    };
    match timeout(PATIENCE, attempt).await {
        Ok(Ok(())) => stage.books.count("flood_answered"),
        Ok(Err(error)) => stage.fault(Fault::Misjudged, format!("{kind:?}: {error:#}")),
        Err(_) => stage.fault(Fault::Unanswered, format!("{kind:?} within {PATIENCE:?}")),
    }
}

/// Random bytes, and the end of a head, so that there is something to judge.
async fn bytes(route: &Route, chance: &mut Chance) -> anyhow::Result<()> {
    let mut noise: Vec<u8> = (0..=chance.below(BYTES))
        .map(|_| chance.below(256) as u8)
        .collect();
    noise.extend(b"\r\n\r\n");
    let mut stream = route.connect().await.context("cannot connect")?;
    // It may be refused before it is all there.
    let _ = stream.write_all(&noise).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let is_refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
    anyhow::ensure!(
        is_refused,
        "answered with {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

async fn handshake(route: &Route, chance: &mut Chance) -> anyhow::Result<()> {
    let (method, query, head, status, code) = HANDSHAKES[chance.below(HANDSHAKES.len())];
    let mut stream = route.connect().await.context("cannot connect")?;
    let request = format!(
        "{method} /v1/connect{query} HTTP/1.1\r\nHost: {}\r\n{head}\r\n",
        route.to
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let expected = format!("\"code\":\"{code}\"");
    // The connection may be kept: up to the code is enough.
    while !String::from_utf8_lossy(&answer).contains(&expected) {
        let read = stream.read_buf(&mut answer).await?;
        anyhow::ensure!(read > 0, "{query}: {}", String::from_utf8_lossy(&answer));
    }
    let line = format!("HTTP/1.1 {status}");
    anyhow::ensure!(
        answer.starts_with(line.as_bytes()),
        "{code} without {status}"
    );
    Ok(())
}

/// Enters as it should be done, to misbehave then.
async fn enter(route: &Route, ticket: &str) -> anyhow::Result<Socket> {
    match Socket::enter(route, ticket).await? {
        Entry::Open(mut socket) => {
            let welcome = socket.receive().await?;
            welcome.context("closed before the welcome")?;
            Ok(socket)
        }
        Entry::Refused(refusal) => anyhow::bail!("{refusal:?}"),
    }
}

async fn messages(route: &Route, ticket: &str) -> anyhow::Result<()> {
    let mut socket = enter(route, ticket).await?;
    for _ in 0..BAD_MESSAGES {
        // It may be closed before the last.
        let _ = socket.say("{\"type\":").await;
    }
    let (code, errors) = ending(&mut socket).await?;
    anyhow::ensure!(
        code == 4400 && errors > 0,
        "closed with {code} after {errors} errors"
    );
    Ok(())
}

async fn oversize(route: &Route, ticket: &str) -> anyhow::Result<()> {
    let mut socket = enter(route, ticket).await?;
    let _ = socket.say(&"x".repeat(OVERSIZE)).await;
    let (code, _) = ending(&mut socket).await?;
    anyhow::ensure!(code == 1009, "closed with {code}");
    Ok(())
}

async fn frame(route: &Route, ticket: &str, chance: &mut Chance) -> anyhow::Result<()> {
    let mut socket = enter(route, ticket).await?;
    let (bytes, codes) = FRAMES[chance.below(FRAMES.len())];
    socket.send_raw(bytes).await?;
    let (code, _) = ending(&mut socket).await?;
    anyhow::ensure!(
        codes.contains(&code),
        "{bytes:02x?}: closed with {code}, not {codes:?}"
    );
    Ok(())
}

/// Reads up to the close: its code, and how often a message was said to be none.
async fn ending(socket: &mut Socket) -> anyhow::Result<(u16, usize)> {
    let mut errors = 0;
    loop {
        let frame = socket.receive().await?;
        let frame = frame.context("the connection ended without a close")?;
        match frame.opcode {
            Opcode::Close => return Ok((frame.close_code(), errors)),
            Opcode::Text => {
                let message = Message::read(&frame.payload)?;
                errors += usize::from(message.code.as_deref() == Some("bad_message"));
            }
            _ => {}
        }
    }
}
