//! A request to enter as bytes, right at first.

use std::net::SocketAddr;

/// A handshake that is right, to be spoilt.
#[derive(Clone)]
pub struct Shake {
    pub line: String,
    pub headers: Vec<(String, String)>,
}

impl Shake {
    pub fn new(query: &str) -> Self {
        let headers = [
            ("Host", "HOST"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            line: format!("GET /v1/connect?{query} HTTP/1.1"),
            headers: headers.map(owned).to_vec(),
        }
    }

    pub fn line(mut self, line: &str) -> Self {
        self.line = line.to_owned();
        self
    }

    pub fn method(mut self, method: &str) -> Self {
        self.line = self.line.replacen("GET", method, 1);
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| header != name);
        self
    }

    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    pub fn bytes(&self, addr: SocketAddr) -> Vec<u8> {
        let host = addr.to_string();
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            text += &format!("{name}: {}\r\n", value.replace("HOST", &host));
        }
        (text + "\r\n").into_bytes()
    }
}
