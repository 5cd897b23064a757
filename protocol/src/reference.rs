//! A message's own name, `ref` on the wire: what it may be, and that it comes back to the letter.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A message's own name, echoed in the error about it: a string of at most 128 bytes, or a number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Box<RawValue>")]
pub struct Ref(Box<RawValue>);

/// A `ref` that is neither a number nor a string of at most 128 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("\"ref\" must be a string of at most {MAX_REF} bytes, or a number")]
pub struct InvalidRef;

impl Ref {
    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl From<u64> for Ref {
    fn from(number: u64) -> Self {
        // A number always is JSON.
        Self(serde_json::value::to_raw_value(&number).unwrap_or_default())
    }
}

impl TryFrom<&str> for Ref {
    type Error = InvalidRef;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        serde_json::value::to_raw_value(name)
            .map_err(|_| InvalidRef)?
            .try_into()
    }
}

impl TryFrom<Box<RawValue>> for Ref {
    type Error = InvalidRef;

    fn try_from(raw: Box<RawValue>) -> Result<Self, Self::Error> {
        if is_ref(raw.get()) {
            Ok(Self(raw))
        } else {
            Err(InvalidRef)
        }
    }
}

/// Measures a long string again without its escapes, which some encoders write for everything beyond ASCII.
fn is_ref(json: &str) -> bool {
    let fits = json.len() <= MAX_REF + 2;
    match json.as_bytes() {
        [b'"', ..] => {
            fits || serde_json::from_str::<String>(json).is_ok_and(|name| name.len() <= MAX_REF)
        }
        [b'-' | b'0'..=b'9', ..] => fits,
        _ => false,
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Ref {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ref".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let about = "A message's own name, echoed in the error about it.";
        schemars::json_schema!({"description": about, "type": ["string", "number"], "maxLength": MAX_REF})
    }
}

impl PartialEq for Ref {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// The most bytes in a `ref`: it comes back whole, so it must not be a way to make the server talk.
const MAX_REF: usize = 128;
