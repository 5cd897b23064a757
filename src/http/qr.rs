//! QR codes of the demo's invite links: from this server, as a link is nobody else's business.

use axum::{
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use qrcode::{QrCode, render::svg};
use rollcall_protocol::{Problem, ProblemCode};

use super::problem::ProblemResponse;

/// Several times an invite link. Codes of longer texts are too fine for a phone held before a screen.
const MAX_TEXT: usize = 512;

/// `GET /demo/qr.svg?text=…`
pub(super) async fn svg(uri: Uri) -> Result<Response, ProblemResponse> {
    let code = QrCode::new(text(&uri)?).map_err(|_| bad("This text fits into no QR code."))?;
    // White around it, whatever the page: scanners look for that.
    let image = code.render::<svg::Color>().module_dimensions(1, 1).build();
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, image).into_response())
}

fn text(uri: &Uri) -> Result<String, Problem> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let text =
        form_urlencoded::parse(query).find_map(|(key, value)| (key == "text").then_some(value));
    match text {
        None => Err(bad("There is no `text` to make a QR code of.")),
        Some(text) if text.is_empty() => Err(bad("The `text` of a QR code must not be empty.")),
        Some(text) if text.len() > MAX_TEXT => Err(bad(format!(
            "The `text` of a QR code is at most {MAX_TEXT} bytes long; this one is {}.",
            text.len()
        ))),
        Some(text) => Ok(text.into_owned()),
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::BadRequest, detail)
}
