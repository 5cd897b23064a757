//! May this person enter? One race-free transaction, one verdict, before the upgrade.
//!
//! [`Admission::decide`] queues a join; the one worker takes what queued while its last commit ran, reads and locks the
//! facts, judges each join (`verdict`), reserves the seats and commits what is admitted. A resume whose seat is still
//! held asks no store at all.

mod access_token;
mod aside;
mod credential;
mod observe;
mod resume;
mod verdict;
pub(crate) mod words;
mod worker;

use std::{sync::Arc, time::Duration};

use rollcall_protocol::{ConnectionId, Problem, ProblemCode, RoomId, RoomView, Timestamp, UserId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

pub(crate) use self::{access_token::MIN_SECRET_BYTES, credential::bearer_token};
pub use self::{
    access_token::{
        AccessClaims, AccessTokens, JwksError, JwksRefresher, JwksSource, Rooms, VerifyingKey,
    },
    credential::{Credential, Query, hash},
    resume::{ResumeClaims, ResumeKey},
    verdict::Ask,
    worker::Worker,
};
use self::{verdict::Circumstances, worker::Join};
use crate::{
    chance,
    clock::Clock,
    flusher::Flusher,
    hub::{Entry, Full, Hub, Reservation},
    metrics::{Limit, Metrics},
    store::{RoomSettings, Store, StoreError},
    telemetry::chain,
};

/// A join is answered within this, whatever the store does (TARGETS.md: no join waits more than 3 s for its 503).
const DECIDE_WITHIN: Duration = Duration::from_millis(2500);
/// Between these, in seconds, a client is told to wait after a 503: thousands who are refused at once must not all ask again
/// at once, every second for as long as it lasts.
const RETRY_AFTER: (f64, f64) = (0.5, 4.0);

/// Decides joins. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    store: Arc<dyn Store>,
    flusher: Flusher,
    metrics: Arc<Metrics>,
    clock: Clock,
    tokens: AccessTokens,
    resume_key: ResumeKey,
    defaults: RoomSettings,
    queue: mpsc::Sender<Join>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

/// What admission works with.
#[derive(Debug)]
pub struct Parts {
    /// The live rooms.
    pub hub: Hub,
    /// The flusher, which goes before the first admission after an outage.
    pub flusher: Flusher,
    /// Where outcomes are counted.
    pub metrics: Arc<Metrics>,
    /// For the `exp` of access tokens.
    pub clock: Clock,
    /// Checks access tokens.
    pub tokens: AccessTokens,
    /// Checks and issues resume tokens.
    pub resume_key: ResumeKey,
    /// The settings of a room that an access token makes.
    pub defaults: RoomSettings,
    /// How many joins may wait; more are `overloaded`.
    pub queue: usize,
}

/// Somebody who may enter, with what is held for them.
#[derive(Debug)]
pub struct Admitted {
    /// The seat, or the place to watch from.
    pub entry: Entry,
    /// The connection whose resume token was brought.
    pub resumes: Option<ConnectionId>,
    /// The end of the access token, here and in resume tokens.
    pub token: Option<TokenEnd>,
    /// The access token's `sub`; a fresh token must have the same.
    pub user_id: Option<UserId>,
}

/// When an access token ends, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct TokenEnd {
    /// As the token says.
    pub at: Timestamp,
    /// For deadlines.
    pub deadline: Instant,
}

/// The connection that a fresh access token is for.
#[derive(Debug)]
pub struct Renewed {
    /// Whose it is; `None`: a guest's.
    pub user_id: Option<UserId>,
    /// Where it is.
    pub room_id: RoomId,
    /// Whether it has no seat.
    pub observes: bool,
}

impl Admission {
    /// Admission and the worker that must run for it to decide anything.
    pub fn new(store: Arc<dyn Store>, parts: Parts) -> (Self, Worker) {
        let (queue, joins) = mpsc::channel(parts.queue);
        let worker = Worker::new(
            Arc::clone(&store),
            parts.hub.clone(),
            parts.flusher.clone(),
            parts.defaults.clone(),
            joins,
        );
        let inner = Inner {
            hub: parts.hub,
            store,
            flusher: parts.flusher,
            metrics: parts.metrics,
            clock: parts.clock,
            tokens: parts.tokens,
            resume_key: parts.resume_key,
            defaults: parts.defaults,
            queue,
        };
        (
            Self {
                inner: Arc::new(inner),
            },
            worker,
        )
    }

    /// Checks what can be checked without the store: signatures, expiry, and that the token covers the room. Waits only for
    /// a key that an access token names and we do not have yet.
    pub async fn ask(&self, query: Query) -> Result<Ask, Problem> {
        match query.credential {
            Credential::Invite(token) => {
                let client_hash = query.client.as_deref().map(hash);
                Ok(Ask::Invite {
                    token_hash: hash(&token),
                    client_hash,
                    name: query.name,
                })
            }
            Credential::AccessToken(token) => {
                let claims = self.inner.tokens.check(&token).await?;
                let room_id = claims.room(query.room)?;
                let AccessClaims {
                    user_id,
                    name,
                    create,
                    observe,
                    keeps_last_seen,
                    expires_at,
                    ..
                } = claims;
                if observe {
                    return Ok(Ask::Observe {
                        room_id,
                        user_id,
                        expires_at,
                    });
                }
                Ok(Ask::User {
                    room_id,
                    user_id,
                    name,
                    create,
                    keeps_last_seen,
                    expires_at,
                })
            }
            Credential::Resume(token) => self.read_resume(&token).map(Ask::Resume),
        }
    }

    /// Checks a resume token.
    pub fn read_resume(&self, token: &str) -> Result<ResumeClaims, Problem> {
        let claims = self.inner.resume_key.read(token);
        let claims = claims.ok_or_else(|| {
            Problem::new(
                ProblemCode::CredentialInvalid,
                "The resume token is not valid.",
            )
        })?;
        if claims
            .expires_at
            .is_some_and(|end| end <= self.inner.clock.now())
        {
            return Err(Problem::new(
                ProblemCode::CredentialExpired,
                "The access token behind this resume token has expired.",
            ));
        }
        Ok(claims)
    }

    /// Issues a resume token.
    pub fn issue_resume(&self, claims: &ResumeClaims) -> String {
        self.inner.resume_key.issue(claims)
    }

    /// Checks and mints access tokens.
    pub fn tokens(&self) -> &AccessTokens {
        &self.inner.tokens
    }

    /// Decides a join and reserves the seat; the participant's row is committed when this returns `Ok` (rule R3). Of an
    /// observer nothing is written.
    ///
    /// # Errors
    /// The problem to answer with. After `store_unavailable` the commit may have happened all the same.
    ///
    /// # Cancel safety
    /// Dropped on the way, an admission that was committed ends as a departure.
    pub async fn decide(&self, ask: Ask) -> Result<Admitted, Problem> {
        let admitted = self.decide_uncounted(ask).await?;
        // Refusals are counted where they are answered: most come before this.
        self.inner.metrics.admitted(match &admitted.entry {
            Entry::Seat(seat) if seat.is_resumed() => "resumed",
            Entry::Seat(_) => "admitted",
            Entry::Watch(_) => "observing",
        });
        Ok(admitted)
    }

    async fn decide_uncounted(&self, ask: Ask) -> Result<Admitted, Problem> {
        if let Ask::Resume(claims) = &ask
            && let Some(held) = self.resume_held(claims)
        {
            return held.map(|reservation| self.seated(reservation, &ask, None));
        }
        if let Ask::Observe {
            room_id, user_id, ..
        } = &ask
        {
            let watch = self.observe(&ask, room_id, user_id).await?;
            return Ok(self.admitted(Entry::Watch(watch), &ask, Some(user_id.clone())));
        }
        let (answer, decided) = oneshot::channel();
        self.inner
            .queue
            .try_send(Join {
                ask: ask.clone(),
                answer,
            })
            .map_err(|_| {
                self.inner.metrics.limited(Limit::JoinQueue);
                overloaded()
            })?;
        match timeout(DECIDE_WITHIN, decided).await {
            Ok(Ok(Ok(seat))) => Ok(self.seated(seat.reservation, &ask, seat.user_id)),
            Ok(Ok(Err(problem))) => Err(problem),
            Ok(Err(_)) | Err(_) => Err(store_unavailable()),
        }
    }

    /// A held seat, unless the room has come to its end meanwhile.
    fn resume_held(&self, claims: &ResumeClaims) -> Option<Result<Reservation, Problem>> {
        let held = self
            .inner
            .hub
            .resume(claims.room, claims.participant, claims.removals)?;
        Some(held.map_err(refuse_full))
    }

    fn seated(&self, reservation: Reservation, ask: &Ask, user_id: Option<UserId>) -> Admitted {
        let user_id = user_id.or_else(|| reservation.user_id());
        self.admitted(Entry::Seat(reservation), ask, user_id)
    }

    fn admitted(&self, entry: Entry, ask: &Ask, user_id: Option<UserId>) -> Admitted {
        let (resumes, ends) = match ask {
            Ask::Invite { .. } => (None, None),
            Ask::User { expires_at, .. } | Ask::Observe { expires_at, .. } => {
                (None, Some(*expires_at))
            }
            // A fresh token since then counts for whoever has the seat.
            Ask::Resume(claims) => (
                Some(claims.connection),
                claims.expires_at.max(entry.vouched_until()),
            ),
        };
        Admitted {
            entry,
            resumes,
            token: ends.map(|at| self.token_end(at)),
            user_id,
        }
    }

    fn token_end(&self, at: Timestamp) -> TokenEnd {
        let deadline = Instant::now() + self.inner.clock.until(at).min(FAR);
        TokenEnd { at, deadline }
    }

    /// The end of a fresh access token, if it is good for a connection that is there already. Waits as [`ask`](Self::ask)
    /// does.
    ///
    /// # Errors
    /// The problem with the token.
    pub async fn renew(self, token: String, renewed: Renewed) -> Result<TokenEnd, Problem> {
        let claims = self.inner.tokens.check(&token).await?;
        if renewed.user_id.as_ref() != Some(&claims.user_id) {
            return Err(Problem::new(
                ProblemCode::CredentialInvalid,
                "The fresh access token is another user's.",
            ));
        }
        if renewed.observes != claims.observe {
            let detail = if claims.observe {
                "The fresh access token is for observing only."
            } else {
                "The fresh access token is not for observing."
            };
            return Err(Problem::new(ProblemCode::CredentialInvalid, detail));
        }
        claims.room(Some(renewed.room_id))?;
        Ok(self.token_end(claims.expires_at))
    }

    /// The verdict that [`decide`](Self::decide) would give now; changes nothing.
    pub async fn look(&self, ask: &Ask) -> Result<RoomView, Problem> {
        if let Ask::Resume(claims) = ask
            && let Some(row) = self.inner.hub.row(claims.room)
            && self.resume_held(claims).transpose()?.is_some()
        {
            return Ok(row.view());
        }
        if self.inner.flusher.is_behind() {
            return Err(store_unavailable());
        }
        let found = timeout(DECIDE_WITHIN, self.inner.store.facts(&ask.identity())).await;
        let (now, facts) = found
            .map_err(|_| store_unavailable())?
            .map_err(|error| store_problem(&error))?;
        let hub = &self.inner.hub;
        if let Ask::Observe { user_id, .. } = ask {
            let row = self.judge_observer(&facts, now)?;
            let admitted = hub.admits_observer(row.key, user_id);
            return admitted.map(|()| row.view()).map_err(refuse_full);
        }
        let at = Circumstances {
            now,
            is_live: &|key| hub.is_live(key),
            departed_last_seen: &|key| hub.departed_last_seen(key),
            uses_before: &|_| 0,
            defaults: &self.inner.defaults,
        };
        let plan = verdict::judge(ask, &facts, &at)?;
        match &plan.row {
            Some(row) => hub
                .admits(row, plan.id)
                .map(|()| row.view())
                .map_err(refuse_full),
            None => hub
                .has_space()
                .map(|()| worker::unborn(&plan, now))
                .map_err(refuse_full),
        }
    }
}

/// Instants further away than this overflow timers; a token of ten years is checked again after one.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The refusal of a full room.
fn refuse_full(full: Full) -> Problem {
    match full {
        Full::Rooms => overloaded(),
        Full::Room => Problem::new(ProblemCode::RoomFull, "This room is full."),
        Full::Connections => Problem::new(
            ProblemCode::TooManyConnections,
            "You have too many connections to this room open already.",
        ),
        Full::Over => verdict::too_old(),
    }
}

fn overloaded() -> Problem {
    Problem::new(
        ProblemCode::Overloaded,
        "The server is busy. Please try again in a moment.",
    )
    .retry_after(retry_after())
}

fn retry_after() -> Duration {
    let (soonest, latest) = RETRY_AFTER;
    Duration::from_secs_f64(chance::between(soonest, latest))
}

/// The refusal while the store cannot say yes.
pub fn store_unavailable() -> Problem {
    let detail = "The server cannot reach its database. Please try again in a moment.";
    Problem::new(ProblemCode::StoreUnavailable, detail).retry_after(retry_after())
}

/// The refusal while another node serves this database.
pub fn standby() -> Problem {
    let detail = "Another server is in charge of this database; this one waits for it to stop.";
    Problem::new(ProblemCode::StoreUnavailable, detail).retry_after(retry_after())
}

/// The refusal while the server goes away.
pub fn draining() -> Problem {
    let detail = "The server is restarting. Please try again in a moment.";
    Problem::new(ProblemCode::Draining, detail).retry_after(retry_after())
}

/// The answer to a failed store call; the cause is logged where it is handled.
pub fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) | StoreError::Locked(_) => {
            tracing::debug!(
                error = %chain(error),
                "the store is unavailable"
            );
            store_unavailable()
        }
        // The flusher says it, and ends the node.
        StoreError::Superseded => standby(),
        StoreError::Broken(_) => {
            tracing::error!(
                error = %chain(error),
                "the store answered unexpectedly"
            );
            Problem::new(ProblemCode::Internal, "Something went wrong on the server.")
        }
    }
}
