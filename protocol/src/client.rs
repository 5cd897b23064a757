//! What clients say, and how it is decoded and refused.
//!
//! Decoding reads the text once, leaving every field as raw JSON, and then only the fields that the `type` has. What is
//! refused says so by name, and never repeats more than a little of what it was sent.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};

use crate::{ErrorCode, InvalidRef, MessageLimits, NESTING, ParticipantId, Ref, Status};

/// A message to the server.
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
        #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
        event: String,
        /// Any JSON; absent is null.
        #[cfg_attr(feature = "schema", schemars(with = "Option<Value>"))]
        payload: Box<RawValue>,
        /// Only to these participants; nobody if empty, everybody if absent.
        #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
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

/// By text, as a payload is.
impl PartialEq for ClientMessage {
    fn eq(&self, other: &Self) -> bool {
        self.to_text() == other.to_text()
    }
}

/// A message with its `ref`: the whole of what a client sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// The message.
    pub message: ClientMessage,
    /// Its own name.
    pub reference: Option<Ref>,
}

impl Inbound {
    /// The JSON text.
    pub fn to_text(&self) -> String {
        let mut text = self.message.to_text();
        if let Some(reference) = &self.reference {
            // The text is an object with a `type`, so it ends in a brace that a field may go before.
            text.truncate(text.len().saturating_sub(1));
            text.push_str(",\"ref\":");
            text.push_str(reference.as_str());
            text.push('}');
        }
        text
    }
}

impl From<ClientMessage> for Inbound {
    fn from(message: ClientMessage) -> Self {
        Self {
            message,
            reference: None,
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Inbound {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Inbound".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let message = generator.subschema_for::<ClientMessage>();
        let reference = generator.subschema_for::<Option<Ref>>();
        schemars::json_schema!({
            "description": "A message to the server, with or without its own name.",
            "allOf": [message, {"type": "object", "properties": {"ref": reference}}]
        })
    }
}

/// Why a message was not understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{detail}")]
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
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to: Option<&'a RawValue>,
    #[serde(borrow, default)]
    token: Option<&'a RawValue>,
}

impl ClientMessage {
    /// Decodes a text message. Its length is the socket's to limit, and the merged state's the room's.
    ///
    /// A field of null is a field left out; unknown fields are ignored.
    ///
    /// ```
    /// # use rollcall_protocol::{ClientMessage, MessageLimits};
    /// let texts = [
    ///     r#"{"type":"heartbeat"}"#,
    ///     r#"{"type":"update","status":"idle","state":{"cursor":null}}"#,
    ///     r#"{"type":"broadcast","event":"cursor","payload":{"x":1.50},"to":["0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"]}"#,
    ///     r#"{"type":"token","token":"eyJhbGciOi..."}"#,
    ///     r#"{"type":"leave","ref":"last-words"}"#,
    /// ];
    /// for text in texts {
    ///     let inbound = ClientMessage::decode(text, &MessageLimits::default())?;
    ///     assert_eq!(inbound.to_text(), text);
    /// }
    /// # Ok::<(), rollcall_protocol::Rejected>(())
    /// ```
    ///
    /// # Errors
    /// Names the field that is not as it should be, and returns the message's `ref` if that could be read.
    pub fn decode(text: &str, limits: &MessageLimits) -> Result<Inbound, Rejected> {
        if text == HEARTBEAT {
            return Ok(Self::Heartbeat.into());
        }
        if !text.trim_start().starts_with('{') {
            return Err(rejected(
                ErrorCode::BadMessage,
                "a message is a JSON object",
            ));
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
        let reference = fields
            .reference
            .map(|raw| Ref::try_from(raw.to_owned()))
            .transpose();
        match (fields.message(limits), reference) {
            (Ok(message), Ok(reference)) => Ok(Inbound { message, reference }),
            (Ok(_), Err(InvalidRef)) => Err(rejected(ErrorCode::BadField, InvalidRef.to_string())),
            (Err(rejected), reference) => Err(Rejected {
                reference: reference.ok().flatten(),
                ..rejected
            }),
        }
    }

    /// The JSON text.
    pub fn to_text(&self) -> String {
        // Every field is JSON by construction.
        serde_json::to_string(self).unwrap_or_default()
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
                let name: String = other.chars().take(ECHOED).collect();
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
        read(raw, "state", "an object of well-formed text and numbers").map(Some)
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

/// What serde says of syntax repeats no input; of a field that is there twice, only its name, which is ours.
fn unreadable(error: &serde_json::Error) -> Rejected {
    let what = if error.is_data() {
        "is ambiguous"
    } else {
        "is not JSON"
    };
    rejected(
        ErrorCode::BadMessage,
        format!("the message {what}: {error}"),
    )
}

fn rejected(code: ErrorCode, detail: impl Into<String>) -> Rejected {
    let mut detail = detail.into();
    detail.truncate(detail.floor_char_boundary(DETAIL_BYTES));
    Rejected {
        code,
        detail,
        reference: None,
    }
}

/// What most messages are, byte for byte.
const HEARTBEAT: &str = r#"{"type":"heartbeat"}"#;
/// How many characters of the input a detail may repeat.
const ECHOED: usize = 64;
/// The longest detail: escapes make one repeated character up to ten.
const DETAIL_BYTES: usize = 256;
