//! The one task that commits joins: it takes what queued while its last commit ran, so joins arriving together share a
//! transaction and nobody waits for company. What somebody else has locked is passed over and waited for aside, so that one
//! locked room holds nobody else up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use rollcall_protocol::{Problem, RoomView, Timestamp, UserId};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    aside::Aside,
    refuse_full, store_problem, store_unavailable,
    verdict::{self, Ask, Circumstances, Plan},
};
use crate::{
    flusher::Flusher,
    hub::{Hub, Reservation},
    store::{
        Identity, InviteKey, JoinBatch, JoinParticipant, JoinRoom, JoinWrite, Joined, LockWait,
        RoomKey, RoomRow, RoomSettings, Store, StoreError,
    },
    telemetry::chain,
};

/// Joins in one transaction. More would hold the rows' locks for longer than a join should wait.
const BATCH: usize = 128;
/// How long joins wait for the flush that has to go before the first admission after an outage.
const CATCH_UP: Duration = Duration::from_secs(2);

/// A join on its way.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<Result<Seat, Problem>>,
}

/// An admitted join.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) reservation: Reservation,
    pub(super) user_id: Option<UserId>,
}

/// Commits joins in batches.
pub struct Worker {
    decider: Arc<Decider>,
    joins: mpsc::Receiver<Join>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    pub(super) fn new(
        store: Arc<dyn Store>,
        hub: Hub,
        flusher: Flusher,
        defaults: RoomSettings,
        joins: mpsc::Receiver<Join>,
    ) -> Self {
        let decider = Decider {
            store,
            hub,
            flusher,
            defaults,
        };
        Self {
            decider: Arc::new(decider),
            joins,
        }
    }

    /// Decides joins until every [`Admission`](super::Admission) is gone.
    pub async fn run(mut self) {
        let mut joins = Vec::with_capacity(BATCH);
        let mut aside = Aside::default();
        loop {
            tokio::select! {
                count = self.joins.recv_many(&mut joins, BATCH) => if count == 0 { return },
                () = aside.next(&self.decider) => continue,
            }
            let mut batch = std::mem::take(&mut joins);
            // Who gave up waiting is not admitted.
            batch.retain(|join| !join.answer.is_closed());
            while !batch.is_empty() {
                let rest = self.decider.decide(batch, LockWait::Skip).await;
                batch = rest.deferred;
                for (room, joins) in rest.contended {
                    aside.add(room, joins, &self.decider);
                }
                aside.add(None, rest.failed, &self.decider);
            }
        }
    }
}

/// What a decision leaves to others.
#[derive(Default)]
struct Rest {
    /// Must wait for this transaction's commit: a second join of a participant, or into a room, that it makes.
    deferred: Vec<Join>,
    /// Somebody else has their room locked.
    contended: BTreeMap<Option<RoomKey>, Vec<Join>>,
    /// Failed together, maybe because of one of them.
    failed: Vec<Join>,
}

/// What joins are decided with.
pub(super) struct Decider {
    store: Arc<dyn Store>,
    hub: Hub,
    flusher: Flusher,
    defaults: RoomSettings,
}

/// A join whose verdict is yes, not yet written.
struct Planned {
    join: Join,
    plan: Plan,
    /// `None` for a room that is made by this very transaction: nobody can have filled it.
    reservation: Option<Reservation>,
}

impl Decider {
    /// Whether the flush that has to go before the first admission after an outage has been, or soon was.
    async fn has_caught_up(&self) -> bool {
        !self.flusher.is_behind() || timeout(CATCH_UP, self.flusher.caught_up()).await.is_ok()
    }

    /// Decides joins into one room, which somebody else has locked.
    pub(super) async fn wait_for_room(&self, mut joins: Vec<Join>) {
        while !joins.is_empty() {
            let rest = self.decide(joins, LockWait::Wait).await;
            joins = rest.deferred;
            rest.contended
                .into_values()
                .for_each(|joins| refuse(joins, &store_unavailable()));
            self.each_alone(rest.failed).await;
        }
    }

    /// One failing join must not take the others of its group along.
    pub(super) async fn each_alone(&self, joins: Vec<Join>) {
        for join in joins {
            let rest = self.decide(vec![join], LockWait::Wait).await;
            refuse(rest.into_joins(), &store_unavailable());
        }
    }

    /// Decides a batch in one transaction, and answers what is left to decide.
    async fn decide(&self, batch: Vec<Join>, wait: LockWait) -> Rest {
        if !self.has_caught_up().await {
            refuse(batch, &store_unavailable());
            return Rest::default();
        }
        let identities: Vec<Identity> = batch.iter().map(|join| join.ask.identity()).collect();
        let transaction = match self.store.begin_joins(&identities, wait).await {
            Ok(transaction) => transaction,
            Err(error) => {
                refuse(batch, &store_problem(&error));
                return Rest::default();
            }
        };
        let mut rest = Rest::default();
        let planned = self.judge(batch, transaction.as_ref(), &mut rest);
        let (writes, planned): (Vec<JoinWrite>, Vec<Planned>) = planned.into_iter().unzip();
        if planned.is_empty() {
            transaction.release().await;
            return rest;
        }
        match transaction.commit(writes).await {
            Ok(joined) => planned
                .into_iter()
                .zip(joined)
                .for_each(|(planned, joined)| self.seat(planned, joined)),
            Err(error @ (StoreError::Broken(_) | StoreError::Locked(_)))
                if planned.len() > 1 || wait == LockWait::Skip =>
            {
                tracing::warn!(
                    error = %chain(&error),
                    "joins failed, trying each alone"
                );
                rest.failed = planned.into_iter().map(|planned| planned.join).collect();
            }
            Err(error) => refuse(
                planned.into_iter().map(|planned| planned.join),
                &store_problem(&error),
            ),
        }
        rest
    }

    fn judge(
        &self,
        batch: Vec<Join>,
        transaction: &dyn JoinBatch,
        rest: &mut Rest,
    ) -> Vec<(JoinWrite, Planned)> {
        let now = transaction.now();
        let mut uses: HashMap<InviteKey, u32> = HashMap::new();
        let mut makes: Vec<Made> = Vec::new();
        let mut planned = Vec::new();
        for (index, (join, facts)) in batch.into_iter().zip(transaction.facts()).enumerate() {
            // Whoever was told 503 while the database was away is not admitted after all (rule R2).
            if join.answer.is_closed() {
                continue;
            }
            if transaction.is_contended(index) {
                let room = facts.room.as_ref().map(|room| room.key);
                rest.contended.entry(room).or_default().push(join);
                continue;
            }
            let at = Circumstances {
                now,
                is_live: &|key| self.hub.is_live(key),
                departed_last_seen: &|key| self.hub.departed_last_seen(key),
                uses_before: &|key| uses.get(&key).copied().unwrap_or(0),
                defaults: &self.defaults,
            };
            let verdict = verdict::judge(&join.ask, facts, &at);
            let plan = match verdict {
                Ok(plan) => plan,
                Err(problem) => {
                    refuse([join], &problem);
                    continue;
                }
            };
            let made = Made::by(&join.ask, &plan);
            if made.iter().any(|made| makes.contains(made)) {
                rest.deferred.push(join);
                continue;
            }
            let reservation = match &plan.row {
                Some(row) => self.hub.reserve(row, plan.id).map(Some),
                None => self.hub.has_space().map(|()| None),
            };
            let reservation = match reservation {
                Ok(reservation) => reservation,
                Err(full) => {
                    refuse([join], &refuse_full(full));
                    continue;
                }
            };
            makes.extend(made);
            if let JoinParticipant::New {
                invite: Some((invite, _)),
                ..
            } = &plan.participant
            {
                *uses.entry(*invite).or_default() += 1;
            }
            let write = JoinWrite {
                index,
                room: plan.room.clone(),
                participant: plan.participant.clone(),
                keeps_last_seen: join.ask.keeps_last_seen(),
            };
            planned.push((
                write,
                Planned {
                    join,
                    plan,
                    reservation,
                },
            ));
        }
        planned
    }

    fn seat(&self, planned: Planned, joined: Joined) {
        let user_id = joined.participant.user_id.clone();
        let reservation = match planned.reservation {
            Some(reservation) => Ok(reservation),
            None => self.hub.reserve_in(&joined.room, planned.plan.id),
        };
        let answer = reservation.map_err(refuse_full).map(|mut reservation| {
            reservation.commit(joined);
            Seat {
                reservation,
                user_id,
            }
        });
        // Whoever gave up waiting drops the reservation, which ends as a departure.
        let _ = planned.join.answer.send(answer);
    }
}

impl Rest {
    fn into_joins(self) -> impl Iterator<Item = Join> {
        let contended = self.contended.into_values().flatten();
        self.deferred
            .into_iter()
            .chain(contended)
            .chain(self.failed)
    }
}

/// What a plan makes, of which there must be one only.
#[derive(Debug, PartialEq)]
enum Made {
    Room(rollcall_protocol::RoomId),
    Participant(Identity),
}

impl Made {
    fn by(ask: &Ask, plan: &Plan) -> Vec<Self> {
        let room = match &plan.room {
            JoinRoom::Create { id, .. } => Some(Self::Room(id.clone())),
            JoinRoom::Existing(_) => None,
        };
        let is_somebody_again = !matches!(
            ask,
            Ask::Invite {
                client_hash: None,
                ..
            }
        );
        let participant =
            matches!(plan.participant, JoinParticipant::New { .. }) && is_somebody_again;
        room.into_iter()
            .chain(participant.then(|| Self::Participant(ask.identity())))
            .collect()
    }
}

pub(super) fn refuse(joins: impl IntoIterator<Item = Join>, problem: &Problem) {
    for join in joins {
        // Whoever gave up waiting needs no answer.
        let _ = join.answer.send(Err(problem.clone()));
    }
}

/// The room that a plan would make, as it would look.
pub(super) fn unborn(plan: &Plan, now: Timestamp) -> RoomView {
    let (id, settings) = match &plan.room {
        JoinRoom::Create { id, settings } => (id.clone(), settings.clone()),
        JoinRoom::Existing(_) => unreachable!("a plan without a row makes its room"),
    };
    RoomRow {
        key: RoomKey(0),
        id,
        created_at: now,
        last_active_at: now,
        settings,
    }
    .view()
}
