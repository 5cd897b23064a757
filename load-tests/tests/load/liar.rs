//! Stands between clients and a server, and changes what the server says.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use serde_json::{Value, json};

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Nothing,
    /// One presence frame is lost, and those after it are not.
    Swallow,
    /// One client gets no presence frame any more.
    Withhold,
    /// One client is told of somebody who does not exist.
    Invent,
    /// One client is told that somebody left who is there.
    Remove,
    /// Who would be told that there is no such invite gets in with another's.
    Admit,
    /// One good link is said to be unknown.
    Refuse,
    /// One client's heartbeats are not answered.
    Silence,
}

/// Listens until the test's process ends.
pub(crate) struct Liar {
    pub(crate) addr: SocketAddr,
}

struct Shared {
    server: SocketAddr,
    lie: Lie,
    /// The one lie has been told.
    told: AtomicBool,
    /// A request that was let in.
    good: Mutex<Option<Vec<u8>>>,
}

impl Liar {
    pub(crate) fn start(server: SocketAddr, lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            server,
            lie,
            told: AtomicBool::new(false),
            good: Mutex::default(),
        });
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Whoever hangs up ends both sides.
                thread::spawn(move || shared.relay(client));
            }
        });
        Self { addr }
    }
}

impl Shared {
    fn relay(&self, mut client: TcpStream) -> io::Result<()> {
        let request = head(&mut client)?;
        if !request.starts_with(b"GET /v1/connect") {
            let mut server = TcpStream::connect(self.server)?;
            server.write_all(&request)?;
            return both_ways(client, server, io::copy);
        }
        if self.lie == Lie::Refuse && self.first() {
            let body = r#"{"status":404,"code":"invite_not_found"}"#;
            let head = format!(
                "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            return client.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
        let (mut server, mut answer) = self.ask(&request)?;
        let good = self.good.lock().clone();
        if self.lie == Lie::Admit
            && answer.starts_with(b"HTTP/1.1 404")
            && let Some(good) = good
        {
            (server, answer) = self.ask(&good)?;
        }
        client.write_all(&answer)?;
        if !answer.starts_with(b"HTTP/1.1 101") {
            return both_ways(client, server, io::copy);
        }
        self.good.lock().get_or_insert(request);
        let is_victim = matches!(self.lie, Lie::Withhold | Lie::Silence) && self.first();
        both_ways(client, server, |from, to| self.frames(from, to, is_victim))
    }

    fn ask(&self, request: &[u8]) -> io::Result<(TcpStream, Vec<u8>)> {
        let mut server = TcpStream::connect(self.server)?;
        server.write_all(request)?;
        let answer = head(&mut server)?;
        Ok((server, answer))
    }

    /// Whether nobody was told the lie yet, and now somebody is.
    fn first(&self) -> bool {
        !self.told.swap(true, Ordering::SeqCst)
    }

    /// Passes on what the server says, frame by frame.
    fn frames(&self, from: &mut TcpStream, to: &mut TcpStream, is_victim: bool) -> io::Result<u64> {
        let mut known = None;
        loop {
            let (opcode, payload) = frame(from)?;
            let payload = match serde_json::from_slice(&payload) {
                Ok(message) if opcode == 0x81 => {
                    match self.change(message, is_victim, &mut known) {
                        Some(message) => message.to_string().into_bytes(),
                        None => continue,
                    }
                }
                _ => payload,
            };
            to.write_all(&framed(opcode, &payload))?;
        }
    }

    /// What a client is told instead, who has been told of somebody; `None`: nothing.
    fn change(
        &self,
        mut message: Value,
        is_victim: bool,
        known: &mut Option<Value>,
    ) -> Option<Value> {
        let is_join = message["type"] == "presence" && message["joined"].is_array();
        match self.lie {
            Lie::Swallow if is_join && message["seq"].as_u64() > Some(2) && self.first() => None,
            Lie::Withhold if is_victim && message["type"] == "presence" => None,
            Lie::Silence if is_victim && message["type"] == "heartbeat_ack" => None,
            Lie::Invent if is_join && self.first() => {
                let mut ghost = message["joined"][0].clone();
                ghost["id"] = json!("0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3");
                message["joined"].as_array_mut()?.push(ghost);
                message["occupancy"] = json!(message["occupancy"].as_u64()? + 1);
                Some(message)
            }
            Lie::Remove if is_join => {
                if let Some(gone) = known.take().filter(|_| self.first()) {
                    message["left"] = json!([{
                        "id": gone["id"],
                        "reason": "left",
                        "last_seen_at": gone["last_seen_at"],
                    }]);
                    message["occupancy"] = json!(message["occupancy"].as_u64()? - 1);
                }
                // Somebody who will have read their own welcome by the next time.
                *known = Some(message["joined"][0].clone());
                Some(message)
            }
            _ => Some(message),
        }
    }
}

/// Up to the empty line.
fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// A frame of a server: whole, and without a mask.
fn frame(from: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut start = [0; 2];
    from.read_exact(&mut start)?;
    let length = match start[1] {
        126 => {
            let mut length = [0; 2];
            from.read_exact(&mut length)?;
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            from.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
        short => short.into(),
    };
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut payload)?;
    Ok((start[0], payload))
}

fn framed(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(length as u8),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Passes everything on until one side ends; `answers` is how the server's side is.
fn both_ways(
    mut client: TcpStream,
    mut server: TcpStream,
    answers: impl FnOnce(&mut TcpStream, &mut TcpStream) -> io::Result<u64>,
) -> io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = answers(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}
