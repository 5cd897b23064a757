//! The JSON of every message, as files that clients in other languages test against too.

mod harness;

use std::{collections::BTreeSet, fs, sync::Arc};

use rollcall_protocol::{
    ClientMessage, ConnectionId, Departure, ErrorCode, ExpiryReason, Inbound, LeaveReason, Member,
    MessageLimits, PROTOCOL_VERSION, ParticipantId, Ref, RoomView, RosterMode, SelfView,
    ServerMessage, StateText, Status, Timestamp, Update,
};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

#[test]
fn server_messages_are_as_published() {
    for (name, message) in server_messages() {
        let file = format!("golden/server/{name}.json");
        harness::check(&file, &pretty(&message));
        let text = read(&file);
        let again: ServerMessage = serde_json::from_str(&text).expect(name);
        assert_eq!(again, message, "{name}");
        let value: Value = serde_json::from_str(&text).expect(name);
        let from_value: ServerMessage = serde_json::from_value(value).expect(name);
        assert_eq!(
            kind(&from_value.to_text()),
            kind(&message.to_text()),
            "{name}"
        );
    }
}

#[test]
fn client_messages_are_as_published() {
    for (name, inbound) in client_messages() {
        let file = format!("golden/client/{name}.json");
        harness::check(&file, &inbound.to_text());
        let again = ClientMessage::decode(read(&file).trim_end(), &MessageLimits::default());
        assert_eq!(again, Ok(inbound), "{name}");
    }
}

#[test]
fn no_file_is_left_over() {
    for (folder, names) in [
        (
            "golden/server",
            server_messages().map(|(name, _)| name).to_vec(),
        ),
        (
            "golden/client",
            client_messages().map(|(name, _)| name).to_vec(),
        ),
    ] {
        let made: BTreeSet<_> = names.iter().map(|name| format!("{name}.json")).collect();
        // No folder, on the very first update, is nothing left over.
        let there = fs::read_dir(harness::path(folder)).into_iter().flatten();
        for file in there.map(|file| file.expect("a file").file_name()) {
            let name = file.to_string_lossy();
            assert!(
                made.contains(&*name),
                "{folder}/{name} is no message any more"
            );
        }
    }
}

fn server_messages() -> [(&'static str, ServerMessage); 18] {
    let [ada, guest] = members();
    let me = SelfView {
        participant_id: Some(ada.id),
        connection_id: ConnectionId(0xc0ffee),
        resume_token: Some("r1.example".to_owned()),
    };
    let observer = SelfView {
        participant_id: None,
        connection_id: ConnectionId(u64::MAX),
        resume_token: None,
    };
    let welcome = |self_, resumed, roster, occupancy, members| ServerMessage::Welcome {
        protocol: PROTOCOL_VERSION,
        resumed,
        room: room(),
        self_,
        heartbeat_interval_ms: 30_000,
        server_time: at(0),
        seq: 41,
        roster,
        occupancy,
        members,
    };
    let both = Some(vec![ada.clone(), guest.clone()]);
    let update = Update {
        id: ada.id,
        state: None,
        status: None,
        name: None,
    };
    let updated = vec![
        Update {
            state: Some(state(r#"{"cursor":[3,4]}"#)),
            ..update.clone()
        },
        Update {
            id: id(3),
            status: Some(Status::Idle),
            name: "Grace".parse().ok(),
            ..update
        },
    ];
    let reasons = [
        (4, LeaveReason::Left),
        (5, LeaveReason::Timeout),
        (6, LeaveReason::Removed),
    ];
    let left = reasons.map(|(n, reason)| Departure {
        id: id(n),
        reason,
        last_seen_at: at(250),
    });
    let (roster, expires_at) = (RosterMode::Full, at(3_600_000));
    let presence = |joined, updated, left| ServerMessage::Presence {
        seq: 42,
        occupancy: 3,
        joined,
        updated,
        left,
    };
    let broadcast = |from, event: &str, payload: &str| ServerMessage::Broadcast {
        from,
        event: event.to_owned(),
        payload: raw(payload),
    };
    let error = |reference| ServerMessage::Error {
        code: ErrorCode::BadField,
        detail: "\"event\" is missing".to_owned(),
        reference,
    };
    [
        ("welcome", welcome(me, false, roster, 2, both.clone())),
        (
            "welcome-observer-count",
            welcome(observer.clone(), false, RosterMode::Count, 1_204, None),
        ),
        (
            "welcome-observer-empty",
            welcome(observer, false, roster, 0, Some(vec![])),
        ),
        (
            "presence",
            presence(vec![guest.clone()], updated, left.to_vec()),
        ),
        ("presence-joined", presence(vec![guest], vec![], vec![])),
        (
            "sync",
            ServerMessage::Sync {
                seq: 57,
                roster,
                occupancy: 2,
                members: both,
            },
        ),
        (
            "sync-count",
            ServerMessage::Sync {
                seq: 57,
                roster: RosterMode::Count,
                occupancy: 1_204,
                members: None,
            },
        ),
        (
            "heartbeat_ack",
            ServerMessage::HeartbeatAck { server_time: at(0) },
        ),
        (
            "broadcast",
            broadcast(Some(ada.id), "cursor", r#"{"x": 1.50,"y":[null,"ä"]}"#),
        ),
        ("broadcast-application", broadcast(None, "notice", "null")),
        (
            "room",
            ServerMessage::Room {
                room: RoomView {
                    idle_timeout_seconds: None,
                    expires_at: None,
                    ..room()
                },
            },
        ),
        (
            "room_expiring",
            ServerMessage::RoomExpiring {
                expires_at,
                reason: ExpiryReason::MaxAge,
            },
        ),
        (
            "room_expiring-idle",
            ServerMessage::RoomExpiring {
                expires_at,
                reason: ExpiryReason::Idle,
            },
        ),
        (
            "token_expiring",
            ServerMessage::TokenExpiring { expires_at },
        ),
        ("reconnect", ServerMessage::Reconnect { after_ms: 1_200 }),
        ("error", error(None)),
        ("error-ref", error(Ref::try_from("mine").ok())),
        (
            "error-no_seat",
            ServerMessage::Error {
                code: ErrorCode::NoSeat,
                detail: "an observer has no seat to speak from".to_owned(),
                reference: Some(Ref::from(7)),
            },
        ),
    ]
}

fn client_messages() -> [(&'static str, Inbound); 9] {
    let update = |status, state| ClientMessage::Update { status, state };
    let broadcast = |payload: &str, to| ClientMessage::Broadcast {
        event: "cursor".to_owned(),
        payload: raw(payload),
        to,
    };
    let patch: Map<String, Value> = [
        ("cursor".to_owned(), json!([3, 4])),
        ("typing".to_owned(), Value::Null),
    ]
    .into_iter()
    .collect();
    let token = ClientMessage::Token {
        token: "eyJhbGciOiJIUzI1NiJ9.e30.c2ln".to_owned(),
    };
    let named = Inbound {
        message: token.clone(),
        reference: Some(7.into()),
    };
    [
        ("heartbeat", ClientMessage::Heartbeat.into()),
        ("update", update(Some(Status::Idle), Some(patch)).into()),
        ("update-nothing", update(None, None).into()),
        ("broadcast", broadcast(r#"{"x": 1.50}"#, None).into()),
        (
            "broadcast-to",
            broadcast("null", Some(vec![id(1), id(2)])).into(),
        ),
        ("broadcast-to-nobody", broadcast("[]", Some(vec![])).into()),
        ("token", token.into()),
        ("token-ref", named),
        ("leave", ClientMessage::Leave.into()),
    ]
}

fn members() -> [Member; 2] {
    let ada = Member {
        id: id(1),
        user_id: "user|ada@example.org".parse().ok(),
        name: "Ada".parse().expect("a name"),
        status: Status::Active,
        state: state(r#"{"cursor":[1,2]}"#),
        joined_at: at(0),
        last_seen_at: at(1_500),
    };
    let name = "Zoë 👋".parse().expect("a name");
    let guest = Member {
        id: id(2),
        user_id: None,
        name,
        status: Status::Idle,
        state: StateText::empty(),
        ..ada.clone()
    };
    [ada, guest]
}

fn room() -> RoomView {
    let metadata: Map<String, Value> = [("topic".to_owned(), json!("tea"))].into_iter().collect();
    RoomView {
        id: "lobby".parse().expect("an id"),
        created_at: at(0),
        idle_timeout_seconds: Some(3_600),
        expires_at: Some(at(86_400_000)),
        metadata: Arc::new(metadata),
    }
}

fn id(n: u8) -> ParticipantId {
    format!("0192f0c1-2d3e-7a4b-8c5d-6e7f809100{n:02x}")
        .parse()
        .expect("an id")
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_514_400_000 + millis)
}

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).expect("JSON")
}

fn state(json: &str) -> StateText {
    serde_json::from_str(json).expect("a state")
}

fn kind(text: &str) -> Value {
    serde_json::from_str::<Value>(text).expect("JSON")["type"].clone()
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

fn read(file: &str) -> String {
    fs::read_to_string(harness::path(file)).expect("a published file")
}
