//! Refusals as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rollcall_protocol::{Problem, ProblemCode};

use crate::{admission::store_problem, reaper::SweepError, store::StoreError};

/// A problem as a response.
#[derive(Debug)]
pub(crate) struct ProblemResponse(pub(crate) Problem);

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for ProblemResponse {
    fn from(error: StoreError) -> Self {
        Self(store_problem(&error))
    }
}

impl From<SweepError> for ProblemResponse {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::NotReady(wait) => {
                let detail = "The reaper does not sweep in the first heartbeat interval and flush after a start.";
                Self(Problem::new(ProblemCode::ReaperNotReady, detail).retry_after(wait))
            }
            SweepError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.0.retry_after_ms.map(|wait| wait.div_ceil(1000).max(1));
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub(super) async fn not_found() -> ProblemResponse {
    Problem::new(ProblemCode::NotFound, "There is nothing at this address.").into()
}

pub(super) async fn method_not_allowed() -> ProblemResponse {
    Problem::new(
        ProblemCode::MethodNotAllowed,
        "This address does not take this method.",
    )
    .into()
}
