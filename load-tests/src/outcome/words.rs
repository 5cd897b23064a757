//! Numbers as people read them; every table and chart asks here, so that one value looks the same everywhere.

use crate::fault::Fault;

/// As many digits as mean something, thousands apart: `15,000`, `1,204.5`, `61.3`, `0.0042`.
pub(super) fn number(value: f64) -> String {
    let text = match value.abs() {
        size if !size.is_finite() => return value.to_string(),
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.4}"),
        _ => return format!("{value:.1e}"),
    };
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    let (whole, fraction) = text.find('.').map_or((text, ""), |dot| text.split_at(dot));
    format!("{}{fraction}", apart(whole))
}

/// A count, thousands apart.
pub(super) fn count(value: u64) -> String {
    apart(&value.to_string())
}

/// Milliseconds with two digits after the point, for columns.
pub(super) fn millis(value: f64) -> String {
    let text = format!("{value:.2}");
    let (whole, fraction) = text.split_at(text.len().saturating_sub(3));
    format!("{}{fraction}", apart(whole))
}

/// Bytes in the largest unit that leaves a digit before the point.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut size = value as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `1 fault`, `2 faults`.
pub(super) fn plural(number: u64, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {thing}{ending}", count(number))
}

/// A time of the run: `45 s`, `2:05`, `1:00:00`.
pub(super) fn time(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A kind of fault: its name in the JSON file, with spaces.
pub(super) fn fault(fault: Fault) -> String {
    let name = serde_json::to_value(fault).ok();
    let name = name.as_ref().and_then(|name| name.as_str());
    name.map_or_else(|| format!("{fault:?}"), |name| name.replace('_', " "))
}

/// Commas between thousands of a whole number, which may have a sign.
fn apart(whole: &str) -> String {
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let first = (digits.len() + 2) % 3 + 1;
    let groups = digits.chars().enumerate().flat_map(|(at, digit)| {
        let comma = (at >= first && (at - first).is_multiple_of(3)).then_some(',');
        comma.into_iter().chain([digit])
    });
    format!("{sign}{}", groups.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let rows = [
            (0.0, "0"),
            (100.0, "100"),
            (15_000.0, "15,000"),
            (-1_234_567.25, "-1,234,567.2"),
            (61.301, "61.3"),
            (0.0042, "0.0042"),
            (0.000_012, "1.2e-5"),
            (f64::NAN, "NaN"),
        ];
        for (value, words) in rows {
            assert_eq!(number(value), words);
        }
        assert_eq!(millis(1_204.5), "1,204.50");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
    }

    #[test]
    fn sizes_times_and_faults_are_words() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(time(125.0), "2:05");
        assert_eq!(time(3600.0), "1:00:00");
        assert_eq!(plural(1, "fault"), "1 fault");
        assert_eq!(fault(Fault::NotResumed), "not resumed");
    }
}
