//! What a client may say, how much of it, and what comes of it.

use std::pin::Pin;

use futures::FutureExt;
use rollcall_protocol::{
    BAD_MESSAGES_PER_MINUTE, ClientMessage, ErrorCode, Inbound, MessageLimits, Problem,
    ProblemCode, Ref, ServerMessage,
};
use tokio::time::Instant;

use super::{Client, Deps, Renewal};
use crate::{
    admission::{Renewed, TokenEnd},
    config::Limits,
    hub::{Ending, OwnSeat, Refused},
    metrics::Limit,
};

/// Counts what one connection sends. Times are microseconds since it came, which takes half the memory.
#[derive(Debug)]
pub(super) struct Inbox {
    began: Instant,
    /// Generic cell rate: when the bucket of messages would be full again.
    full_at: u64,
    /// The same of bytes.
    bytes_full_at: u64,
    free_heartbeat_at: u64,
    bad_since: u64,
    refused: u32,
    bad: u32,
}

/// Messages refused in a row after which the connection is closed with 4429: a client that does not hear.
const REFUSALS_IN_A_ROW: u32 = 1_000;
/// One heartbeat a second is free.
const FREE_HEARTBEAT_EVERY: u64 = SECOND;
/// So much time's worth of bytes may come at once after quiet.
const BYTES_BURST: u64 = 2 * SECOND;
const NO_SEAT: &str = "an observer has no seat: it may send \"heartbeat\", \"token\" and \"leave\"";
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            full_at: 0,
            bytes_full_at: 0,
            free_heartbeat_at: 0,
            bad_since: 0,
            refused: 0,
            bad: 0,
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Takes a text message; answers what to say, if anything.
    pub(super) fn take_text(
        &mut self,
        client: &mut Client,
        text: &str,
    ) -> Result<Option<ServerMessage>, Ending> {
        let limits = &client.deps.config.limits;
        let decoded = ClientMessage::decode(text, &message_limits(limits));
        let is_free = match decoded.as_ref().map(|inbound| &inbound.message) {
            Ok(ClientMessage::Heartbeat) => self.take_free_heartbeat(),
            // Nothing comes after it, and everybody else would wait out the grace without it.
            Ok(ClientMessage::Leave) => true,
            _ => false,
        };
        if let Err(limit) = self.take_message(limits, text.len(), is_free) {
            client.deps.metrics.limited(limit);
            let reference = match decoded {
                Ok(inbound) => inbound.reference,
                Err(rejected) => rejected.reference,
            };
            return self.refuse(reference);
        }
        self.refused = 0;
        match decoded {
            Ok(inbound) => Ok(client.carry_out_message(inbound)?),
            Err(rejected) => {
                if rejected.code == ErrorCode::BadMessage {
                    self.count_bad()?;
                }
                Ok(Some(error(
                    rejected.code,
                    rejected.detail,
                    rejected.reference,
                )))
            }
        }
    }

    /// Binary messages are not part of the protocol.
    pub(super) fn take_binary(
        &mut self,
        deps: &Deps,
        size: usize,
    ) -> Result<Option<ServerMessage>, Ending> {
        if let Err(limit) = self.take_message(&deps.config.limits, size, false) {
            deps.metrics.limited(limit);
            return self.refuse(None);
        }
        self.count_bad()?;
        Ok(Some(error(
            ErrorCode::BadMessage,
            "binary messages are not understood; send JSON text",
            None,
        )))
    }

    /// Pings and Pongs count as messages too, but nobody is told: a flood of them ends the connection.
    pub(super) fn take_control(&mut self, deps: &Deps, size: usize) -> Result<(), Ending> {
        match self.take_message(&deps.config.limits, size, false) {
            Ok(()) => {
                self.refused = 0;
                Ok(())
            }
            Err(limit) => {
                deps.metrics.limited(limit);
                self.refuse(None).map(|_| ())
            }
        }
    }

    fn take_free_heartbeat(&mut self) -> bool {
        let now = self.now();
        let is_free = now >= self.free_heartbeat_at;
        if is_free {
            self.free_heartbeat_at = now + FREE_HEARTBEAT_EVERY;
        }
        is_free
    }

    /// Counts a message and its bytes; a free one costs its bytes only.
    fn take_message(&mut self, limits: &Limits, size: usize, is_free: bool) -> Result<(), Limit> {
        let now = self.now();
        let per_message = SECOND / u64::from(limits.messages_per_second.max(1));
        let full_at = self.full_at.max(now) + per_message;
        if !is_free && full_at > now + per_message * u64::from(limits.message_burst.max(1)) {
            return Err(Limit::Messages);
        }
        let worth = |per_second: u64| size as u64 * SECOND / per_second.max(1);
        let bytes_full_at = self.bytes_full_at.max(now) + limits.bytes_per_second.map_or(0, worth);
        if bytes_full_at > now + BYTES_BURST {
            return Err(Limit::Bytes);
        }
        self.bytes_full_at = bytes_full_at;
        if !is_free {
            self.full_at = full_at;
        }
        Ok(())
    }

    fn refuse(&mut self, reference: Option<Ref>) -> Result<Option<ServerMessage>, Ending> {
        self.refused += 1;
        if self.refused >= REFUSALS_IN_A_ROW {
            return Err(Ending::RateLimited);
        }
        Ok(Some(error(
            ErrorCode::RateLimited,
            "too many messages, or too large; this one was dropped",
            reference,
        )))
    }

    fn count_bad(&mut self) -> Result<(), Ending> {
        let now = self.now();
        if now - self.bad_since >= MINUTE {
            (self.bad, self.bad_since) = (0, now);
        }
        self.bad += 1;
        if self.bad >= BAD_MESSAGES_PER_MINUTE {
            Err(Ending::BadMessages)
        } else {
            Ok(())
        }
    }
}

impl Client {
    fn carry_out_message(&mut self, inbound: Inbound) -> Result<Option<ServerMessage>, Ending> {
        let reference = inbound.reference;
        Ok(match inbound.message {
            ClientMessage::Heartbeat => Some(ServerMessage::HeartbeatAck {
                server_time: self.place.now(),
            }),
            ClientMessage::Leave => return Err(Ending::Left),
            ClientMessage::Update { status, state } => self.with_seat(reference, |seat| {
                seat.update(status, state).map_err(|_| {
                    let limit = self.deps.config.limits.state_bytes;
                    let detail = format!("the state would be larger than {limit} bytes");
                    (ErrorCode::StateTooLarge, detail)
                })
            }),
            ClientMessage::Broadcast { event, payload, to } => self.with_seat(reference, |seat| {
                seat.broadcast(event, payload, to).map_err(|refused| {
                    if matches!(refused, Refused::Budget(_)) {
                        self.deps.metrics.limited(Limit::Fanout);
                    }
                    refuse_broadcast(refused)
                })
            }),
            ClientMessage::Token { token } => self.check_token(token, reference),
        })
    }

    /// Does what only somebody with a seat may do; answers the error, if there is one.
    fn with_seat(
        &self,
        reference: Option<Ref>,
        act: impl FnOnce(OwnSeat<'_>) -> Result<(), (ErrorCode, String)>,
    ) -> Option<ServerMessage> {
        let no_seat = || (ErrorCode::NoSeat, NO_SEAT.to_owned());
        let done = self.place.seat().ok_or_else(no_seat).and_then(act);
        done.err()
            .map(|(code, detail)| error(code, detail, reference))
    }

    /// Begins to check a fresh access token, which may have to wait for its key. Nobody waits with it.
    fn check_token(&mut self, token: String, reference: Option<Ref>) -> Option<ServerMessage> {
        if self.renewal.is_some() {
            return Some(error(
                ErrorCode::RateLimited,
                "the access token before this one is still being checked",
                reference,
            ));
        }
        let connection = Renewed {
            user_id: self.user_id.clone(),
            room_id: self.place.room_id(),
            observes: self.place.seat().is_none(),
        };
        let check = self.deps.admission.clone().renew(token, connection);
        let mut check: Pin<Box<Renewal>> = Box::pin(check.map(|ends| (ends, reference)));
        match check.as_mut().now_or_never() {
            Some(checked) => self.renew(checked),
            None => {
                self.renewal = Some(check);
                None
            }
        }
    }

    /// Takes in what came of a fresh access token; the old one stays if it is refused.
    pub(super) fn renew(
        &mut self,
        (checked, reference): (Result<TokenEnd, Problem>, Option<Ref>),
    ) -> Option<ServerMessage> {
        self.renewal = None;
        match checked {
            Ok(ends) => {
                self.place.renew_token(ends.at, ends.deadline);
                self.token = Some(ends);
                None
            }
            Err(problem) => {
                let code = match problem.code {
                    // To be sent again in a moment, like what came too fast.
                    ProblemCode::KeysUnavailable => ErrorCode::RateLimited,
                    _ => ErrorCode::CredentialInvalid,
                };
                Some(error(code, problem.detail, reference))
            }
        }
    }
}

fn message_limits(limits: &Limits) -> MessageLimits {
    MessageLimits {
        message_bytes: limits.message_bytes,
        state_bytes: limits.state_bytes,
        ..MessageLimits::default()
    }
}

fn refuse_broadcast(refused: Refused) -> (ErrorCode, String) {
    match refused {
        Refused::Stranger(id) => {
            let detail = format!("{id} is not in this room");
            (ErrorCode::UnknownParticipant, detail)
        }
        Refused::Budget(wait) => {
            let detail = format!(
                "the room sends as much as it may; try again in {} ms",
                wait.as_millis().max(1)
            );
            (ErrorCode::RateLimited, detail)
        }
    }
}

fn error(code: ErrorCode, detail: impl Into<String>, reference: Option<Ref>) -> ServerMessage {
    ServerMessage::Error {
        code,
        detail: detail.into(),
        reference,
    }
}
