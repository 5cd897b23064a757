//! Chance that a run can repeat: everybody has their own, by number.

use std::time::Duration;

/// A stream of random numbers (SplitMix64), good enough to spread people.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of this number.
    pub fn of(number: u64) -> Self {
        // Neighbours would begin alike.
        let mut chance = Self(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        chance.next();
        chance
    }

    /// From 0 up to, but not including, 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly between two times.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.share())
    }

    /// One of so many.
    pub fn below(&mut self, count: usize) -> usize {
        (self.share() * count as f64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How long to wait before coming back: full jitter from 0.5 s to 15 s (PROTOCOL.md, "Close codes").
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    const LEAST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(15);

    /// Before the next attempt.
    pub fn next(&mut self, chance: &mut Chance) -> Duration {
        let most = Self::LEAST * 2_u32.saturating_pow(self.tries.min(10));
        self.tries += 1;
        most.min(Self::MOST).mul_f64(chance.share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spread_and_repeat() {
        let shares = |number| {
            let mut chance = Chance::of(number);
            (0..1000).map(|_| chance.share()).collect::<Vec<_>>()
        };
        let sum: f64 = shares(7).iter().sum();
        assert!((450.0..550.0).contains(&sum), "{sum}");
        assert_eq!(shares(7), shares(7));
        assert_ne!(shares(7), shares(8));
        assert!(shares(7).iter().all(|share| (0.0..1.0).contains(share)));
    }

    #[test]
    fn waits_grow_and_stop_growing() {
        let (mut chance, mut backoff) = (Chance::of(1), Backoff::default());
        assert!(backoff.next(&mut chance) <= Backoff::LEAST);
        let later: Vec<Duration> = (0..100).map(|_| backoff.next(&mut chance)).collect();
        assert!(later.iter().all(|wait| *wait <= Backoff::MOST));
        assert!(later.iter().any(|wait| *wait > Backoff::MOST / 2));
    }
}
