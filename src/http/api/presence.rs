//! Who is here now. Participants may ask too, with their resume token as bearer.

use axum::{
    Json, Router,
    extract::{Request, State},
    http::header,
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use rollcall_protocol::{Member, ParticipantId, RoomId};
use serde::Serialize;

use super::extract::{Answer, Id, Page, no_room};
use crate::{
    admission::{ResumeClaims, bearer_token},
    http::{App, guard},
    hub::Present,
};

/// A page of who is here.
#[derive(Debug, Serialize)]
struct Roster {
    seq: u64,
    occupancy: u64,
    items: Vec<Here>,
    next_cursor: Option<String>,
}

/// Somebody here.
#[derive(Debug, Serialize)]
struct Here {
    #[serde(flatten)]
    member: Member,
    connections: usize,
}

/// A participant who asks, instead of the application.
#[derive(Debug, Clone, Copy)]
struct Asker(ResumeClaims);

/// The one route with two kinds of keys.
pub(crate) fn router(app: &App) -> Router<App> {
    let route = Router::new().route("/v1/rooms/{room}/presence", get(list));
    route.layer(middleware::from_fn_with_state(app.clone(), key))
}

/// A resume token of somebody here, or else an API key.
async fn key(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let claims = bearer
        .and_then(bearer_token)
        .and_then(|token| app.admission.read_resume(token).ok());
    match claims.filter(|claims| {
        app.hub
            .holds(claims.room, claims.participant, claims.removals)
    }) {
        Some(claims) => {
            request.extensions_mut().insert(Asker(claims));
            next.run(request).await
        }
        None => guard::api_key(State(app), request, next).await,
    }
}

async fn list(
    State(app): State<App>,
    Id(room): Id<RoomId>,
    page: Page,
    asker: Option<axum::Extension<Asker>>,
) -> Answer<Json<Roster>> {
    let key = match asker {
        // The token's own room, without asking the store; any other is not there for its holder.
        Some(axum::Extension(Asker(claims))) => {
            let row = app
                .hub
                .row(claims.room)
                .filter(|row| row.id == room)
                .ok_or_else(no_room)?;
            row.key
        }
        None => app.store.room(&room).await?.ok_or_else(no_room)?.key,
    };
    let after: Option<ParticipantId> = page.after()?;
    let (seq, occupancy, people) = app.hub.present(key, after, page.limit as usize);
    let items: Vec<Here> = people
        .into_iter()
        .map(
            |Present {
                 member,
                 connections,
             }| Here {
                member,
                connections,
            },
        )
        .collect();
    let last = items.last().map(|here| here.member.id.to_string());
    let list = super::extract::List::new(items, page.limit, last);
    Ok(Json(Roster {
        seq,
        occupancy,
        items: list.items,
        next_cursor: list.next_cursor,
    }))
}
