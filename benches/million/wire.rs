//! Connections without sockets: what the server holds is a [`Pipe`] of two words, and what is behind it a [`Wire`] in one
//! slab, so that a client costs a few dozen bytes, made before anything is measured.
//!
//! A wire takes every write whole, and reads it as the client that it stands for. What it delivers is a heartbeat whenever
//! it is asked for one, and a Pong for every Ping.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::{self, Client};

/// `{"type":"heartbeat"}` as a client sends it: masked, here by zeros.
const HEARTBEAT: &[u8] = b"\x81\x94\0\0\0\0{\"type\":\"heartbeat\"}";
/// A masked empty Pong.
const PONG: &[u8] = b"\x8a\x80\0\0\0\0";
/// Complaints kept; one is enough to fail.
const COMPLAINTS: usize = 10;

/// One connection, seen from its client.
#[derive(Debug, Default)]
struct Wire {
    waker: AtomicWaker,
    heartbeats: AtomicU32,
    pongs: AtomicU32,
    /// How much of the frame that is being delivered is out already.
    delivered: AtomicU8,
    client: Client,
}

/// All connections, and what came of them.
#[derive(Debug)]
pub(crate) struct Wires {
    wires: Box<[Wire]>,
    asked: AtomicU64,
    tally: Tally,
}

/// What all clients together have had.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) welcomes: AtomicU64,
    pub(crate) acks: AtomicU64,
    pub(crate) pongs: AtomicU64,
    pub(crate) frames: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

/// The server's end of a wire.
#[derive(Debug)]
pub(crate) struct Pipe {
    wires: &'static Wires,
    index: u32,
}

impl Wires {
    /// Wires for as long as the process lives.
    pub(crate) fn lay(count: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            wires: (0..count).map(|_| Wire::default()).collect(),
            asked: AtomicU64::new(0),
            tally: Tally::default(),
        }))
    }

    /// What a wire costs the process, beside the [`Pipe`] that the server holds.
    pub(crate) const BYTES_EACH: usize = size_of::<Wire>();

    /// The server's end; to be taken once.
    pub(crate) fn pipe(&'static self, index: usize) -> Pipe {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Pipe { wires: self, index }
    }

    /// Lets a client send one heartbeat.
    pub(crate) fn ask(&self, index: usize) {
        let wire = &self.wires[index];
        wire.heartbeats.fetch_add(1, Ordering::Release);
        self.asked.fetch_add(1, Ordering::Relaxed);
        wire.waker.wake();
    }

    /// Heartbeats on their way, or answers.
    pub(crate) fn outstanding(&self) -> u64 {
        let acks = self.tally.acks.load(Ordering::Acquire);
        self.asked.load(Ordering::Relaxed).saturating_sub(acks)
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many clients there are.
    pub(crate) fn len(&self) -> usize {
        self.wires.len()
    }

    /// How many clients see a roster of this size.
    pub(crate) fn seeing(&self, members: u32) -> usize {
        let clients = self.wires.iter().map(|wire| &wire.client);
        clients.filter(|client| client.members() == members).count()
    }

    /// How many clients have had so many acks.
    pub(crate) fn acknowledged(&self, acks: u32) -> usize {
        let clients = self.wires.iter().map(|wire| &wire.client);
        clients.filter(|client| client.acks() == acks).count()
    }
}

impl Tally {
    /// Something is not as it must be; the run is to fail.
    pub(crate) fn complain(&self, complaint: String) {
        let mut complaints = self.complaints.lock();
        if complaints.len() < COMPLAINTS {
            complaints.push(complaint);
        }
    }

    /// What is not as it must be.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().clone()
    }
}

impl Wire {
    /// Puts what waits into `buffer`, as much as fits. Only ever called by the task that has the pipe.
    fn deliver(&self, buffer: &mut ReadBuf<'_>) -> bool {
        let (waiting, frame) = if self.pongs.load(Ordering::Acquire) > 0 {
            (&self.pongs, PONG)
        } else if self.heartbeats.load(Ordering::Acquire) > 0 {
            (&self.heartbeats, HEARTBEAT)
        } else {
            return false;
        };
        let rest = &frame[usize::from(self.delivered.load(Ordering::Relaxed))..];
        let fits = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..fits]);
        if fits == rest.len() {
            self.delivered.store(0, Ordering::Relaxed);
            waiting.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.delivered.fetch_add(fits as u8, Ordering::Relaxed);
        }
        true
    }
}

impl Pipe {
    fn wire(&self) -> &'static Wire {
        &self.wires.wires[self.index as usize]
    }

    fn take(&self, bytes: &[u8]) {
        let (wire, tally) = (self.wire(), &self.wires.tally);
        for frame in client::frames(bytes) {
            match frame {
                Ok(client::Frame::Text(text)) => wire.client.hear(text, tally),
                Ok(client::Frame::Ping) => {
                    tally.pongs.fetch_add(1, Ordering::Relaxed);
                    wire.pongs.fetch_add(1, Ordering::Release);
                    wire.waker.wake();
                }
                Err(complaint) => tally.complain(complaint),
            }
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.wire();
        if wire.deliver(buffer) {
            return Poll::Ready(Ok(()));
        }
        wire.waker.register(cx.waker());
        if wire.deliver(buffer) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        slices.iter().for_each(|slice| self.take(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
