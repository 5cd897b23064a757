//! A room's life: made, lived in, then deleted under its people or left to the reaper; and the next in its place.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{IDLE, Scene, guest, ledger::Ledger, score::Deed};
use crate::{api::Api, chance::Chance, client::Order, fault::Fault};

/// How long a room lasts.
const LASTS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(40));
/// People stay a little longer in a room that is deleted, and so are in it.
const OUTSTAY: Duration = Duration::from_secs(20);
/// Of access tokens: one longer than any room lasts, and the shortest.
const TOKEN_LASTS: Duration = Duration::from_secs(3600);
const TOKEN_SOON_OVER: Duration = Duration::from_secs(1);
/// When a token of a second has expired for certain.
const TOKEN_OVER: Duration = Duration::from_secs(3);
/// When a room that was left to the reaper refuses for certain: the last silent connection, its grace, the idle timeout.
const REFUSES: Duration = Duration::from_secs(20);

/// A room with people in it.
#[derive(Debug)]
pub(super) struct Room {
    /// What lets each of its people in.
    pub tickets: Vec<Ticket>,
    /// What must not let anybody in.
    pub wrong: Vec<Wrong>,
    pub ledger: Ledger,
    /// When its people are to go; those of a room that is deleted do not.
    pub ends_at: Instant,
    /// The deletion has been asked for.
    is_closing: AtomicBool,
    orders: watch::Sender<Order>,
}

/// What lets somebody in, again and again as the same participant.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub query: String,
    pub deed: Deed,
}

/// A credential that is refused.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    pub query: String,
    pub code: &'static str,
    /// Not before.
    pub from: Instant,
}

impl Room {
    /// Whether its people should be gone, or are about to be closed.
    pub(super) fn is_over(&self) -> bool {
        self.is_closing() || Instant::now() >= self.ends_at
    }

    /// Whether it is being deleted: whatever it says to joins now is right.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Orders that never come, for as long as the room lasts.
    pub(super) fn orders(&self) -> watch::Receiver<Order> {
        self.orders.subscribe()
    }
}

/// Keeps these people in one room after another until a time.
pub(super) async fn keep(scene: Arc<Scene>, people: Range<usize>, until: Instant) {
    if let Err(error) = keep_on(&scene, people, until).await {
        let text = format!("a room could not be kept: {error:#}");
        scene.tally.fault(Fault::Unanswered, text);
    }
}

async fn keep_on(scene: &Arc<Scene>, people: Range<usize>, until: Instant) -> anyhow::Result<()> {
    let mut api = Api::connect(scene.route.to).await?;
    let mut old_invite = None;
    while Instant::now() < until {
        let number = scene.next_room();
        let mut chance = Chance::of(number as u64);
        let is_deleted = chance.below(2) == 0;
        let ends_at = until.min(Instant::now() + chance.between(LASTS.0, LASTS.1));
        let id = scene.names.room(number);
        let settings = match is_deleted {
            true => json!({ "id": id }),
            false => json!({ "id": id, "idle_timeout_seconds": IDLE.as_secs() }),
        };
        let invite = api.make_room_of(settings).await?;
        scene.score.add(Deed::MakeRoom);
        let room = Arc::new(Room {
            tickets: tickets(scene, &mut api, &id, &invite, people.clone()).await?,
            wrong: wrong(&mut api, &id, old_invite.take()).await?,
            ledger: Ledger::default(),
            ends_at: if is_deleted {
                ends_at + OUTSTAY
            } else {
                ends_at
            },
            is_closing: AtomicBool::new(false),
            orders: watch::Sender::new(Order::Stay),
        });
        let mut guests = JoinSet::new();
        for at in 0..people.len() {
            let seed = (number * people.len() + at) as u64;
            guests.spawn(guest::visit(Arc::clone(scene), Arc::clone(&room), at, seed));
        }
        sleep_until(ends_at).await;
        let refuses_from = if is_deleted {
            room.is_closing.store(true, Ordering::SeqCst);
            api.close_room(&id).await?;
            scene.score.add(Deed::DeleteRoom);
            Instant::now()
        } else {
            scene.score.add(Deed::LeaveRoomToReaper);
            ends_at + REFUSES
        };
        let gone = async { while guests.join_next().await.is_some() {} };
        if tokio::time::timeout_at(ends_at + OUTSTAY, gone)
            .await
            .is_err()
        {
            let text = format!("{} are still in {id} after its end", guests.len());
            scene.tally.fault(Fault::Unanswered, text);
        }
        old_invite = Some(Wrong {
            query: scene.names.guest(&invite, people.start),
            code: "invite_expired",
            from: refuses_from,
        });
    }
    Ok(())
}

/// Every other by the invite, the rest by an access token each.
async fn tickets(
    scene: &Scene,
    api: &mut Api,
    id: &str,
    invite: &str,
    people: Range<usize>,
) -> anyhow::Result<Vec<Ticket>> {
    let mut tickets = Vec::new();
    for person in people {
        tickets.push(if person % 2 == 0 {
            Ticket {
                query: scene.names.guest(invite, person),
                deed: Deed::JoinByInvite,
            }
        } else {
            let user = format!("user-{person}");
            let token = api.mint(id, &user, TOKEN_LASTS).await?;
            Ticket {
                query: format!("token={token}"),
                deed: Deed::JoinByToken,
            }
        });
    }
    Ok(tickets)
}

/// An invite that never was, a resume token that is none, an access token that has expired, and an invite into a room that has.
async fn wrong(api: &mut Api, id: &str, old_invite: Option<Wrong>) -> anyhow::Result<Vec<Wrong>> {
    let expired = api.mint(id, "late", TOKEN_SOON_OVER).await?;
    let now = Instant::now();
    let wrong = |query: String, code, from| Wrong { query, code, from };
    let mut all = vec![
        wrong(
            "invite=AAAAAAAAAAAAAAAAAAAAAA&name=nobody".to_owned(),
            "invite_not_found",
            now,
        ),
        wrong("resume=nothing".to_owned(), "credential_invalid", now),
        wrong(
            format!("token={expired}"),
            "credential_expired",
            now + TOKEN_OVER,
        ),
    ];
    all.extend(old_invite);
    Ok(all)
}
