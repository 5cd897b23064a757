//! What the decoder takes and what it refuses: one row per rule, and then anything at all.

use rollcall_protocol::{ClientMessage, ErrorCode, Inbound, MessageLimits, Rejected, StateText};

#[test]
fn malformed_messages_are_refused_by_name() {
    use ErrorCode::{BadField, BadMessage, UnknownParticipant, UnknownType};
    let event = format!(r#"{{"type":"broadcast","event":"{}"}}"#, "ä".repeat(65));
    let many = format!(
        r#"{{"type":"broadcast","event":"e","to":[{}""]}}"#,
        r#""","#.repeat(100)
    );
    let long_ref = format!(r#"{{"type":"leave","ref":"{}"}}"#, "x".repeat(129));
    let rows = [
        ("", BadMessage, "object"),
        (" ", BadMessage, "object"),
        ("[]", BadMessage, "object"),
        ("null", BadMessage, "object"),
        (r#"["heartbeat"]"#, BadMessage, "object"),
        (r#""heartbeat""#, BadMessage, "object"),
        ("{", BadMessage, "not JSON"),
        (r#"{type:"heartbeat"}"#, BadMessage, "not JSON"),
        (r#"{"type":"heartbeat",}"#, BadMessage, "not JSON"),
        (r#"{"type":"heartbeat"} x"#, BadMessage, "not JSON"),
        (
            r#"{"type":"leave","type":"heartbeat"}"#,
            BadMessage,
            "duplicate field `type`",
        ),
        ("{}", BadMessage, "type"),
        (r#"{"type":1}"#, BadMessage, "type"),
        (r#"{"type":null}"#, BadMessage, "type"),
        (r#"{"ref":{}}"#, BadMessage, "type"),
        (r#"{"type":"nonsense"}"#, UnknownType, "nonsense"),
        (r#"{"type":"Heartbeat"}"#, UnknownType, "Heartbeat"),
        (r#"{"type":""}"#, UnknownType, "\"\""),
        (r#"{"type":"nonsense","ref":[]}"#, UnknownType, "nonsense"),
        (r#"{"type":"update","status":"away"}"#, BadField, "status"),
        (r#"{"type":"update","status":1}"#, BadField, "status"),
        (r#"{"type":"update","state":[]}"#, BadField, "state"),
        (r#"{"type":"update","state":"{}"}"#, BadField, "state"),
        (
            r#"{"type":"update","state":{"a":"\ud800"}}"#,
            BadField,
            "state",
        ),
        (r#"{"type":"broadcast"}"#, BadField, "event"),
        (r#"{"type":"broadcast","event":null}"#, BadField, "event"),
        (r#"{"type":"broadcast","event":""}"#, BadField, "event"),
        (r#"{"type":"broadcast","event":7}"#, BadField, "event"),
        (&event, BadField, "event"),
        (
            r#"{"type":"broadcast","event":"e","to":"x"}"#,
            BadField,
            "to",
        ),
        (
            r#"{"type":"broadcast","event":"e","to":[1]}"#,
            BadField,
            "to",
        ),
        (&many, BadField, "to"),
        (
            r#"{"type":"broadcast","event":"e","to":["x"]}"#,
            UnknownParticipant,
            "to",
        ),
        (r#"{"type":"token"}"#, BadField, "token"),
        (r#"{"type":"token","token":{}}"#, BadField, "token"),
        (r#"{"type":"heartbeat","ref":{}}"#, BadField, "ref"),
        (r#"{"type":"heartbeat","ref":true}"#, BadField, "ref"),
        (&long_ref, BadField, "ref"),
    ];
    for (text, code, named) in rows {
        let rejected = decode(text).unwrap_err();
        assert_eq!(rejected.code, code, "{text}");
        assert!(
            rejected.detail.contains(named),
            "{text}: {}",
            rejected.detail
        );
    }
}

#[test]
fn what_is_taken_is_taken_whole() {
    let most = format!(
        r#"{{"type":"broadcast","event":"{}","payload":null}}"#,
        "ä".repeat(64)
    );
    let escaped_ref = format!(r#"{{"type":"leave","ref":"{}"}}"#, r"\u00e9".repeat(64));
    let rows = [
        (r#" { "type" : "heartbeat" } "#, r#"{"type":"heartbeat"}"#),
        (r#"{"\u0074ype":"l\u0065ave"}"#, r#"{"type":"leave"}"#),
        (
            r#"{"type":"leave","more":[{"deep":[[]]}],"event":7}"#,
            r#"{"type":"leave"}"#,
        ),
        (r#"{"type":"leave","ref":null}"#, r#"{"type":"leave"}"#),
        (
            r#"{"type":"leave","ref":-1.50e3}"#,
            r#"{"type":"leave","ref":-1.50e3}"#,
        ),
        (
            r#"{"type":"update","status":null,"state":null}"#,
            r#"{"type":"update"}"#,
        ),
        (
            r#"{"type":"broadcast","event":"e"}"#,
            r#"{"type":"broadcast","event":"e","payload":null}"#,
        ),
        (
            r#"{"type":"broadcast","event":"e","payload":{"x": 1.50},"to":[]}"#,
            r#"{"type":"broadcast","event":"e","payload":{"x": 1.50},"to":[]}"#,
        ),
        (&most, &most),
        (&escaped_ref, &escaped_ref),
    ];
    for (text, whole) in rows {
        assert_eq!(
            decode(text).map(|inbound| inbound.to_text()).as_deref(),
            Ok(whole),
            "{text}"
        );
    }
}

#[test]
fn nesting_ends_at_64_without_recursion() {
    let nested = |field: &str, levels: usize, open: &str, close: &str| {
        let value = format!("{}1{}", open.repeat(levels), close.repeat(levels));
        decode(&format!(
            r#"{{"type":"{}","event":"e","{field}":{value}}}"#,
            if field == "state" {
                "update"
            } else {
                "broadcast"
            }
        ))
    };
    for (field, open, close) in [
        ("payload", "[", "]"),
        ("payload", r#"{"a":"#, "}"),
        ("state", r#"{"a":"#, "}"),
    ] {
        assert!(nested(field, 64, open, close).is_ok(), "{field}");
        for levels in [65, 100_000] {
            let rejected = nested(field, levels, open, close).unwrap_err();
            assert_eq!(rejected.code, ErrorCode::BadField);
            assert!(
                rejected.detail.contains(field) && rejected.detail.contains("64"),
                "{}",
                rejected.detail
            );
        }
    }
    // Not nesting: brackets in strings, after escapes, and side by side.
    let flat = format!(
        r#"{{"type":"broadcast","event":"e","payload":["\\\"{}",{}[]]}}"#,
        "[".repeat(99),
        "[],".repeat(99)
    );
    assert!(decode(&flat).is_ok());
    // Fields nobody reads may be as deep as they like.
    assert!(nested("unknown", 100_000, "[", "]").is_ok());
}

#[test]
fn the_ref_comes_back_whatever_is_wrong() {
    for text in [
        r#"{"ref":"a"}"#,
        r#"{"type":7,"ref":"a"}"#,
        r#"{"type":"nonsense","ref":"a"}"#,
        r#"{"type":"update","status":7,"ref":"a"}"#,
        r#"{"ref":"a","type":"broadcast","event":"e","to":["x"]}"#,
    ] {
        let reference = decode(text).unwrap_err().reference;
        assert_eq!(
            reference.map(|it| it.as_str().to_owned()).as_deref(),
            Some(r#""a""#),
            "{text}"
        );
    }
}

#[test]
fn details_stay_short_and_repeat_little() {
    for noise in [
        "x".repeat(9_000),
        "\u{1}".repeat(9_000),
        "\u{10ffff}".repeat(4_000),
    ] {
        let quoted = serde_json::to_string(&noise).unwrap();
        for text in [
            quoted.clone(),
            format!(r#"{{"type":{quoted}}}"#),
            format!(r#"{{{quoted}:1"#),
            format!(r#"{{"type":"update","status":{quoted}}}"#),
            format!(r#"{{"type":"broadcast","event":{quoted}}}"#),
            format!(r#"{{"type":"broadcast","event":"e","to":[{quoted}]}}"#),
            format!(r#"{{"type":"leave","ref":{quoted}}}"#),
        ] {
            let Rejected { detail, .. } = decode(&text).unwrap_err();
            assert!(detail.len() <= 256, "{detail}");
            assert!(!detail.contains(&"x".repeat(65)), "{detail}");
        }
    }
}

#[test]
fn limits_are_the_callers() {
    let limits = MessageLimits {
        event_chars: 2,
        to: 1,
        ..MessageLimits::default()
    };
    let id = "0192f0c1-2d3e-7a4b-8c5d-6e7f80910001";
    for (text, is_ok) in [
        (r#"{"type":"broadcast","event":"ab"}"#.to_owned(), true),
        (r#"{"type":"broadcast","event":"abc"}"#.to_owned(), false),
        (
            format!(r#"{{"type":"broadcast","event":"a","to":["{id}"]}}"#),
            true,
        ),
        (
            format!(r#"{{"type":"broadcast","event":"a","to":["{id}","{id}"]}}"#),
            false,
        ),
    ] {
        assert_eq!(
            ClientMessage::decode(&text, &limits).is_ok(),
            is_ok,
            "{text}"
        );
    }
}

/// A state is read and written again with every patch: a number that is read as its neighbour wanders off.
#[test]
fn numbers_in_a_state_stay_what_they_are() {
    for number in [
        "1.2345678901234567e+20",
        "5e-324",
        "0.1",
        "-0.0",
        "123456.7890123456",
    ] {
        let whole = format!(r#"{{"number":{number}}}"#);
        let mut state = whole.clone();
        for _ in 0..3 {
            let patch = format!(r#"{{"type":"update","state":{state}}}"#);
            let Ok(ClientMessage::Update {
                state: Some(patch), ..
            }) = decode(&patch).map(|inbound| inbound.message)
            else {
                panic!("{patch}")
            };
            state = StateText::from(&patch).as_str().to_owned();
        }
        assert_eq!(state, whole);
    }
}

/// Every message cut anywhere, and with any one byte replaced: an answer, never a panic, and never a message that does
/// not read back as itself.
#[test]
fn damage_is_refused_or_means_something() {
    let whole = r#"{"type":"broadcast","event":"é","payload":[{"a":"\n"}],"to":[],"ref":"r","state":{},"token":"t"}"#;
    let cuts = (0..whole.len())
        .filter_map(|end| whole.get(..end))
        .map(str::to_owned);
    let replaced = (0..whole.len()).flat_map(|at| {
        br#"{}[]":,\0 nt-"#.iter().filter_map(move |byte| {
            let mut bytes = whole.as_bytes().to_vec();
            bytes[at] = *byte;
            String::from_utf8(bytes).ok()
        })
    });
    for text in cuts.chain(replaced) {
        if let Ok(inbound) = decode(&text) {
            assert_eq!(decode(&inbound.to_text()), Ok(inbound), "{text}");
        }
    }
}

fn decode(text: &str) -> Result<Inbound, Rejected> {
    ClientMessage::decode(text, &MessageLimits::default())
}
