//! The rules that turn [`LimitOptions`] into [`Limits`].

use std::time::Duration;

use super::{LimitOptions, Limits, mistakes::Mistakes};

impl LimitOptions {
    pub(super) fn resolve(&self, mistakes: &mut Mistakes) -> Limits {
        Limits {
            max_connections: mistakes
                .unless_none(self.max_connections.as_deref(), |mistakes, got| {
                    mistakes.number("--max-connections", got, 1..=10_000_000)
                }),
            connections_per_address: mistakes
                .unless_none(Some(&self.connections_per_address), |mistakes, got| {
                    mistakes.number("--connections-per-address", got, 1..=10_000_000)
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
            bytes_per_second: mistakes
                .unless_none(self.bytes_per_second.as_deref(), |mistakes, got| {
                    mistakes.bytes("--bytes-per-second", got, 512..=1024 * MIB)
                }),
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
            total_handshakes_per_second: mistakes
                .unless_none(Some(&self.total_handshakes_per_second), |mistakes, got| {
                    mistakes.number("--total-handshakes-per-second", got, 1..=u32::MAX)
                }),
            failed_credentials_per_minute: mistakes.unless_none(
                Some(&self.failed_credentials_per_minute),
                |mistakes, got| {
                    mistakes.number("--failed-credentials-per-minute", got, 1..=1_000_000)
                },
            ),
            handshake_timeout: mistakes.duration(
                "--handshake-timeout",
                &self.handshake_timeout,
                Duration::from_millis(10)..=Duration::from_secs(60),
            ),
            max_rooms: mistakes.unless_none(self.max_rooms.as_deref(), |mistakes, got| {
                mistakes.number("--max-rooms", got, 1..=100_000_000)
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
    if mistakes.spare(&["--bytes-per-second", "--message-bytes"])
        && let Some(bytes) = limits.bytes_per_second
        && bytes < limits.message_bytes as u64
    {
        let needs = format!(
            "must be at least --message-bytes ({}), or the largest messages could not be sent",
            limits.message_bytes
        );
        mistakes.add("--bytes-per-second", bytes, needs);
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
