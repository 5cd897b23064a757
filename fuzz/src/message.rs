//! Decoding what clients say.

use rollcall_protocol::{ClientMessage, ErrorCode, Inbound, MessageLimits, NESTING, Rejected};
use serde_json::{Map, Value};

/// Far below the defaults, so that short inputs reach them.
const NARROW: MessageLimits = MessageLimits {
    message_bytes: 256,
    state_bytes: 64,
    event_chars: 3,
    to: 2,
};
/// The longest `ref` that is a string, decoded.
const REF_BYTES: usize = 128;
/// The longest sentence about a message.
const DETAIL_BYTES: usize = 256;

/// Decodes a text under two sets of limits, and compares what comes of it with what `serde_json` alone reads.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // serde_json's own reading fails where ours need not: deep nesting and lone surrogates in fields that nobody reads.
    let fields = serde_json::from_str::<Map<String, Value>>(text).ok();
    for limits in [MessageLimits::default(), NARROW] {
        match ClientMessage::decode(text, &limits) {
            Ok(inbound) => check_accepted(&inbound, &limits, fields.as_ref()),
            Err(rejected) => check_rejected(&rejected, text, fields.as_ref()),
        }
    }
}

fn check_accepted(inbound: &Inbound, limits: &MessageLimits, fields: Option<&Map<String, Value>>) {
    let text = inbound.to_text();
    let again = ClientMessage::decode(&text, limits);
    assert_eq!(
        again.as_ref(),
        Ok(inbound),
        "what was accepted reads back as itself: {text}"
    );
    let kind = match &inbound.message {
        ClientMessage::Heartbeat => "heartbeat",
        ClientMessage::Leave => "leave",
        ClientMessage::Token { .. } => "token",
        ClientMessage::Update { state, .. } => {
            let depth = state
                .as_ref()
                .map_or(0, |state| 1 + deepest(state.values()));
            assert!(depth <= NESTING, "a state of {depth} levels");
            "update"
        }
        ClientMessage::Broadcast { event, payload, to } => {
            assert!((1..=limits.event_chars).contains(&event.chars().count()));
            assert!(to.as_ref().is_none_or(|to| to.len() <= limits.to));
            let payload = serde_json::from_str::<Value>(payload.get());
            // A lone surrogate is JSON, and the readers' to make something of.
            let depth = payload.map_or(0, |payload| depth(&payload));
            assert!(depth <= NESTING, "a payload of {depth} levels");
            "broadcast"
        }
    };
    let Some(fields) = fields else { return };
    assert_eq!(fields["type"], kind);
    let reference = fields.get("ref").filter(|it| !it.is_null());
    assert_eq!(
        inbound
            .reference
            .as_ref()
            .map(|it| read(it.as_str()))
            .as_ref(),
        reference,
        "the ref comes back as it came"
    );
}

fn check_rejected(rejected: &Rejected, text: &str, fields: Option<&Map<String, Value>>) {
    assert!(!rejected.detail.is_empty() && rejected.detail.len() <= DETAIL_BYTES);
    assert!(
        matches!(
            rejected.code,
            ErrorCode::BadMessage
                | ErrorCode::UnknownType
                | ErrorCode::BadField
                | ErrorCode::UnknownParticipant
        ),
        "{rejected:?}"
    );
    let Some(fields) = fields else { return };
    let kind = fields.get("type").and_then(Value::as_str);
    let is_known = ["heartbeat", "update", "broadcast", "token", "leave"].map(Some);
    match rejected.code {
        // A field given twice is nobody's to choose from; serde_json takes the last.
        ErrorCode::BadMessage => return,
        ErrorCode::UnknownType => assert!(kind.is_some() && !is_known.contains(&kind), "{text}"),
        _ => assert!(is_known.contains(&kind), "{text}"),
    }
    let is_ref = |value: &&Value| match value {
        Value::String(name) => name.len() <= REF_BYTES,
        Value::Number(_) => text.len() <= REF_BYTES,
        _ => false,
    };
    if let Some(reference) = fields.get("ref").filter(is_ref) {
        let echoed = rejected.reference.as_ref().map(|it| read(it.as_str()));
        assert_eq!(
            echoed.as_ref(),
            Some(reference),
            "the error names the message"
        );
    }
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).expect("a ref is JSON")
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + deepest(items),
        Value::Object(fields) => 1 + deepest(fields.values()),
        _ => 0,
    }
}

fn deepest<'a>(values: impl IntoIterator<Item = &'a Value>) -> usize {
    values.into_iter().map(depth).max().unwrap_or_default()
}
