//! What the server must say to whoever wants to enter (PROTOCOL.md, section 1).

use super::{
    person::{Actor, Way},
    room::Verdict,
};
use crate::scenario::Link;

/// What must come of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Admission,
    /// One of these.
    Refusal(&'static [(u16, &'static str)]),
    /// It depends on a moment that cannot be known from here.
    Either,
}

impl Expected {
    /// What must come of it if it was the same before and after.
    pub(super) fn or_unsure(self, before: Self) -> Self {
        if self == before { self } else { Self::Either }
    }
}

/// What must come of an attempt now.
pub(super) fn expect(actor: &Actor, way: &Way) -> Expected {
    let guest = actor.part.is_guest;
    if !way.is_resume && actor.part.link != Link::Valid {
        // A room that may be idle has its own word for the same.
        return match actor.room.verdict() {
            Verdict::Alive => Expected::Refusal(wrong(actor.part.link, guest)),
            Verdict::Idle | Verdict::Unsure => Expected::Either,
        };
    }
    match actor.room.verdict() {
        Verdict::Alive => Expected::Admission,
        Verdict::Idle => Expected::Refusal(idle(way.is_resume, guest)),
        Verdict::Unsure => Expected::Either,
    }
}

/// What a link that is wrong gets.
fn wrong(link: Link, guest: bool) -> &'static [(u16, &'static str)] {
    match (link, guest) {
        (Link::Valid, _) => &[],
        (Link::Expired, true) => &[(410, "invite_expired")],
        (Link::Expired, false) => &[(401, "credential_expired")],
        (Link::Forged, true) => &[(404, "invite_not_found")],
        (Link::Forged, false) => &[(401, "credential_invalid")],
        (Link::Revoked, _) => &[(410, "invite_revoked")],
        (Link::UsedUp, _) => &[(410, "invite_used_up")],
    }
}

/// What whoever comes to an idle room gets, before and after it was reaped.
fn idle(is_resume: bool, guest: bool) -> &'static [(u16, &'static str)] {
    match (is_resume, guest) {
        (true, _) => &[
            (410, "room_expired"),
            (404, "room_not_found"),
            (401, "credential_invalid"),
        ],
        (false, true) => &[(410, "invite_expired")],
        (false, false) => &[(410, "room_expired"), (404, "room_not_found")],
    }
}
