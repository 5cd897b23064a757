//! What a stranger does, made of a fuzzer's bytes.

use arbitrary::Arbitrary;
use serde_json::{Map, Value, json};

use super::frame::Frame;

/// What one stranger does from its welcome on.
#[derive(Debug, Arbitrary)]
pub(super) struct Script {
    /// How much memory is between it and the server, one byte at the least.
    pub(super) buffer: u8,
    /// How much it writes at a time: these in turn, one byte at the least.
    pub(super) pieces: Vec<u8>,
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
}

#[derive(Debug, Arbitrary)]
pub(super) enum Step {
    /// Frames of some shape.
    Frame(Frame),
    /// The same frame again and again.
    Flood(Frame, u8),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Milliseconds of silence.
    Wait(u16),
    /// From here on it reads, or does not.
    Read(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub(super) enum End {
    /// It stays, and says no more.
    Silence,
    /// It says that no more comes, and reads on.
    HalfClose,
    /// It is gone.
    HangUp,
}

/// A message, right or wrong.
#[derive(Debug, Arbitrary)]
pub(super) struct Words {
    pub(super) message: Message,
    pub(super) reference: Option<Text>,
}

#[derive(Debug, Arbitrary)]
pub(super) enum Message {
    Heartbeat,
    Leave,
    Update {
        is_idle: Option<bool>,
        state: Option<Vec<(Text, Option<Text>)>>,
    },
    Broadcast {
        event: Text,
        payload: Text,
        to: Option<Vec<Whom>>,
    },
    Token(Token),
    Nested(u8),
    Other(Text),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Whom {
    Member,
    Itself,
    Nobody,
    NoId,
}

#[derive(Debug, Arbitrary)]
pub(super) enum Token {
    Right,
    Stolen,
    Other(Text),
}

#[derive(Debug, Arbitrary)]
pub(super) enum Text {
    Word,
    Said(String),
    Long(u16),
    Number(f64),
}

/// What messages name.
pub(super) struct Names<'a> {
    pub(super) member: &'a str,
    pub(super) itself: &'a str,
    pub(super) own_token: &'a str,
    pub(super) stolen_token: &'a str,
}

impl Words {
    pub(super) fn to_text(&self, names: &Names<'_>) -> String {
        let mut message = self.message.to_json(names);
        if let Some(reference) = &self.reference {
            message["ref"] = reference.to_json();
        }
        message.to_string()
    }
}

impl Message {
    fn to_json(&self, names: &Names<'_>) -> Value {
        match self {
            Self::Heartbeat => json!({"type": "heartbeat"}),
            Self::Leave => json!({"type": "leave"}),
            Self::Update { is_idle, state } => {
                let status = is_idle.map(|is_idle| if is_idle { "idle" } else { "active" });
                let state: Option<Map<String, Value>> = state.as_ref().map(|state| {
                    let fields = state.iter();
                    fields
                        .map(|(name, value)| {
                            (name.to_string(), json!(value.as_ref().map(Text::to_json)))
                        })
                        .collect()
                });
                json!({"type": "update", "status": status, "state": state})
            }
            Self::Broadcast { event, payload, to } => {
                let id = |whom: &Whom| match whom {
                    Whom::Member => names.member,
                    Whom::Itself => names.itself,
                    Whom::Nobody => "0192f0c1-2d3e-7a4b-8c5d-6e7f80910001",
                    Whom::NoId => "nobody",
                };
                let to: Option<Vec<&str>> = to.as_ref().map(|to| to.iter().map(id).collect());
                json!({"type": "broadcast", "event": event.to_string(), "payload": payload.to_json(), "to": to})
            }
            Self::Token(token) => json!({"type": "token", "token": match token {
                Token::Right => names.own_token.to_owned(),
                Token::Stolen => names.stolen_token.to_owned(),
                Token::Other(text) => text.to_string(),
            }}),
            Self::Nested(levels) => {
                let payload = (0..*levels).fold(json!(1), |inner, _| json!([inner]));
                json!({"type": "broadcast", "event": "nested", "payload": payload})
            }
            Self::Other(kind) => json!({"type": kind.to_json()}),
        }
    }
}

impl Text {
    fn to_json(&self) -> Value {
        match self {
            Self::Number(number) => json!(number),
            text => Value::String(text.to_string()),
        }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word => f.write_str("word"),
            Self::Said(text) => f.write_str(text),
            Self::Long(length) => f.write_str(&"x".repeat(usize::from(*length) % 2048)),
            Self::Number(number) => number.fmt(f),
        }
    }
}
