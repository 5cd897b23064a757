//! What clients say, and how it is decoded and refused.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};

use crate::{ErrorCode, MessageLimits, NESTING, ParticipantId, Status};

/// A message to the server.
///
/// ```
/// use rollcall_protocol::{ClientMessage, MessageLimits};
/// let inbound = ClientMessage::decode(r#"{"type":"heartbeat"}"#, &MessageLimits::default()).unwrap();
/// assert!(matches!(inbound.message, ClientMessage::Heartbeat));
/// ```
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ClientMessage {
    /// A sign of life; answered by `heartbeat_ack`.
    Heartbeat,
    /// Changes this connection's status, or the participant's state.
    Update {
        /// This connection's status.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<Status>,
        /// A merge patch (RFC 7396) of the participant's state.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<Map<String, Value>>,
    },
    /// Says something to the other connections of the room.
    Broadcast {
        /// What it is about; 1 to 64 characters.
        event: String,
        /// Any JSON.
        #[cfg_attr(feature = "schema", schemars(with = "Value"))]
        payload: Box<RawValue>,
        /// Only to these participants.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<Vec<ParticipantId>>,
    },
    /// A fresh access token for the same user.
    Token {
        /// The JWT.
        token: String,
    },
    /// Leave now; the server closes with 1000.
    Leave,
}

/// A message's own name, echoed in the error about it: a string of at most 128 bytes, or a number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ref(#[cfg_attr(feature = "schema", schemars(with = "Value"))] Box<RawValue>);

impl Ref {
    fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let is_name = text.starts_with('"')
            || text.starts_with('-')
            || text.starts_with(|c: char| c.is_ascii_digit());
        (is_name && text.len() <= 130).then(|| Self(raw.to_owned()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Ref {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// A decoded message with its `ref`.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// The message.
    pub message: ClientMessage,
    /// Its own name.
    pub reference: Option<Ref>,
}

/// Why a message was not understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code:?}: {detail}")]
pub struct Rejected {
    /// For programs.
    pub code: ErrorCode,
    /// For people: names what is wrong.
    pub detail: String,
    /// The message's own name, if it could be read.
    pub reference: Option<Ref>,
}

/// Every field that any message has, unread; other fields are ignored.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to: Option<&'a RawValue>,
    #[serde(borrow, default)]
    token: Option<&'a RawValue>,
}

/// A payload of `null` is one.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl ClientMessage {
    /// Decodes a text message.
    ///
    /// # Errors
    /// Names the field that is not as it should be.
    pub fn decode(text: &str, limits: &MessageLimits) -> Result<Inbound, Rejected> {
        if text == r#"{"type":"heartbeat"}"# {
            return Ok(Inbound {
                message: Self::Heartbeat,
                reference: None,
            });
        }
        if !text.trim_start().starts_with('{') {
            return Err(rejected(
                ErrorCode::BadMessage,
                "a message is a JSON object",
            ));
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| {
            rejected(
                ErrorCode::BadMessage,
                format!("the message is not JSON: {error}"),
            )
        })?;
        let reference =
            match fields.reference {
                Some(raw) => Some(Ref::read(raw).ok_or_else(|| {
                    bad_field("ref", "a string of at most 128 bytes, or a number")
                })?),
                None => None,
            };
        match fields.message(limits) {
            Ok(message) => Ok(Inbound { message, reference }),
            Err(rejected) => Err(Rejected {
                reference,
                ..rejected
            }),
        }
    }
}

impl Fields<'_> {
    fn message(&self, limits: &MessageLimits) -> Result<ClientMessage, Rejected> {
        let kind = self
            .kind
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let kind = kind.ok_or_else(|| {
            rejected(
                ErrorCode::BadMessage,
                "a message has a \"type\", which is a string",
            )
        })?;
        Ok(match kind.as_str() {
            "heartbeat" => ClientMessage::Heartbeat,
            "leave" => ClientMessage::Leave,
            "update" => ClientMessage::Update {
                status: self.status()?,
                state: self.state()?,
            },
            "broadcast" => ClientMessage::Broadcast {
                event: self.event(limits)?,
                payload: self.payload()?,
                to: self.to(limits)?,
            },
            "token" => {
                let token = required(self.token, "token")?;
                ClientMessage::Token {
                    token: read(token, "token", "a string")?,
                }
            }
            other => {
                let name: String = other.chars().take(64).collect();
                return Err(rejected(
                    ErrorCode::UnknownType,
                    format!("there is no message of type {name:?}"),
                ));
            }
        })
    }

    fn status(&self) -> Result<Option<Status>, Rejected> {
        self.status
            .map(|raw| read(raw, "status", "\"active\" or \"idle\""))
            .transpose()
    }

    fn state(&self) -> Result<Option<Map<String, Value>>, Rejected> {
        let Some(raw) = self.state else {
            return Ok(None);
        };
        check_nesting(raw, "state")?;
        read(raw, "state", "an object").map(Some)
    }

    fn event(&self, limits: &MessageLimits) -> Result<String, Rejected> {
        let event: String = read(required(self.event, "event")?, "event", "a string")?;
        if !(1..=limits.event_chars).contains(&event.chars().count()) {
            return Err(bad_field(
                "event",
                &format!("1 to {} characters long", limits.event_chars),
            ));
        }
        Ok(event)
    }

    fn payload(&self) -> Result<Box<RawValue>, Rejected> {
        let payload = self.payload.unwrap_or(RawValue::NULL);
        check_nesting(payload, "payload")?;
        Ok(payload.to_owned())
    }

    fn to(&self, limits: &MessageLimits) -> Result<Option<Vec<ParticipantId>>, Rejected> {
        let Some(raw) = self.to else { return Ok(None) };
        let to: Vec<String> = read(raw, "to", "an array of participant ids")?;
        if to.len() > limits.to {
            return Err(bad_field(
                "to",
                &format!("at most {} participants", limits.to),
            ));
        }
        let unknown = || {
            rejected(
                ErrorCode::UnknownParticipant,
                "\"to\" names somebody who is not in this room",
            )
        };
        to.iter()
            .map(|id| id.parse().map_err(|_| unknown()))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

fn required<'a>(raw: Option<&'a RawValue>, name: &str) -> Result<&'a RawValue, Rejected> {
    raw.ok_or_else(|| rejected(ErrorCode::BadField, format!("\"{name}\" is missing")))
}

fn read<T: DeserializeOwned>(raw: &RawValue, name: &str, what: &str) -> Result<T, Rejected> {
    serde_json::from_str(raw.get()).map_err(|_| bad_field(name, what))
}

/// Counts brackets outside strings; the text is JSON already.
fn check_nesting(raw: &RawValue, name: &str) -> Result<(), Rejected> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in raw.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > NESTING {
            return Err(bad_field(
                name,
                &format!("nested at most {NESTING} levels deep"),
            ));
        }
    }
    Ok(())
}

fn bad_field(name: &str, what: &str) -> Rejected {
    rejected(ErrorCode::BadField, format!("\"{name}\" must be {what}"))
}

fn rejected(code: ErrorCode, detail: impl Into<String>) -> Rejected {
    Rejected {
        code,
        detail: detail.into(),
        reference: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Inbound, Rejected> {
        ClientMessage::decode(text, &MessageLimits::default())
    }

    #[test]
    fn malformed_messages_are_refused_by_name() {
        let deep = format!(
            r#"{{"type":"broadcast","event":"e","payload":{}{}}}"#,
            "[".repeat(65),
            "]".repeat(65)
        );
        let many = format!(
            r#"{{"type":"broadcast","event":"e","to":[{}""]}}"#,
            r#""","#.repeat(100)
        );
        let rows = [
            ("", ErrorCode::BadMessage, "object"),
            ("[]", ErrorCode::BadMessage, "object"),
            ("{", ErrorCode::BadMessage, "not JSON"),
            ("{}", ErrorCode::BadMessage, "type"),
            (r#"{"type":1}"#, ErrorCode::BadMessage, "type"),
            (
                r#"{"type":"heartbeat"} x"#,
                ErrorCode::BadMessage,
                "not JSON",
            ),
            (r#"{"type":"nonsense"}"#, ErrorCode::UnknownType, "nonsense"),
            (
                r#"{"type":"update","status":"away"}"#,
                ErrorCode::BadField,
                "status",
            ),
            (
                r#"{"type":"update","state":[]}"#,
                ErrorCode::BadField,
                "state",
            ),
            (r#"{"type":"broadcast"}"#, ErrorCode::BadField, "event"),
            (
                r#"{"type":"broadcast","event":""}"#,
                ErrorCode::BadField,
                "event",
            ),
            (
                r#"{"type":"broadcast","event":"e","to":"x"}"#,
                ErrorCode::BadField,
                "to",
            ),
            (
                r#"{"type":"broadcast","event":"e","to":["x"]}"#,
                ErrorCode::UnknownParticipant,
                "to",
            ),
            (r#"{"type":"token"}"#, ErrorCode::BadField, "token"),
            (
                r#"{"type":"heartbeat","ref":{}}"#,
                ErrorCode::BadField,
                "ref",
            ),
            (&deep, ErrorCode::BadField, "payload"),
            (&many, ErrorCode::BadField, "to"),
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
    fn the_ref_comes_back_whatever_is_wrong() {
        let rejected = decode(r#"{"type":"nonsense","ref":"a"}"#).unwrap_err();
        assert_eq!(
            rejected
                .reference
                .map(|it| it.as_str().to_owned())
                .as_deref(),
            Some(r#""a""#)
        );
        assert_eq!(
            decode(r#"{"type":"leave","ref":7,"more":[]}"#)
                .unwrap()
                .reference
                .unwrap()
                .as_str(),
            "7"
        );
    }

    #[test]
    fn a_payload_is_kept_to_the_letter() {
        let inbound = decode(r#"{"type":"broadcast","event":"e","payload":{"x": 1.50}}"#).unwrap();
        let ClientMessage::Broadcast { payload, .. } = inbound.message else {
            panic!("a broadcast")
        };
        assert_eq!(payload.get(), r#"{"x": 1.50}"#);
    }
}
