//! The management API: what the application's backend asks, with an API key.

mod admin;
mod extract;
mod invites;
mod participants;
pub(super) mod presence;
mod rooms;

use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::App;

/// Everything behind the API key. The routes are the document: what is not here is not served.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(rooms::create, rooms::list))
        .routes(routes!(
            rooms::put,
            rooms::read,
            rooms::patch,
            rooms::delete
        ))
        .routes(routes!(rooms::touch))
        .routes(routes!(rooms::expiry))
        .routes(routes!(rooms::broadcast))
        .routes(routes!(rooms::mint))
        .routes(routes!(participants::list))
        .routes(routes!(participants::remove))
        .routes(routes!(participants::restore))
        .routes(routes!(invites::create, invites::list))
        .routes(routes!(invites::revoke))
        .routes(routes!(admin::reap))
        .routes(routes!(admin::reaps))
        .routes(routes!(admin::stats))
        .routes(routes!(admin::history))
        .routes(routes!(admin::metrics))
}

/// The document's head; the paths come from the routes.
pub(super) fn document() -> OpenApi {
    let mut document = OpenApi::default();
    document.info.title = "Rollcall".to_owned();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.description = Some(
        "A presence server's management API. Errors are RFC 9457 problems with a `code`."
            .to_owned(),
    );
    document
}
