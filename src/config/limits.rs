//! The rules that turn [`LimitOptions`] into [`Limits`].

use super::{LimitOptions, Limits, mistakes::Mistakes};

impl LimitOptions {
    pub(super) fn resolve(&self, mistakes: &mut Mistakes) -> Limits {
        Limits {
            max_connections: mistakes
                .unless_none(self.max_connections.as_deref(), |mistakes, got| {
                    mistakes.number("--max-connections", got, 1..=10_000_000)
                }),
            connections_per_participant: mistakes.number(
                "--connections-per-participant",
                &self.connections_per_participant,
                1..=10_000,
            ),
            message_bytes: mistakes.size("--message-bytes", &self.message_bytes, 512..=MIB),
            state_bytes: mistakes.size("--state-bytes", &self.state_bytes, 2..=MIB),
            metadata_bytes: mistakes.size("--metadata-bytes", &self.metadata_bytes, 2..=MIB),
            messages_per_second: mistakes.number(
                "--messages-per-second",
                &self.messages_per_second,
                1..=1_000_000,
            ),
            message_burst: mistakes.number("--message-burst", &self.message_burst, 1..=1_000_000),
            fanout_frames_per_second: mistakes.number(
                "--fanout-frames-per-second",
                &self.fanout_frames_per_second,
                1..=u32::MAX,
            ),
            fanout_bytes_per_second: mistakes.bytes(
                "--fanout-bytes-per-second",
                &self.fanout_bytes_per_second,
                512..=1024 * 1024 * MIB,
            ),
            roster_limit: mistakes.number("--roster-limit", &self.roster_limit, 1..=100_000),
            handshakes_per_second: mistakes
                .unless_none(Some(&self.handshakes_per_second), |mistakes, got| {
                    mistakes.number("--handshakes-per-second", got, 1..=u32::MAX)
                }),
            join_queue: mistakes.number("--join-queue", &self.join_queue, 1..=1_000_000),
        }
    }
}

pub(super) fn check(mistakes: &mut Mistakes, limits: &Limits) {
    if mistakes.spare(&["--state-bytes", "--message-bytes"])
        && limits.state_bytes > limits.message_bytes
    {
        let needs = format!(
            "must be at most --message-bytes ({}), or no update could carry it",
            limits.message_bytes
        );
        mistakes.add("--state-bytes", limits.state_bytes, needs);
    }
    if mistakes.spare(&["--message-burst", "--messages-per-second"])
        && limits.message_burst < limits.messages_per_second
    {
        let needs = format!(
            "must be at least --messages-per-second ({})",
            limits.messages_per_second
        );
        mistakes.add("--message-burst", limits.message_burst, needs);
    }
}

const MIB: u64 = 1024 * 1024;
