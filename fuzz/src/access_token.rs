//! Access tokens: any text, and anything at all signed with the right key.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall::{
    admission::{AccessClaims, AccessTokens, Rooms},
    clock::Clock,
};
use rollcall_protocol::{DisplayName, ProblemCode, RoomId, Timestamp};
use serde_json::{Map, Value, json};

use crate::stage::{EPOCH, SECRET, config, paused};

/// Longer is no credential.
const CREDENTIAL_BYTES: usize = 8 * 1024;
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The first byte says what the rest is: `t` the text of a token, `c` the text of its claims, `h` the text of its header and in
/// the next lines its claims; anything else is what claims are made of.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((b't', token)) => check_token(&String::from_utf8_lossy(token), None),
        Some((b'c', claims)) => check_signed(HS256.as_bytes(), claims),
        Some((b'h', parts)) => {
            let mut parts = parts.splitn(2, |byte| *byte == b'\n');
            let header = parts.next().unwrap_or_default();
            check_signed(header, parts.next().unwrap_or_default());
        }
        _ => {
            if let Ok(claims) = Claims::arbitrary_take_rest(Unstructured::new(data)) {
                check_signed(HS256.as_bytes(), claims.into_json().to_string().as_bytes());
            }
        }
    }
}

/// Signs as the application would, and as it should not: the key is right whatever the header says.
fn check_signed(header: &[u8], claims: &[u8]) {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    check_token(&token, Some((header, claims)));
}

fn check_token(token: &str, signed: Option<(&[u8], &[u8])>) {
    // The clock stands still where nothing waits.
    let checked = paused().block_on(async {
        let clock = Clock::manual(Timestamp::from_millis(EPOCH));
        let (tokens, _) = AccessTokens::new(&config(), clock, &Arc::default());
        tokens.check(token).await
    });
    match checked {
        Ok(claims) => {
            let (header, raw) = signed.expect("nothing is accepted that was not signed here");
            let header: Value = serde_json::from_slice(header).expect("a header is JSON");
            assert_eq!(header["alg"], "HS256", "no other algorithm is accepted");
            check_claims(&claims, raw);
        }
        Err(problem) => {
            assert!(matches!(
                problem.code,
                ProblemCode::CredentialInvalid | ProblemCode::CredentialExpired
            ));
            assert!(problem.detail.len() <= 256, "{}", problem.detail);
            let is_ours = |(header, _): &(&[u8], &[u8])| {
                *header == HS256.as_bytes() && token.len() <= CREDENTIAL_BYTES
            };
            if let Some((header, claims)) = signed.filter(is_ours) {
                let is_plain = is_plain(claims);
                assert!(
                    !is_plain,
                    "{problem:?} of {header:?} {:?}",
                    String::from_utf8_lossy(claims)
                );
            }
        }
    }
}

/// What was accepted says what the claims say.
fn check_claims(claims: &AccessClaims, raw: &[u8]) {
    assert!(claims.expires_at.as_millis() > EPOCH, "{claims:?}");
    let Ok(raw) = serde_json::from_slice::<Map<String, Value>>(raw) else {
        return;
    };
    assert_eq!(raw["sub"], claims.user_id.as_str());
    let exp = raw["exp"].as_f64().expect("exp is a number") * 1000.0;
    assert_eq!(claims.expires_at, Timestamp::from_millis(exp as i64));
    match &claims.rooms {
        Rooms::One(room) => assert_eq!(raw["room"], room.as_str()),
        Rooms::All => assert_eq!(raw["room"], "*"),
        Rooms::Listed(rooms) => {
            let rooms: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
            assert_eq!(raw["room"], json!(rooms));
        }
    }
    let name = raw.get("name").filter(|name| !name.is_null());
    assert_eq!(
        claims.name.as_ref().map(DisplayName::as_str),
        name.map(|name| name.as_str().expect("a name is text").trim())
    );
    let flags = [
        ("create", claims.create, false),
        ("observe", claims.observe, false),
        ("last_seen", claims.keeps_last_seen, true),
    ];
    for (name, flag, otherwise) in flags {
        let said = raw.get(name).filter(|said| !said.is_null());
        assert_eq!(json!(flag), *said.unwrap_or(&json!(otherwise)), "{name}");
    }
}

/// Claims of only what the protocol's text names, each as it says: these must be accepted.
fn is_plain(claims: &[u8]) -> bool {
    let length = claims.len();
    let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(claims) else {
        return false;
    };
    // Nothing is said twice.
    if json!(claims).to_string().len() != length {
        return false;
    }
    let is_id = |id: &Value| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.:@|-".contains(c);
        id.as_str()
            .is_some_and(|id| (1..=128).contains(&id.len()) && id.chars().all(is_allowed))
    };
    let is_room = |room: &Value| match room {
        Value::Array(rooms) => rooms.iter().all(is_id),
        room => room == "*" || is_id(room),
    };
    let is_name = |name: &Value| {
        name.as_str().map(str::trim).is_some_and(|name| {
            (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        })
    };
    let is_known = |(name, value): (&String, &Value)| match name.as_str() {
        "sub" => is_id(value),
        "exp" => value
            .as_i64()
            .is_some_and(|exp| (EPOCH / 1000 + 1..1 << 40).contains(&exp)),
        "room" => is_room(value),
        "name" => is_name(value),
        "create" | "observe" | "last_seen" => value.is_boolean(),
        _ => false,
    };
    ["sub", "exp", "room"]
        .iter()
        .all(|name| claims.contains_key(*name))
        && claims.iter().all(is_known)
}

/// Claims that are nearly right.
#[derive(Debug, Arbitrary)]
struct Claims {
    sub: Option<Text>,
    exp: Option<When>,
    room: Option<Room>,
    name: Option<Text>,
    create: Option<Flag>,
    observe: Option<Flag>,
    last_seen: Option<Flag>,
    iss: Option<Text>,
    aud: Option<Text>,
    nbf: Option<When>,
    more: Option<(String, Text)>,
}

#[derive(Debug, Arbitrary)]
enum Text {
    Id,
    Said(String),
    Long(u8),
    Number(f64),
    Null,
}

#[derive(Debug, Arbitrary)]
enum When {
    Around(i16),
    Whole(i64),
    Any(f64),
    Said(Text),
}

#[derive(Debug, Arbitrary)]
enum Room {
    One(Text),
    All,
    Listed(Vec<Text>),
}

#[derive(Debug, Arbitrary)]
enum Flag {
    Right(bool),
    Wrong(Text),
}

impl Claims {
    fn into_json(self) -> Value {
        let room = self.room.map(|room| match room {
            Room::One(text) => text.into_json(),
            Room::All => json!("*"),
            Room::Listed(rooms) => rooms.into_iter().map(Text::into_json).collect(),
        });
        let flag = |flag| match flag {
            Flag::Right(flag) => Value::Bool(flag),
            Flag::Wrong(text) => Text::into_json(text),
        };
        let fields = [
            ("sub", self.sub.map(Text::into_json)),
            ("exp", self.exp.map(When::into_json)),
            ("room", room),
            ("name", self.name.map(Text::into_json)),
            ("create", self.create.map(flag)),
            ("observe", self.observe.map(flag)),
            ("last_seen", self.last_seen.map(flag)),
            ("iss", self.iss.map(Text::into_json)),
            ("aud", self.aud.map(Text::into_json)),
            ("nbf", self.nbf.map(When::into_json)),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let more = self.more.map(|(name, text)| (name, text.into_json()));
        Value::Object(fields.chain(more).collect())
    }
}

impl Text {
    fn into_json(self) -> Value {
        match self {
            Self::Id => json!("a.Z_0:@|-"),
            Self::Said(text) => Value::String(text),
            Self::Long(length) => Value::String("x".repeat(length.into())),
            Self::Number(number) => json!(number),
            Self::Null => Value::Null,
        }
    }
}

impl When {
    fn into_json(self) -> Value {
        match self {
            Self::Around(seconds) => json!(EPOCH / 1000 + i64::from(seconds)),
            Self::Whole(seconds) => json!(seconds),
            Self::Any(seconds) => json!(seconds),
            Self::Said(text) => text.into_json(),
        }
    }
}
