//! The management API as the commands see it: JSON in, JSON or a problem's sentence out.

use std::{fs, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use ureq::{
    Agent, Body,
    http::{Method, Request, Response, header},
    tls::TlsConfig,
};

use super::Failure;
use crate::config::api_keys_in;

/// Long enough for a sweep of a large database; a person waits no longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Items asked for at once; the most the server gives.
const PAGE: u32 = 1_000;

/// Which server, as whom, and in what form the answer is printed.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Where the running server is
    #[arg(
        long,
        env = "ROLLCALL_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    server: String,
    /// An API key of the server; of several, the first is used
    #[arg(
        long,
        env = "ROLLCALL_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,
    /// A file of API keys, of which the first is used
    #[arg(long, env = "ROLLCALL_API_KEY_FILE", value_name = "PATH")]
    api_key_file: Option<String>,
    /// Print the server's JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A server and the right to ask it.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    server: String,
    api_key: Option<String>,
}

impl Connection {
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let server = self.server.trim_end_matches('/').to_owned();
        if !server.starts_with("http://") && !server.starts_with("https://") {
            let needs = "must be an address such as http://127.0.0.1:8080";
            return Err(Failure::Usage(format!(
                "--server ({}) {needs}",
                self.server
            )));
        }
        Ok(Client {
            agent: agent(),
            server,
            api_key: self.api_key()?,
        })
    }

    fn api_key(&self) -> Result<Option<String>, Failure> {
        // The flag and variable of the server take several, in commas.
        if let Some(key) = self
            .api_key
            .as_deref()
            .and_then(|keys| keys.split(',').next())
        {
            return Ok(Some(key.trim().to_owned()));
        }
        let Some(path) = &self.api_key_file else {
            return Ok(None);
        };
        let file = fs::read_to_string(path).map_err(|error| {
            Failure::Usage(format!("--api-key-file ({path}) cannot be read: {error}"))
        })?;
        let key = api_keys_in(&file).next().map(str::to_owned);
        key.map(Some).ok_or_else(|| {
            Failure::Usage(format!(
                "--api-key-file ({path}) must hold at least one key"
            ))
        })
    }
}

impl Client {
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(&Method::GET, path, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(&Method::POST, path, Some(body))
    }

    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask(&Method::DELETE, path, None)
    }

    /// All pages of a list as one.
    pub(super) fn list(&self, path: &str) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut at = format!("{path}?limit={PAGE}");
        loop {
            let mut page = self.get(&at)?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => at = format!("{path}?limit={PAGE}&cursor={}", encode(cursor)),
                None => break,
            }
        }
        Ok(json!({ "items": items, "next_cursor": null }))
    }

    fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server));
        if let Some(key) = &self.api_key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let answer = match body {
            None => request.body(()).map(|request| self.agent.run(request)),
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                request
                    .body(body.to_string())
                    .map(|request| self.agent.run(request))
            }
        };
        match answer {
            Ok(Ok(answer)) => self.read(answer),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            // Only the address and the key come from outside.
            Err(error) => Err(Failure::Usage(format!(
                "--server ({}) or --api-key is malformed: {error}",
                self.server
            ))),
        }
    }

    fn read(&self, mut answer: Response<Body>) -> Result<Value, Failure> {
        let status = answer.status();
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        if status.is_success() && text.is_empty() {
            return Ok(json!({}));
        }
        let Ok(value) = serde_json::from_str::<Value>(&text) else {
            return Err(Failure::NotRollcall {
                server: self.server.clone(),
                status: status.as_u16(),
            });
        };
        if status.is_success() {
            return Ok(value);
        }
        let word = |name: &str| value[name].as_str().map(str::to_owned);
        Err(Failure::Refused {
            detail: word("detail")
                .or_else(|| word("title"))
                .unwrap_or_else(|| status.to_string()),
            code: word("code").unwrap_or_else(|| status.as_u16().to_string()),
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Unreachable {
            server: self.server.clone(),
            cause: error.to_string(),
        }
    }
}

/// A text as part of a path or query.
pub(super) fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

fn agent() -> Agent {
    let provider = crate::tls::provider();
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .tls_config(tls)
        .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}
