//! What a server asks of its store, in few words.

use std::time::Duration;

use rollcall::store::{
    AccessMethod, Created, Departed, Facts, FlushBatch, Identity, InviteRow, JoinParticipant,
    JoinRoom, JoinWrite, Joined, LockWait, NewInvite, NodeTerms, ParticipantRow, Precision,
    RoomRow, RoomSettings, Seen, Store, StoreError,
};
use rollcall_protocol::{InviteId, OnIdle, ParticipantId, RoomId, Timestamp};
use serde_json::Map;
use uuid::Uuid;

pub const IDLE: Duration = Duration::from_secs(600);
pub const TERMS: NodeTerms = NodeTerms {
    heartbeat_interval: Duration::from_secs(30),
    heartbeat_timeout: Duration::from_secs(75),
    reconnect_grace: Duration::from_secs(10),
    restart_grace: Duration::from_secs(60),
    flush_interval: Duration::from_secs(5),
    last_seen_precision: Precision::EXACT,
};

pub fn id(room: &str) -> RoomId {
    room.parse().unwrap()
}

pub fn settings() -> RoomSettings {
    RoomSettings {
        idle_timeout: Some(IDLE),
        on_idle: OnIdle::Delete,
        max_participants: None,
        max_age: None,
        metadata: Map::new(),
    }
}

pub fn user(room: &str, who: &str) -> Identity {
    Identity::User {
        room_id: id(room),
        user_id: who.parse().unwrap(),
    }
}

pub fn guest(token: u8, client: u8) -> Identity {
    Identity::Invite {
        token_hash: [token; 32],
        client_hash: Some([client; 32]),
    }
}

pub async fn make_room(store: &dyn Store, room: &str) -> RoomRow {
    match store.create_room(&id(room), &settings()).await.unwrap() {
        Created::New(row) => row,
        Created::Exists(_) => panic!("{room} exists"),
    }
}

pub async fn make_invite(store: &dyn Store, room: &str, token: u8) -> InviteRow {
    let invite = NewInvite {
        id: InviteId(Uuid::now_v7()),
        token_hash: [token; 32],
        expires_in: None,
        max_uses: None,
    };
    store
        .create_invite(&id(room), &invite)
        .await
        .unwrap()
        .unwrap()
}

/// Admits everybody, whoever is contended alone and later.
pub async fn join_all(
    store: &dyn Store,
    identities: &[Identity],
) -> Result<Vec<Joined>, StoreError> {
    let batch = store.begin_joins(identities, LockWait::Wait).await?;
    let writes = (0..identities.len())
        .map(|index| admit(index, &identities[index], &batch.facts()[index]))
        .collect();
    batch.commit(writes).await
}

pub async fn join(store: &dyn Store, identity: Identity) -> Joined {
    join_all(store, &[identity]).await.unwrap().remove(0)
}

fn admit(index: usize, identity: &Identity, facts: &Facts) -> JoinWrite {
    let participant = match (&facts.participant, identity) {
        (Some(row), _) => JoinParticipant::Returning {
            key: row.key,
            name: None,
        },
        (None, Identity::User { user_id, .. }) => JoinParticipant::New {
            id: ParticipantId(Uuid::now_v7()),
            user_id: Some(user_id.clone()),
            name: user_id.as_str().parse().unwrap(),
            access_method: AccessMethod::Token,
            invite: None,
        },
        (None, Identity::Invite { client_hash, .. }) => JoinParticipant::New {
            id: ParticipantId(Uuid::now_v7()),
            user_id: None,
            name: "guest".parse().unwrap(),
            access_method: AccessMethod::Invite,
            invite: Some((facts.invite.as_ref().unwrap().key, *client_hash)),
        },
        (None, Identity::Resume { .. }) => panic!("nobody to resume"),
    };
    let room = match (&facts.room, identity) {
        (Some(room), _) => JoinRoom::Existing(room.key),
        (None, Identity::User { room_id, .. }) => JoinRoom::Create {
            id: room_id.clone(),
            settings: settings(),
        },
        (None, _) => panic!("no room"),
    };
    JoinWrite {
        index,
        keeps_last_seen: None,
        room,
        participant,
    }
}

/// Flushes one participant.
pub async fn see(
    store: &dyn Store,
    who: &ParticipantRow,
    at: Timestamp,
    departed: Option<Departed>,
) -> Result<(), StoreError> {
    let seen = Seen {
        key: who.key,
        last_seen_at: at,
        departed,
    };
    let batch = FlushBatch {
        participants: vec![seen],
        ..FlushBatch::default()
    };
    store.flush(&batch).await.map(drop)
}

/// The departure of the admission that the row tells of.
pub fn departed(who: &ParticipantRow, left_at: Timestamp) -> Option<Departed> {
    Some(Departed {
        left_at,
        generation: who.generation,
    })
}

/// As it is now.
pub async fn row(store: &dyn Store, who: &ParticipantRow) -> ParticipantRow {
    store
        .participant(who.room_key, who.id)
        .await
        .unwrap()
        .unwrap()
}
