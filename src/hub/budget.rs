//! What a room may send: frames and bytes per second, over all its members (rule R8).

use std::time::Duration;

use tokio::time::Instant;

/// Two token buckets, each holding at most one second's worth.
#[derive(Debug)]
pub(super) struct Budget {
    frames: f64,
    bytes: f64,
    refilled_at: Instant,
}

/// A room's fan-out limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fanout {
    pub(super) frames_per_second: u32,
    pub(super) bytes_per_second: u64,
}

impl Budget {
    pub(super) fn new(now: Instant, fanout: Fanout) -> Self {
        Self {
            frames: f64::from(fanout.frames_per_second),
            bytes: fanout.bytes_per_second as f64,
            refilled_at: now,
        }
    }

    /// Pays for sending `size` bytes to `audience` connections. `Err` says when it can be paid; nothing is taken then.
    pub(super) fn spend(
        &mut self,
        now: Instant,
        fanout: Fanout,
        audience: usize,
        size: usize,
    ) -> Result<(), Duration> {
        let elapsed = now
            .saturating_duration_since(self.refilled_at)
            .as_secs_f64();
        let (frame_rate, byte_rate) = (
            f64::from(fanout.frames_per_second),
            fanout.bytes_per_second as f64,
        );
        self.frames = (self.frames + elapsed * frame_rate).min(frame_rate);
        self.bytes = (self.bytes + elapsed * byte_rate).min(byte_rate);
        self.refilled_at = now;
        let (frames, bytes) = (audience as f64, (audience * size) as f64);
        // What costs more than a whole second's budget may go out of a full bucket, and leaves a debt.
        let (need_frames, need_bytes) = (frames.min(frame_rate), bytes.min(byte_rate));
        if self.frames >= need_frames && self.bytes >= need_bytes {
            self.frames -= frames;
            self.bytes -= bytes;
            return Ok(());
        }
        let wait =
            ((need_frames - self.frames) / frame_rate).max((need_bytes - self.bytes) / byte_rate);
        Err(Duration::from_secs_f64(wait.clamp(0.0, 60.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_room_sends_its_budget_and_no_more() {
        let fanout = Fanout {
            frames_per_second: 100,
            bytes_per_second: 1_000,
        };
        let start = Instant::now();
        let mut budget = Budget::new(start, fanout);
        assert!(budget.spend(start, fanout, 60, 1).is_ok());
        assert!(budget.spend(start, fanout, 60, 1).is_err());
        assert!(
            budget
                .spend(start + Duration::from_millis(250), fanout, 60, 1)
                .is_ok()
        );
        assert!(
            budget
                .spend(start + Duration::from_secs(9), fanout, 10, 101)
                .is_ok(),
            "a full bucket, with a debt"
        );
        assert!(
            budget
                .spend(start + Duration::from_secs(9), fanout, 1, 1)
                .is_err()
        );
    }
}
