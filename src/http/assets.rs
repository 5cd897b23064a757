//! What browsers load from the binary: pages, scripts and styles, each with a tag by which it is asked for once.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{App, headers::PAGE_POLICY};

/// A file in the binary.
#[derive(Clone, Copy)]
pub(super) struct Asset {
    /// Where it is served.
    pub(super) path: &'static str,
    /// Its text.
    pub(super) text: &'static str,
    /// Whether pages of other sites may load it.
    pub(super) is_shared: bool,
}

impl Asset {
    /// A page, or a file that only our own pages load.
    pub(super) const fn own(path: &'static str, text: &'static str) -> Self {
        Self {
            path,
            text,
            is_shared: false,
        }
    }

    /// A file that any page may load.
    pub(super) const fn shared(path: &'static str, text: &'static str) -> Self {
        Self {
            path,
            text,
            is_shared: true,
        }
    }

    fn content_type(&self) -> &'static str {
        match self.path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        }
    }
}

/// The routes of some assets.
pub(super) fn routes(assets: &'static [Asset]) -> Router<App> {
    assets.iter().fold(Router::new(), |router, &asset| {
        let served = Served::new(asset);
        router.route(
            asset.path,
            get(move |headers: HeaderMap| {
                let answer = served.answer(&headers);
                async { answer }
            }),
        )
    })
}

/// An asset and its tag.
#[derive(Clone)]
struct Served {
    asset: Asset,
    tag: HeaderValue,
}

impl Served {
    fn new(asset: Asset) -> Self {
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, asset.text.as_bytes()));
        Self {
            asset,
            tag: HeaderValue::from_str(&format!("\"{hash}\"")).expect("base64 is fit for a header"),
        }
    }

    /// The text, or only that it is still the same (RFC 9110 section 13.1.2).
    fn answer(&self, asked: &HeaderMap) -> Response {
        let is_known = asked
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|tags| tags.to_str().ok())
            .flat_map(|tags| tags.split(','))
            // Proxies that compress turn a strong tag into a weak one.
            .any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == self.tag.as_bytes());
        let mut response = match is_known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => self.asset.text.into_response(),
        };
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static(self.asset.content_type());
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::ETAG, self.tag.clone());
        // Asked for each time, sent only when it has changed: pages and scripts of two releases do not mix.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(PAGE_POLICY),
        );
        if self.asset.is_shared {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
        }
        response
    }
}
