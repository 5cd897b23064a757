//! Durations and refusals as a guest reads them.

use std::time::Duration;

/// "1 hour", "90 minutes" as "1 hour 30 minutes", "45 seconds": the two largest units that say it.
pub(crate) fn duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let mut left = duration.as_millis().div_ceil(1000) as u64;
    let mut words = Vec::new();
    for (seconds, unit) in UNITS {
        let count = left / seconds;
        left %= seconds;
        if count > 0 && words.len() < 2 {
            words.push(format!(
                "{count} {unit}{}",
                if count == 1 { "" } else { "s" }
            ));
        }
    }
    if words.is_empty() {
        "0 seconds".to_owned()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let rows = [
            (3600, "1 hour"),
            (5400, "1 hour 30 minutes"),
            (7200, "2 hours"),
            (45, "45 seconds"),
            (0, "0 seconds"),
        ];
        for (seconds, words) in rows {
            assert_eq!(duration(Duration::from_secs(seconds)), words);
        }
        assert_eq!(duration(Duration::from_millis(1500)), "2 seconds");
    }
}
