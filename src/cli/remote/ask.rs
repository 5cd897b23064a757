//! What the commands ask the running server, and how its answers are printed.

use std::io::{self, Read, Write};

use serde_json::{Map, Value, json};

use super::{IdleTimeout, Invite, NewRoom, One, Remote, Room, Token};
use crate::cli::{
    Failure,
    client::{Client, Connection, encode},
    table,
};

impl Remote {
    pub(in crate::cli) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        match self {
            Self::Reap {
                connection,
                dry_run,
            } => {
                let swept = connection
                    .client()?
                    .post("/v1/admin/reap", &json!({ "dry_run": dry_run }))?;
                print(out, connection, &swept, reaped)
            }
            Self::Stats { connection } => print(
                out,
                connection,
                &connection.client()?.get("/v1/admin/stats")?,
                table::fields,
            ),
            Self::Room(room) => room.run(out),
            Self::Invite(invite) => invite.run(out),
            Self::Token(token) => token.run(out),
        }
    }
}

impl Room {
    fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        match self {
            Self::Create(wish) => {
                let made = wish.connection.client()?.post("/v1/rooms", &wish.body())?;
                print(out, &wish.connection, &made, table::fields)
            }
            Self::List { connection } => {
                let rooms = connection.client()?.list("/v1/rooms")?;
                print(out, connection, &rooms, |out, rooms| {
                    items(out, rooms, "no rooms", ROOM_COLUMNS)
                })
            }
            Self::Show(One { connection, room }) => {
                show(out, connection, &connection.client()?, room)
            }
            Self::Close(One { connection, room }) => {
                let closed = connection
                    .client()?
                    .delete(&format!("/v1/rooms/{}", encode(room)))?;
                print(out, connection, &closed, |out, _| {
                    writeln!(out, "closed {room}")
                })
            }
        }
    }
}

impl NewRoom {
    fn body(&self) -> Value {
        let idle_timeout = self.idle_timeout.map(|timeout| match timeout {
            IdleTimeout::Never => Value::Null,
            IdleTimeout::Seconds(seconds) => seconds.into(),
        });
        body([
            ("id", self.room.clone().map(Value::from)),
            ("idle_timeout_seconds", idle_timeout),
            ("on_idle", self.keep.then(|| "keep".into())),
            ("max_participants", self.max_participants.map(Value::from)),
            ("max_age_seconds", self.max_age.map(Value::from)),
            ("metadata", self.metadata.clone().map(Value::from)),
        ])
    }
}

impl Invite {
    fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        match self {
            Self::Create {
                connection,
                room,
                expires_in,
                max_uses,
            } => {
                let wish = body([
                    ("expires_in_seconds", expires_in.map(Value::from)),
                    ("max_uses", max_uses.map(Value::from)),
                ]);
                let made = connection
                    .client()?
                    .post(&format!("/v1/rooms/{}/invites", encode(room)), &wish)?;
                print(out, connection, &made, table::fields)
            }
            Self::Revoke { connection, invite } => {
                let revoked = connection
                    .client()?
                    .delete(&format!("/v1/invites/{}", encode(invite)))?;
                print(out, connection, &revoked, |out, _| {
                    writeln!(out, "revoked {invite}")
                })
            }
        }
    }
}

impl Token {
    fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        match self {
            Self::Mint {
                connection,
                room,
                sub,
                name,
                ttl,
            } => {
                let wish = body([
                    ("sub", Some(sub.as_str().into())),
                    ("name", name.as_deref().map(Value::from)),
                    ("ttl_seconds", ttl.map(Value::from)),
                ]);
                let minted = connection
                    .client()?
                    .post(&format!("/v1/rooms/{}/tokens", encode(room)), &wish)?;
                // Alone on its line, so that a script can take it.
                print(
                    out,
                    connection,
                    &minted,
                    |out, minted| match minted["token"].as_str() {
                        Some(token) => writeln!(out, "{token}"),
                        None => table::fields(out, minted),
                    },
                )
            }
            Self::Check {
                connection,
                token,
                room,
            } => {
                let mut path = format!("/v1/connect?token={}", encode(&given(token)?));
                if let Some(room) = room {
                    path.push_str(&format!("&room={}", encode(room)));
                }
                print(
                    out,
                    connection,
                    &connection.client()?.get(&path)?,
                    table::fields,
                )
            }
        }
    }
}

fn show(
    out: &mut impl Write,
    connection: &Connection,
    client: &Client,
    room: &str,
) -> Result<(), Failure> {
    let path = format!("/v1/rooms/{}", encode(room));
    let found = client.get(&path)?;
    if connection.json {
        return print(out, connection, &found, table::fields);
    }
    let present = client.list(&format!("{path}/presence"))?;
    table::fields(out, &found)?;
    writeln!(out)?;
    items(out, &present, "nobody is here", MEMBER_COLUMNS)?;
    Ok(())
}

fn print<W: Write>(
    out: &mut W,
    connection: &Connection,
    value: &Value,
    people: impl FnOnce(&mut W, &Value) -> io::Result<()>,
) -> Result<(), Failure> {
    if connection.json {
        writeln!(out, "{value}")?;
    } else {
        people(out, value)?;
    }
    Ok(())
}

fn items(out: &mut impl Write, list: &Value, none: &str, columns: &[&str]) -> io::Result<()> {
    match list["items"].as_array() {
        Some(items) if !items.is_empty() => table::rows(out, items, columns),
        _ => writeln!(out, "{none}"),
    }
}

fn reaped(out: &mut impl Write, swept: &Value) -> io::Result<()> {
    let rooms = swept["rooms"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let verb = if swept["dry_run"] == true {
        "would delete"
    } else {
        "deleted"
    };
    writeln!(
        out,
        "{verb} {} rooms with {} participants",
        rooms.len(),
        swept["participants"]
    )?;
    rooms
        .iter()
        .filter_map(Value::as_str)
        .try_for_each(|room| writeln!(out, "  {room}"))
}

/// An object of the fields that were given.
fn body<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}

fn given(token: &str) -> io::Result<String> {
    if token != "-" {
        return Ok(token.to_owned());
    }
    let mut read = String::new();
    io::stdin().lock().read_to_string(&mut read)?;
    Ok(read.trim().to_owned())
}

const ROOM_COLUMNS: &[&str] = &[
    "id",
    "online",
    "created_at",
    "idle_timeout_seconds",
    "expires_at",
    "on_idle",
];
const MEMBER_COLUMNS: &[&str] = &[
    "id",
    "user_id",
    "name",
    "status",
    "connections",
    "joined_at",
    "last_seen_at",
];
