//! Moments on the wire: RFC 3339, UTC, milliseconds.
//!
//! Nothing here asks what time it is. A `Timestamp` is always one that RFC 3339 can say (years 0000 to 9999), so showing
//! one cannot fail.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in Unix milliseconds; `2026-11-24T10:00:00.000Z` on the wire.
///
/// ```
/// use rollcall_protocol::Timestamp;
/// assert_eq!(Timestamp::from_millis(1_795_514_400_000).to_string(), "2026-11-24T10:00:00.000Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// 0000-01-01 and the last millisecond of 9999: what RFC 3339 can say.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

impl Timestamp {
    /// From Unix milliseconds; what RFC 3339 cannot say becomes the nearest that it can.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(*RANGE.start(), *RANGE.end()))
    }

    /// Unix milliseconds.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The same moment for `chrono`.
    pub fn to_datetime(self) -> DateTime<Utc> {
        // Within RANGE, which every constructor keeps.
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    /// The time since `earlier`; `None` if that is later.
    pub fn checked_since(self, earlier: Self) -> Option<Duration> {
        u64::try_from(self.0 - earlier.0)
            .ok()
            .map(Duration::from_millis)
    }

    /// The time since `earlier`; zero if that is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.checked_since(earlier).unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::from_millis(time.timestamp_millis())
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self::from_millis(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self::from_millis(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: chrono's own formatting goes through a string, and every member of a welcome says two times.
        let time = self.to_datetime();
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let fields = [
            (0..4, time.year().unsigned_abs()),
            (5..7, time.month()),
            (8..10, time.day()),
            (11..13, time.hour()),
            (14..16, time.minute()),
            (17..19, time.second()),
            (20..23, time.timestamp_subsec_millis()),
        ];
        for (place, value) in fields {
            write_digits(&mut text[place], value);
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

/// The last digits of a number, as many as there is room for.
fn write_digits(room: &mut [u8], mut value: u32) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|time| time.to_utc().into())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_back_and_never_panic() {
        for millis in [0, 1, -1, 1_795_514_400_123] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
        assert_eq!(
            Timestamp::from_millis(i64::MAX).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            Timestamp::from_millis(i64::MIN).to_string(),
            "0000-01-01T00:00:00.000Z"
        );
        let (early, late) = (Timestamp::from_millis(5), Timestamp::from_millis(7));
        assert_eq!(late.checked_since(early), Some(Duration::from_millis(2)));
        assert_eq!(
            (early.checked_since(late), early.saturating_since(late)),
            (None, Duration::ZERO)
        );
        assert_eq!(
            late + Duration::MAX - Duration::MAX,
            Timestamp::from_millis(i64::MIN)
        );
        assert_eq!(Timestamp::from(late.to_datetime()), late);
        assert_eq!(
            "2026-11-24T12:00:00.1239+02:00"
                .parse::<Timestamp>()
                .unwrap()
                .to_string(),
            "2026-11-24T10:00:00.123Z"
        );
    }
}
