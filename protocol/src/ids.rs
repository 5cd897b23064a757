//! Ids and names: what a value holds has been checked, so nobody checks it again.
//!
//! The application's ids are text within an alphabet, the server's own are UUIDs (or 16 hexadecimal digits for a
//! connection). Every way in, serde included, goes through the same check.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The most characters in an application's id.
const MAX_ID: usize = 128;
/// Characters of a UUID with hyphens.
const HYPHENATED: usize = 36;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Empty or too long.
    #[error("an id needs 1 to {MAX_ID} characters, this has {0}")]
    Length(usize),
    /// A character that ids do not have.
    #[error("an id consists of A-Z a-z 0-9 . _ : @ | -, not {0:?}")]
    Character(char),
    /// Not a UUID, which the server's own ids are.
    #[error("not an id of this server's")]
    Foreign,
}

/// Why a text is not a display name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing to see.
    #[error("a name needs at least one visible character")]
    Empty,
    /// Too long.
    #[error("a name has at most {max} characters, this has {0}", max = crate::NAME_CHARS)]
    Length(usize),
    /// A control character.
    #[error("a name has no control characters")]
    Control,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $error:ty, $check:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let check: fn(&str) -> Result<&str, $error> = $check;
                check(text).map(|text| Self(text.into()))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $error;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

text_type!(
    /// A room's id, the application's own or generated: 1 to 128 of `A-Z a-z 0-9 . _ : @ | -`.
    RoomId,
    InvalidId,
    check_id,
    {"type": "string", "pattern": "^[A-Za-z0-9._:@|-]{1,128}$"}
);
text_type!(
    /// An access token's `sub`: 1 to 128 of `A-Z a-z 0-9 . _ : @ | -`.
    UserId,
    InvalidId,
    check_id,
    {"type": "string", "pattern": "^[A-Za-z0-9._:@|-]{1,128}$"}
);
text_type!(
    /// A display name: 1 to 64 characters (Unicode scalar values), trimmed, without control characters.
    DisplayName,
    InvalidName,
    check_name,
    {"type": "string", "minLength": 1, "maxLength": 64}
);

impl DisplayName {
    /// Somebody who gave no name.
    pub fn guest() -> Self {
        Self("Guest".into())
    }
}

fn check_id(text: &str) -> Result<&str, InvalidId> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._:@|-".contains(c);
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(character) => Err(InvalidId::Character(character)),
        None if text.is_empty() || text.len() > MAX_ID => Err(InvalidId::Length(text.len())),
        None => Ok(text),
    }
}

fn check_name(text: &str) -> Result<&str, InvalidName> {
    let name = text.trim();
    let length = name.chars().count();
    if name.chars().any(char::is_control) {
        return Err(InvalidName::Control);
    }
    match length {
        0 => Err(InvalidName::Empty),
        length if length > crate::NAME_CHARS => Err(InvalidName::Length(length)),
        _ => Ok(name),
    }
}

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("format" = "uuid")))]
        pub struct $name(#[cfg_attr(feature = "schema", schemars(with = "String"))] pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // The UUID parser also takes braces, `urn:uuid:` and no hyphens: one id would have four spellings.
                let hyphenated = Some(text).filter(|text| text.len() == HYPHENATED);
                hyphenated.and_then(|text| text.parse().ok()).map(Self).ok_or(InvalidId::Foreign)
            }
        }
    };
}

uuid_type!(
    /// A participant of one room. Given by the server (uuid v7).
    ParticipantId
);
uuid_type!(
    /// An invite; not its token, which is secret.
    InviteId
);

/// One WebSocket; 16 hexadecimal digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Checked here because `from_str_radix` also takes a sign and upper case.
        if text.len() != 16
            || !text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(InvalidId::Foreign);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| InvalidId::Foreign)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ConnectionId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConnectionId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9a-f]{16}$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_checked() {
        for id in ["a", "A.z_0:@|-", &"x".repeat(128)] {
            assert_eq!(id.parse::<RoomId>().unwrap().as_str(), id);
        }
        for id in ["", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(id.parse::<RoomId>().is_err(), "{id:?}");
        }
        assert_eq!(
            " Ada \u{1F600} ".parse::<DisplayName>().unwrap().as_str(),
            "Ada \u{1F600}"
        );
        assert!("ä".repeat(64).parse::<DisplayName>().is_ok());
        for name in ["", "  ", "a\nb", "a\u{0}", &"x".repeat(65)] {
            assert!(name.parse::<DisplayName>().is_err(), "{name:?}");
        }
        assert_eq!(ConnectionId(10).to_string(), "000000000000000a");
        assert_eq!("000000000000000a".parse(), Ok(ConnectionId(10)));
        for id in [
            "",
            "a",
            "+00000000000000a",
            "000000000000000A",
            "00000000000000000a",
        ] {
            assert_eq!(
                id.parse::<ConnectionId>(),
                Err(InvalidId::Foreign),
                "{id:?}"
            );
        }
        let id = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
        assert_eq!(id.parse::<ParticipantId>().unwrap().to_string(), id);
        for id in [
            "",
            "x",
            "0192f0c12d3e7a4b8c5d6e7f8091a2b3",
            "{0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3}",
        ] {
            assert_eq!(
                id.parse::<ParticipantId>(),
                Err(InvalidId::Foreign),
                "{id:?}"
            );
        }
    }
}
