//! Codes and limits as published: as files, and in the protocol's text, which must name every one of them.

mod harness;

use std::{fs, time::Duration};

use rollcall_protocol::{
    BAD_MESSAGES_PER_MINUTE, BEARER_PREFIX, CONNECTIONS_PER_PARTICIPANT, ClientMessage, CloseCode,
    ComesBack, ErrorCode, FANOUT_BYTES_PER_SECOND, FANOUT_FRAMES_PER_SECOND, MESSAGE_BURST,
    MESSAGES_PER_SECOND, METADATA_BYTES, MessageLimits, NAME_CHARS, NESTING, PROTOCOL_VERSION,
    Problem, ProblemCode, RESUME_PREFIX, ROSTER_LIMIT, SUBPROTOCOL, ServerMessage, comes_back,
};
use serde::Serialize;
use serde_json::{Value, json};

#[test]
fn problems_are_as_published() {
    let row = |code: &ProblemCode| {
        let Problem {
            kind,
            title,
            status,
            code,
            ..
        } = Problem::new(*code, "");
        json!({"type": kind, "title": title, "status": status, "code": code, "close_code": code.close_code()})
    };
    harness::check(
        "golden/problem-codes.json",
        &table(ProblemCode::ALL.iter().map(row)),
    );

    let problem = Problem::new(
        ProblemCode::RateLimited,
        "Too many attempts. Please wait a moment.",
    )
    .retry_after(Duration::from_millis(1500));
    harness::check("golden/problem.json", &pretty(&problem));
    let again: Problem = serde_json::from_str(&pretty(&problem)).expect("a problem");
    assert_eq!(again, problem);
}

#[test]
fn codes_are_as_published() {
    let row = |code: &CloseCode| json!({"code": code.code(), "reason": code.reason(), "comes_back": word(code.code())});
    harness::check(
        "golden/close-codes.json",
        &table(CloseCode::ALL.iter().map(row)),
    );
    // What clients do after codes that the server does not send, or does not send yet.
    let others = [
        1001, 1005, 1006, 1008, 1011, 3000, 4000, 4402, 4409, 4499, 4500, 4503, 4599, 4600,
    ];
    let row = |code| json!({"code": code, "comes_back": word(code)});
    harness::check(
        "golden/other-close-codes.json",
        &table(others.into_iter().map(row)),
    );
    let row = |code: &ErrorCode| json!(code.as_str());
    harness::check(
        "golden/error-codes.json",
        &table(ErrorCode::ALL.iter().map(row)),
    );
    for code in ErrorCode::ALL {
        assert_eq!(json!(code), json!(code.as_str()));
    }
}

#[test]
fn limits_are_as_published() {
    let MessageLimits {
        message_bytes,
        state_bytes,
        event_chars,
        to,
    } = MessageLimits::default();
    let limits = json!({
        "protocol": PROTOCOL_VERSION,
        "subprotocol": SUBPROTOCOL,
        "message_bytes": message_bytes,
        "state_bytes": state_bytes,
        "event_chars": event_chars,
        "to": to,
        "nesting": NESTING,
        "metadata_bytes": METADATA_BYTES,
        "name_chars": NAME_CHARS,
        "roster_limit": ROSTER_LIMIT,
        "messages_per_second": MESSAGES_PER_SECOND,
        "message_burst": MESSAGE_BURST,
        "bad_messages_per_minute": BAD_MESSAGES_PER_MINUTE,
        "fanout_frames_per_second": FANOUT_FRAMES_PER_SECOND,
        "fanout_bytes_per_second": FANOUT_BYTES_PER_SECOND,
        "connections_per_participant": CONNECTIONS_PER_PARTICIPANT,
    });
    harness::check("golden/limits.json", &pretty(&limits));
}

#[test]
fn close_reasons_fit_and_codes_are_told_apart() {
    for code in CloseCode::ALL {
        assert!(code.reason().len() <= 123, "{code:?}");
    }
    let numbers = CloseCode::ALL.map(CloseCode::code);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    for code in ProblemCode::ALL {
        assert_eq!(json!(code), json!(code.as_str()));
        assert_eq!(code.close_code(), 4000 + code.status());
    }
}

/// The rule by which clients come back, written a second time, for every number there is.
#[test]
fn everybody_knows_who_comes_back() {
    for code in 0..=u16::MAX {
        let back_off = [4408, 4429, 1012, 1013].contains(&code) || (4500..4600).contains(&code);
        let never = [1000, 1002, 1007, 1009].contains(&code) || code / 100 == 44;
        let expected = match code {
            4401 => ComesBack::Once,
            _ if back_off || !never => ComesBack::BackOff,
            _ => ComesBack::Never,
        };
        assert_eq!(comes_back(code), expected, "{code}");
    }
}

#[test]
fn the_text_names_every_code() {
    let text = readme();
    for code in ProblemCode::ALL {
        let row = text.lines().any(|line| {
            line.starts_with(&format!("| {} |", code.status()))
                && line.contains(&format!("`{}`", code.as_str()))
        });
        assert!(
            row,
            "README.md has no row for {} {}",
            code.status(),
            code.as_str()
        );
    }
    for code in ErrorCode::ALL {
        assert!(
            text.contains(&format!("| `{}` |", code.as_str())),
            "{code:?}"
        );
    }
    for code in CloseCode::ALL {
        let means = match comes_back(code.code()) {
            ComesBack::Never => "no",
            ComesBack::Once => "once",
            ComesBack::BackOff => "yes",
        };
        let row = format!("| {} | {} | {means} ", code.code(), code.reason());
        assert!(
            text.contains(&row),
            "README.md has no row that starts with {row:?}"
        );
    }
    for name in [SUBPROTOCOL, BEARER_PREFIX, RESUME_PREFIX] {
        assert!(text.contains(&format!("`{name}")), "{name}");
    }
}

/// Every line of the blocks marked `json server` and `json client` is a message, and every type has one.
#[test]
fn the_examples_of_the_text_are_messages() {
    let text = readme();
    let mut shown = Vec::new();
    for line in block_lines(&text, "json server") {
        let message: ServerMessage = serde_json::from_str(line).expect(line);
        assert_eq!(message.to_text(), line);
        shown.push(kind(line));
    }
    for line in block_lines(&text, "json client") {
        let inbound = ClientMessage::decode(line, &MessageLimits::default()).expect(line);
        assert_eq!(inbound.to_text(), line);
        shown.push(kind(line));
    }
    for file in ["golden/server", "golden/client"] {
        for file in fs::read_dir(harness::path(file)).expect("the folder is published") {
            let text = fs::read_to_string(file.expect("a file").path()).expect("text");
            assert!(
                shown.contains(&kind(&text)),
                "README.md shows no {}",
                kind(&text)
            );
        }
    }
}

fn block_lines<'a>(text: &'a str, mark: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("```{mark}\n");
    let blocks: Vec<_> = text
        .split(&start)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!blocks.is_empty(), "README.md has no block {mark:?}");
    blocks.into_iter().flat_map(str::lines)
}

fn kind(json: &str) -> Value {
    serde_json::from_str::<Value>(json).expect("JSON")["type"].clone()
}

fn readme() -> String {
    fs::read_to_string(harness::path("README.md")).expect("the protocol's text")
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

fn word(code: u16) -> &'static str {
    match comes_back(code) {
        ComesBack::Never => "never",
        ComesBack::Once => "once",
        ComesBack::BackOff => "back_off",
    }
}

/// One row a line, which diffs well.
fn table(rows: impl Iterator<Item = Value>) -> String {
    let rows: Vec<_> = rows.map(|row| format!("  {row}")).collect();
    format!("[\n{}\n]", rows.join(",\n"))
}
