//! Frames on their way out: taken from the room, not yet taken by the transport.

use std::io::IoSlice;

use rollcall_protocol::ServerMessage;
use smallvec::SmallVec;

use crate::hub::Encoded;

/// Frames gathered into one write.
pub(super) const GATHER: usize = 32;

/// Frames in order. One needs no memory of its own, and more give theirs back when they are sent: a connection is idle for
/// nearly all of its life.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: SmallVec<[Encoded; 1]>,
    /// How much of the first frame is out: once that has begun, nothing else may be said before its end.
    sent: usize,
}

impl Outbox {
    /// Adds a frame after all others.
    pub(super) fn push(&mut self, frame: Encoded) {
        self.frames.push(frame);
    }

    /// Adds a message after all others.
    pub(super) fn say(&mut self, message: &ServerMessage) {
        self.push(Encoded::new(message));
    }

    /// How many frames are not wholly out.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether everything is out.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What is to be written next, gathered.
    pub(super) fn slices(&self) -> SmallVec<[IoSlice<'_>; GATHER]> {
        let mut frames = self.frames.iter();
        let first = frames.next().map(|frame| &frame.as_bytes()[self.sent..]);
        let rest = frames.map(Encoded::as_bytes);
        first
            .into_iter()
            .chain(rest)
            .take(GATHER)
            .map(IoSlice::new)
            .collect()
    }

    /// So many bytes of what [`slices`](Self::slices) gave are out.
    pub(super) fn advance(&mut self, written: usize) {
        self.sent += written;
        let mut done = 0;
        for frame in &self.frames {
            let length = frame.as_bytes().len();
            if self.sent < length {
                break;
            }
            self.sent -= length;
            done += 1;
        }
        self.frames.drain(..done);
        if self.frames.is_empty() {
            self.frames = SmallVec::new();
        }
    }

    /// Drops every frame that has not begun.
    pub(super) fn keep_begun(&mut self) {
        self.frames.truncate(usize::from(self.sent > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(frames: usize) -> (Outbox, Vec<u8>) {
        let (mut outbox, mut bytes) = (Outbox::default(), Vec::new());
        for after_ms in 0..frames as u64 {
            let frame = Encoded::new(&ServerMessage::Reconnect { after_ms });
            bytes.extend(frame.as_bytes());
            outbox.push(frame);
        }
        (outbox, bytes)
    }

    #[test]
    fn whatever_a_transport_takes_at_a_time_all_of_it_comes_out_in_order() {
        for step in [1, 7, 50, 10_000] {
            let (mut outbox, expected) = outbox(GATHER + 3);
            let mut out: Vec<u8> = Vec::new();
            while !outbox.is_empty() {
                let offered: Vec<u8> = outbox
                    .slices()
                    .iter()
                    .flat_map(|slice| slice.iter().copied())
                    .collect();
                let taken = step.min(offered.len());
                out.extend(&offered[..taken]);
                outbox.advance(taken);
            }
            assert_eq!(out, expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn only_a_frame_that_has_begun_must_be_finished() {
        let (mut whole, _) = outbox(3);
        whole.keep_begun();
        assert!(whole.is_empty());
        let (mut cut, bytes) = outbox(3);
        let first = bytes.len() / 3;
        cut.advance(first + 4);
        cut.keep_begun();
        assert_eq!(&*cut.slices()[0], &bytes[first + 4..2 * first]);
        assert_eq!(cut.len(), 1);
    }
}
