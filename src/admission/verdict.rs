//! The verdict on one join: facts in, plan or refusal out. Pure, and the same for a join and for the question whether one
//! would be admitted.

use std::time::Duration;

use rollcall_protocol::{
    DisplayName, ParticipantId, Problem, ProblemCode, RoomId, Timestamp, UserId,
};

use super::{ResumeClaims, words};
use crate::{
    chance,
    store::{
        AccessMethod, Facts, Identity, InviteKey, InviteRow, JoinParticipant, JoinRoom,
        ParticipantRow, RoomEndCause, RoomKey, RoomRow, RoomSettings,
    },
};

/// Who asks, with what they brought along.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// A guest with an invite link.
    Invite {
        /// SHA-256 of the token.
        token_hash: [u8; 32],
        /// SHA-256 of the browser's `client`.
        client_hash: Option<[u8; 32]>,
        /// The display name.
        name: Option<DisplayName>,
    },
    /// A user with an access token.
    User {
        /// Where to.
        room_id: RoomId,
        /// Who.
        user_id: UserId,
        /// The display name.
        name: Option<DisplayName>,
        /// Make or revive the room.
        create: bool,
        /// Whether it may be kept when they were last there.
        keeps_last_seen: bool,
        /// When the access token ends.
        expires_at: Timestamp,
    },
    /// Somebody coming back.
    Resume(ResumeClaims),
    /// A user who watches without a seat.
    Observe {
        /// Which room.
        room_id: RoomId,
        /// Who.
        user_id: UserId,
        /// When the access token ends.
        expires_at: Timestamp,
    },
}

impl Ask {
    /// Whether it is kept from now on when the participant was there; `None`: as before.
    pub(super) fn keeps_last_seen(&self) -> Option<bool> {
        match self {
            Self::User {
                keeps_last_seen, ..
            } => Some(*keeps_last_seen),
            Self::Invite { .. } | Self::Resume(_) | Self::Observe { .. } => None,
        }
    }

    /// What the store is to look up.
    pub fn identity(&self) -> Identity {
        match self {
            Self::Invite {
                token_hash,
                client_hash,
                ..
            } => Identity::Invite {
                token_hash: *token_hash,
                client_hash: *client_hash,
            },
            Self::User {
                room_id, user_id, ..
            }
            | Self::Observe {
                room_id, user_id, ..
            } => Identity::User {
                room_id: room_id.clone(),
                user_id: user_id.clone(),
            },
            Self::Resume(claims) => Identity::Resume {
                room_key: claims.room,
                participant_id: claims.participant,
            },
        }
    }
}

/// What the verdict needs beyond the rows.
pub(super) struct Circumstances<'a> {
    /// The store's now.
    pub now: Timestamp,
    /// Whether anybody has a seat in this incarnation (rule R9).
    pub is_live: &'a dyn Fn(RoomKey) -> bool,
    /// The latest `last_seen_at` among those who left, while the store may not know; asked for after `is_live`.
    pub departed_last_seen: &'a dyn Fn(RoomKey) -> Option<Timestamp>,
    /// Uses of this invite by joins admitted before in the same transaction.
    pub uses_before: &'a dyn Fn(InviteKey) -> u32,
    /// The settings of a room that an access token makes.
    pub defaults: &'a RoomSettings,
}

/// An admission, to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Where to.
    pub room: JoinRoom,
    /// As whom.
    pub participant: JoinParticipant,
    /// The participant's public id.
    pub id: ParticipantId,
    /// The room as it is, if it is.
    pub row: Option<RoomRow>,
}

/// The sentence for a room that is not there, or not to be seen.
pub(super) const NO_ROOM: &str = "Room not found or inactive.";

/// Decides on a join.
///
/// # Errors
/// The problem to answer with; nothing may be written then (rule R2).
pub(super) fn judge(ask: &Ask, facts: &Facts, at: &Circumstances<'_>) -> Result<Plan, Problem> {
    match ask {
        Ask::Invite {
            name, client_hash, ..
        } => judge_invite(name.as_ref(), *client_hash, facts, at),
        Ask::User {
            room_id,
            user_id,
            name,
            create,
            ..
        } => judge_user(room_id, user_id, name.as_ref(), *create, facts, at),
        Ask::Resume(claims) => judge_resume(claims, facts, at),
        Ask::Observe { .. } => unreachable!("an observer joins nothing: see judge_observer"),
    }
}

/// Decides on an observer of the room that it answers. A full room is not full to it, and an idle one is not revived.
///
/// # Errors
/// The problem to answer with.
pub(super) fn judge_observer<'a>(
    facts: &'a Facts,
    at: &Circumstances<'_>,
) -> Result<&'a RoomRow, Problem> {
    let row = facts
        .room
        .as_ref()
        .ok_or_else(|| Problem::new(ProblemCode::RoomNotFound, NO_ROOM))?;
    if let Some(participant) = &facts.participant {
        check_removed(participant)?;
    }
    check_open(row, facts, at, false)?;
    Ok(row)
}

fn judge_invite(
    name: Option<&DisplayName>,
    client_hash: Option<[u8; 32]>,
    facts: &Facts,
    at: &Circumstances<'_>,
) -> Result<Plan, Problem> {
    let invite = facts.invite.as_ref().ok_or_else(|| {
        Problem::new(
            ProblemCode::InviteNotFound,
            "This invitation link is not valid.",
        )
    })?;
    if invite.revoked_at.is_some() {
        return Err(Problem::new(
            ProblemCode::InviteRevoked,
            "This invitation link has been revoked.",
        ));
    }
    if invite.expires_at.is_some_and(|end| end <= at.now) {
        return Err(expired_link("It was valid for a limited time only."));
    }
    let Some(row) = &facts.room else {
        return Err(expired_link(&room_end(invite)));
    };
    if let Some(participant) = &facts.participant {
        check_removed(participant)?;
    }
    if has_ended(row, at.now) {
        return Err(expired_link("The room has reached its maximum age."));
    }
    if let Some(timeout) = idle_for(row, facts, at) {
        return Err(expired_link(&idle_sentence(timeout)));
    }
    if let Some(participant) = &facts.participant {
        return Ok(returning(row, participant, name));
    }
    if invite
        .max_uses
        .is_some_and(|max| invite.uses.saturating_add((at.uses_before)(invite.key)) >= max)
    {
        return Err(Problem::new(
            ProblemCode::InviteUsedUp,
            "This invitation link has already been used as often as it may be.",
        ));
    }
    let name = name.cloned().unwrap_or_else(guest);
    Ok(newcomer(
        row,
        at.now,
        None,
        name,
        AccessMethod::Invite,
        Some((invite.key, client_hash)),
    ))
}

fn judge_user(
    room_id: &RoomId,
    user_id: &UserId,
    name: Option<&DisplayName>,
    create: bool,
    facts: &Facts,
    at: &Circumstances<'_>,
) -> Result<Plan, Problem> {
    let new_name = || {
        name.cloned()
            .or_else(|| user_name(user_id))
            .unwrap_or_else(guest)
    };
    let Some(row) = &facts.room else {
        if !create {
            return Err(Problem::new(ProblemCode::RoomNotFound, NO_ROOM));
        }
        let room = JoinRoom::Create {
            id: room_id.clone(),
            settings: at.defaults.clone(),
        };
        let (id, participant) = new_participant(
            at.now,
            Some(user_id.clone()),
            new_name(),
            AccessMethod::Token,
            None,
        );
        return Ok(Plan {
            room,
            participant,
            id,
            row: None,
        });
    };
    if let Some(participant) = &facts.participant {
        check_removed(participant)?;
    }
    check_open(row, facts, at, create)?;
    Ok(match &facts.participant {
        Some(participant) => returning(row, participant, name),
        None => newcomer(
            row,
            at.now,
            Some(user_id.clone()),
            new_name(),
            AccessMethod::Token,
            None,
        ),
    })
}

fn judge_resume(
    claims: &ResumeClaims,
    facts: &Facts,
    at: &Circumstances<'_>,
) -> Result<Plan, Problem> {
    let Some(row) = &facts.room else {
        return Err(Problem::new(ProblemCode::RoomNotFound, NO_ROOM));
    };
    let void = || {
        Problem::new(
            ProblemCode::CredentialInvalid,
            "This resume token is not valid any more.",
        )
    };
    let participant = facts.participant.as_ref().ok_or_else(void)?;
    check_removed(participant)?;
    if participant.removals != claims.removals {
        return Err(void());
    }
    check_open(row, facts, at, false)?;
    Ok(returning(row, participant, None))
}

fn check_removed(participant: &ParticipantRow) -> Result<(), Problem> {
    if participant.is_barred {
        return Err(Problem::new(
            ProblemCode::Removed,
            "You were removed from this room.",
        ));
    }
    Ok(())
}

/// Refuses a room past its maximum age and, unless it is to be revived, an idle one.
fn check_open(
    row: &RoomRow,
    facts: &Facts,
    at: &Circumstances<'_>,
    revive: bool,
) -> Result<(), Problem> {
    if has_ended(row, at.now) {
        return Err(too_old());
    }
    match idle_for(row, facts, at) {
        Some(timeout) if !revive => Err(Problem::new(
            ProblemCode::RoomExpired,
            format!("This room has expired. {}", idle_sentence(timeout)),
        )),
        _ => Ok(()),
    }
}

/// The refusal of a room past its maximum age.
pub(super) fn too_old() -> Problem {
    Problem::new(
        ProblemCode::RoomExpired,
        "This room has expired. It has reached its maximum age.",
    )
}

fn has_ended(row: &RoomRow, now: Timestamp) -> bool {
    row.ends_at().is_some_and(|end| end <= now)
}

/// The room's timeout, if the room is idle: nobody present or in grace, and nobody seen nor the room made within it.
fn idle_for(row: &RoomRow, facts: &Facts, at: &Circumstances<'_>) -> Option<Duration> {
    if (at.is_live)(row.key) {
        return None;
    }
    let stored = facts.last_activity.unwrap_or(row.last_active_at);
    let last = (at.departed_last_seen)(row.key).map_or(stored, |seen| seen.max(stored));
    let is_past = row.idle_at(last).is_some_and(|idle_at| idle_at <= at.now);
    row.settings.idle_timeout.filter(|_| is_past)
}

fn idle_sentence(timeout: Duration) -> String {
    format!(
        "Rooms become inactive after {} of no activity.",
        words::duration(timeout)
    )
}

fn expired_link(why: &str) -> Problem {
    Problem::new(
        ProblemCode::InviteExpired,
        format!("This invitation link has expired. {why}"),
    )
}

fn room_end(invite: &InviteRow) -> String {
    match invite.room_end.map(|end| end.cause) {
        Some(RoomEndCause::Idle(timeout)) => idle_sentence(timeout),
        Some(RoomEndCause::MaxAge) => "The room has reached its maximum age.".to_owned(),
        Some(RoomEndCause::Closed) | None => "The room has been closed.".to_owned(),
    }
}

fn guest() -> DisplayName {
    DisplayName::guest()
}

/// A user id is a better name than none, where it is short enough to be one.
fn user_name(user_id: &UserId) -> Option<DisplayName> {
    user_id.as_str().parse().ok()
}

fn returning(row: &RoomRow, participant: &ParticipantRow, name: Option<&DisplayName>) -> Plan {
    Plan {
        room: JoinRoom::Existing(row.key),
        participant: JoinParticipant::Returning {
            key: participant.key,
            name: name.cloned(),
        },
        id: participant.id,
        row: Some(row.clone()),
    }
}

fn newcomer(
    row: &RoomRow,
    now: Timestamp,
    user_id: Option<UserId>,
    name: DisplayName,
    access_method: AccessMethod,
    invite: Option<(InviteKey, Option<[u8; 32]>)>,
) -> Plan {
    let (id, participant) = new_participant(now, user_id, name, access_method, invite);
    Plan {
        room: JoinRoom::Existing(row.key),
        participant,
        id,
        row: Some(row.clone()),
    }
}

fn new_participant(
    now: Timestamp,
    user_id: Option<UserId>,
    name: DisplayName,
    access_method: AccessMethod,
    invite: Option<(InviteKey, Option<[u8; 32]>)>,
) -> (ParticipantId, JoinParticipant) {
    let id = ParticipantId(chance::uuid(now));
    (
        id,
        JoinParticipant::New {
            id,
            user_id,
            name,
            access_method,
            invite,
        },
    )
}
