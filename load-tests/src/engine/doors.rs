//! Before the run: rooms, and what lets everybody in, or must not.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    cast::{Cast, Part, Place},
    target::Target,
};
use crate::{
    api::Api,
    chance::Chance,
    client::{Arrival, Client},
    population::Names,
    scenario::Link,
    wire::Route,
};

/// Questions at a time.
const LANES: usize = 32;
/// When what lasts a second is over for certain.
const OVER: Duration = Duration::from_secs(3);
/// Longer than any run.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// The last number of the address that those come from who use links up, and those who are no clients.
pub(super) const ODD_HOST: u8 = 250;
/// Rooms for those who are let in to misbehave.
const FLOOD_ROOMS: usize = 16;

/// What is at the server before anybody comes.
#[derive(Debug)]
pub(super) struct Doors {
    /// Rooms by their place in the cast.
    pub rooms: Vec<String>,
    /// All rooms, to be closed in the end.
    pub all: Vec<String>,
    /// The words of the query of each person.
    pub queries: Vec<String>,
    /// Queries of those who come to misbehave.
    pub flood: Vec<String>,
}

type Invites = BTreeMap<Link, String>;

impl Doors {
    /// Makes everything.
    pub(super) async fn open(target: &Target, cast: &Cast, floods: bool) -> anyhow::Result<Self> {
        let names = Names::default();
        let rooms: Vec<String> = (0..cast.rooms.len()).map(|at| names.room(at)).collect();
        let invites = in_lanes(target, rooms.len(), async |mut api, at| {
            let made = invites(target, &mut api, &rooms[at], &cast.rooms[at]).await;
            made.map(|made| (api, made))
        });
        let invites: Vec<Invites> = invites.await.context("cannot make the rooms")?;
        let queries = in_lanes(target, cast.people.len(), async |mut api, at| {
            let part = &cast.people[at];
            let query = match part.is_guest {
                true => names.guest(&link(part, &invites[part.room])?, at),
                false => token(&mut api, part, &rooms[part.room]).await?,
            };
            Ok((api, query))
        });
        let queries = queries.await.context("cannot mint the access tokens")?;
        let flood = if floods {
            flood(target, names, rooms.len()).await?
        } else {
            Vec::new()
        };
        if cast.people.iter().any(|part| part.link == Link::Expired) {
            sleep(OVER).await;
        }
        let all = rooms.len() + if floods { FLOOD_ROOMS } else { 0 };
        Ok(Self {
            all: (0..all).map(|at| names.room(at)).collect(),
            rooms,
            queries,
            flood,
        })
    }
}

/// Closes rooms that were made on a server of somebody else's, as far as they are still there.
pub(super) async fn close(target: &Target, rooms: &[String]) -> anyhow::Result<()> {
    let close = async |mut api: Api, at: usize| {
        // It may have been reaped, which is as good.
        let _ = api.close_room(&rooms[at]).await;
        Ok((api, ()))
    };
    in_lanes(target, rooms.len(), close).await.map(drop)
}

/// Does something so many times over several connections to the API, and answers the results in order.
async fn in_lanes<T: Clone>(
    target: &Target,
    count: usize,
    work: impl AsyncFn(Api, usize) -> anyhow::Result<(Api, T)>,
) -> anyhow::Result<Vec<T>> {
    let lanes = LANES.min(count);
    let lane = async |first: usize| {
        let (mut api, mut done) = (target.api().await?, Vec::new());
        for at in (first..count).step_by(lanes) {
            let result;
            (api, result) = work(api, at).await?;
            done.push((at, result));
        }
        anyhow::Ok(done)
    };
    let mut done = try_join_all((0..lanes).map(lane)).await?.concat();
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// A room with a valid invite, and the bad ones that are needed.
async fn invites(
    target: &Target,
    api: &mut Api,
    id: &str,
    place: &Place,
) -> anyhow::Result<Invites> {
    let mut settings = json!({ "id": id });
    if let Some(idle) = place.idle {
        settings["idle_timeout_seconds"] = Value::from(idle.as_secs());
    }
    let mut made = Invites::from([(Link::Valid, api.make_room_of(settings).await?)]);
    for link in &place.bad {
        let wish = match link {
            Link::Expired => json!({ "expires_in_seconds": 1 }),
            Link::UsedUp => json!({ "max_uses": 1 }),
            Link::Valid | Link::Revoked | Link::Forged => json!({}),
        };
        let invite = api.invite(id, wish).await?;
        match link {
            Link::Revoked => api.revoke(&invite.id).await?,
            Link::UsedUp => use_up(target, &invite.token).await?,
            Link::Valid | Link::Expired | Link::Forged => {}
        }
        made.insert(*link, invite.token);
    }
    Ok(made)
}

async fn use_up(target: &Target, token: &str) -> anyhow::Result<()> {
    let route = Route::toward(target.addr, ODD_HOST);
    let query = format!("invite={token}&name=first");
    match Client::enter(&route, &query, &std::sync::Arc::default()).await? {
        Arrival::In(client) => client.leave().await,
        other => anyhow::bail!("the first use of an invite: {other:?}"),
    }
}

fn link(part: &Part, invites: &Invites) -> anyhow::Result<String> {
    if part.link == Link::Forged {
        return Ok(forged_invite(&mut part.chance(1)));
    }
    let invite = invites.get(&part.link).context("no such invite")?;
    Ok(invite.clone())
}

/// Looks like one: 22 characters.
fn forged_invite(chance: &mut Chance) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut letter = || char::from(letters[chance.below(letters.len())]);
    // The last of 16 bytes in base64 has four bits of nothing.
    (0..21).map(|_| letter()).chain(['A']).collect()
}

async fn token(api: &mut Api, part: &Part, room: &str) -> anyhow::Result<String> {
    let ttl = match part.link {
        Link::Expired => Duration::from_secs(1),
        _ => LONG,
    };
    let mut token = api.mint(room, &format!("u{:06}", part.number), ttl).await?;
    if part.link == Link::Forged {
        token = forge(&token).context("a token in three parts")?;
    }
    Ok(format!("token={token}"))
}

/// The same token with another signature.
fn forge(token: &str) -> Option<String> {
    let (signed, signature) = token.rsplit_once('.')?;
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    Some(format!("{signed}.{first}{}", signature.get(1..)?))
}

async fn flood(target: &Target, names: Names, first: usize) -> anyhow::Result<Vec<String>> {
    let mut api = target.api().await?;
    let mut queries = Vec::new();
    for at in first..first + FLOOD_ROOMS {
        let invite = api.make_room(&names.room(at)).await?;
        queries.push(format!("invite={invite}&name=noise"));
    }
    Ok(queries)
}
