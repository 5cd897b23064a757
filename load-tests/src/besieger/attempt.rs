//! One senseless connection, as cheap for whoever makes it as it can be.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    chance::Chance,
    wire::{self, Route},
};

/// A server that has no word for anything within this time, and does not hang up, has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Random bytes of one connection, at most.
const NOISE: usize = 512;
/// Of an answer only the first line is read.
const ANSWER: usize = 512;
/// What is sooner over was not waited for, but turned away when it came.
const TURNED_AWAY: Duration = Duration::from_millis(500);
/// `{"alg":"HS256","typ":"JWT"}` and `{"sub":"1","room":"load","exp":4102444800}`.
const FORGED: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIiwicm9vbSI6ImxvYWQiLCJleHAiOjQxMDI0NDQ4MDB9";
/// The record and the beginning of a client's greeting (RFC 8446 section 4.1.2); noise follows.
const GREETING: [u8; 11] = [
    0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
];

/// What is senseless about it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Random bytes, and the end of a head.
    Noise,
    /// TLS, which is not spoken here.
    Tls,
    /// An invite that nobody made.
    Invite,
    /// An access token that somebody else signed.
    Token,
    /// A resume token that nobody was given.
    Resume,
    /// No credential.
    Nothing,
    /// Half a head, and then silence.
    Silence,
    /// Gone as soon as it is there.
    Touch,
}

/// Of a sum of 20: what asks most of the server comes most often.
const MIX: [(Kind, usize); 8] = [
    (Kind::Noise, 2),
    (Kind::Tls, 2),
    (Kind::Invite, 5),
    (Kind::Token, 3),
    (Kind::Resume, 3),
    (Kind::Nothing, 2),
    (Kind::Silence, 1),
    (Kind::Touch, 2),
];

/// An attempt to come.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) to: SocketAddr,
    pub(super) from: IpAddr,
    pub(super) chance: Chance,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer with this status; `None`: not HTTP.
    Answered(Option<u16>),
    /// The server ended it without a word.
    Dropped,
    /// The server waited for the rest, and ended it after this time.
    Outlasted(Duration),
    /// No answer was wanted.
    Left,
    /// The server neither answered nor ended it.
    Unanswered,
    /// There was no connection.
    NotConnected,
}

impl Attempt {
    pub(super) async fn make(mut self) -> Outcome {
        let route = Route {
            to: self.to,
            from: self.from,
            receive_buffer: None,
        };
        let Ok(Ok(mut stream)) = timeout(PATIENCE, route.connect()).await else {
            return Outcome::NotConnected;
        };
        // Gone without a trace: a port that waits for a minute could not be used again.
        if stream.set_zero_linger().is_err() {
            return Outcome::NotConnected;
        }
        let kind = self.kind();
        let Some(said) = self.words(kind) else {
            return Outcome::Left;
        };
        // Who was dropped at the door is told so by the read.
        let _ = stream.write_all(&said).await;
        let began = Instant::now();
        match timeout(PATIENCE, answer(&mut stream)).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) if matches!(kind, Kind::Silence) && began.elapsed() > TURNED_AWAY => {
                Outcome::Outlasted(began.elapsed())
            }
            Ok(None) => Outcome::Dropped,
            Err(_) => Outcome::Unanswered,
        }
    }

    fn kind(&mut self) -> Kind {
        let sum = MIX.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.chance.below(sum);
        for (kind, weight) in MIX {
            if drawn < weight {
                return kind;
            }
            drawn -= weight;
        }
        Kind::Touch
    }

    /// What it says; `None`: nothing.
    fn words(&mut self, kind: Kind) -> Option<Vec<u8>> {
        let query = match kind {
            Kind::Noise => return Some([self.noise(), b"\r\n\r\n".to_vec()].concat()),
            Kind::Tls => return Some([&GREETING[..], &self.noise()].concat()),
            Kind::Touch => return None,
            Kind::Silence => {
                let whole = wire::request(self.to, &format!("invite={}", self.letters(22)));
                return Some(whole[..whole.len() / 2].into());
            }
            Kind::Invite => format!("invite={}&name=nobody", self.letters(22)),
            Kind::Token => format!("token={FORGED}.{}", self.letters(43)),
            Kind::Resume => format!("resume={}", self.letters(43)),
            Kind::Nothing => "name=nobody".to_owned(),
        };
        Some(wire::request(self.to, &query).into_bytes())
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = 1 + self.chance.below(NOISE);
        (0..length).map(|_| self.chance.below(256) as u8).collect()
    }

    /// As of a secret in base64.
    fn letters(&mut self, length: usize) -> String {
        let mut letter = || char::from(b'A' + self.chance.below(26) as u8);
        (0..length).map(|_| letter()).collect()
    }
}

/// The first line of an answer; `None`: the connection ended without one.
async fn answer(stream: &mut TcpStream) -> Option<Outcome> {
    let mut answer = [0; ANSWER];
    match stream.read(&mut answer).await {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            let text = String::from_utf8_lossy(&answer[..read]);
            Some(Outcome::Answered(wire::status(&text)))
        }
    }
}
