//! Invites: made, listed, revoked. A token is 128 random bits, shown once and stored as its hash.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall_protocol::{InviteId, Problem, ProblemCode, RoomId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Body, Id, List, Page, bad, no_room};
use crate::{
    admission::hash,
    chance,
    http::{App, problem::ProblemResponse},
    store::{InviteKey, InviteRow, NewInvite},
};

/// An invite to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct InviteWish {
    /// A fixed lifetime.
    expires_in_seconds: Option<u64>,
    /// How many participants may come by it.
    max_uses: Option<u32>,
}

/// An invite without its token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Invite {
    #[schema(value_type = String)]
    id: InviteId,
    #[schema(value_type = String)]
    room: RoomId,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    max_uses: Option<u32>,
    uses: u32,
    #[schema(value_type = Option<String>)]
    revoked_at: Option<Timestamp>,
    /// Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The link to send; only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl From<InviteRow> for Invite {
    fn from(row: InviteRow) -> Self {
        Self {
            id: row.id,
            room: row.room_id,
            created_at: row.created_at,
            expires_at: row.expires_at,
            max_uses: row.max_uses,
            uses: row.uses,
            revoked_at: row.revoked_at,
            token: None,
            url: None,
        }
    }
}

/// Make an invite.
#[utoipa::path(post, path = "/v1/rooms/{room}/invites", params(("room" = String, Path)), request_body = InviteWish, responses((status = 201, body = Invite), (status = 404, description = "room_not_found")))]
pub(super) async fn create(
    State(app): State<App>,
    Id(room): Id<RoomId>,
    Body(wish): Body<InviteWish>,
) -> Answer<Response> {
    if wish.expires_in_seconds == Some(0) || wish.max_uses == Some(0) {
        return Err(bad(
            "\"expires_in_seconds\" and \"max_uses\" must be at least 1.",
        ));
    }
    if wish
        .expires_in_seconds
        .is_some_and(|seconds| seconds > 100 * 366 * 24 * 3600)
    {
        return Err(bad("\"expires_in_seconds\" is more than a century."));
    }
    let token = URL_SAFE_NO_PAD.encode(random_bits()?);
    let invite = NewInvite {
        id: InviteId(chance::uuid(app.clock.now())),
        token_hash: hash(&token),
        expires_in: wish.expires_in_seconds.map(Duration::from_secs),
        max_uses: wish.max_uses,
    };
    let row = app
        .store
        .create_invite(&room, &invite)
        .await?
        .ok_or_else(no_room)?;
    let url = invite_url(&app, &token);
    let made = Invite {
        token: Some(token),
        url: Some(url),
        ..row.into()
    };
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// The bits of a token, from the cryptography library.
fn random_bits() -> Answer<[u8; 16]> {
    let mut bits = [0; 16];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| {
        tracing::error!("the operating system has no randomness");
        ProblemResponse(Problem::new(
            ProblemCode::Internal,
            "Something went wrong on the server.",
        ))
    })?;
    Ok(bits)
}

fn invite_url(app: &App, token: &str) -> String {
    match &app.config.invite_url {
        Some(template) => template
            .replace("{token}", token)
            .replace("{invite}", token),
        None => {
            let base = app.config.public_url.clone().unwrap_or_else(|| {
                let scheme = if app.config.tls.is_some() {
                    "https"
                } else {
                    "http"
                };
                format!("{scheme}://{}", app.listen)
            });
            format!("{base}/join/{token}")
        }
    }
}

/// The invites of a room, oldest first.
#[utoipa::path(get, path = "/v1/rooms/{room}/invites", params(("room" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, body = List<Invite>), (status = 404, description = "room_not_found")))]
pub(super) async fn list(
    State(app): State<App>,
    Id(room): Id<RoomId>,
    page: Page,
) -> Answer<List<Invite>> {
    let row = app.store.room(&room).await?.ok_or_else(no_room)?;
    let after = InviteKey(page.after()?.unwrap_or(0));
    let rows = app.store.invites(row.key, after, page.limit).await?;
    let last = rows.last().map(|row| row.key.to_string());
    Ok(List::new(
        rows.into_iter().map(Invite::from).collect(),
        page.limit,
        last,
    ))
}

/// Revoke an invite, at once.
#[utoipa::path(delete, path = "/v1/invites/{invite}", params(("invite" = String, Path)), responses((status = 204), (status = 404, description = "invite_not_found")))]
pub(super) async fn revoke(State(app): State<App>, Id(id): Id<InviteId>) -> Answer<StatusCode> {
    let found = app.store.revoke_invite(id).await?;
    found
        .map(|_| StatusCode::NO_CONTENT)
        .ok_or_else(|| Problem::new(ProblemCode::InviteNotFound, "There is no such invite.").into())
}
