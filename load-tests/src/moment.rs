//! The server's times, in the one shape that the protocol gives them: RFC 3339, UTC, milliseconds.

use serde::Serialize;

/// Milliseconds since 1970, on the server's clock. Compared only with others of the same server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Moment(pub i64);

impl Moment {
    /// `None`: it is not `YYYY-MM-DDThh:mm:ss.mmmZ`.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shape = b"0000-00-00T00:00:00.000Z";
        let fits = |(byte, like): (&u8, &u8)| match like {
            b'0' => byte.is_ascii_digit(),
            _ => byte == like,
        };
        if bytes.len() != shape.len() || !bytes.iter().zip(shape).all(fits) {
            return None;
        }
        let field = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
        let days = days(field(0..4)?, field(5..7)?, field(8..10)?);
        let seconds = field(11..13)? * 3600 + field(14..16)? * 60 + field(17..19)?;
        Some(Self((days * 86_400 + seconds) * 1000 + field(20..23)?))
    }

    /// How much later this is than `other`, ms; negative: earlier.
    pub fn millis_after(self, other: Self) -> i64 {
        self.0 - other.0
    }
}

/// Days since 1970 in the Gregorian calendar. Years begin in March here, so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_millisecond() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:00:00.001Z", 951_825_600_001),
            ("2024-12-31T23:59:59.999Z", 1_735_689_599_999),
            ("2026-03-01T00:00:00.000Z", 1_772_323_200_000),
        ] {
            assert_eq!(Moment::read(text), Some(Moment(millis)), "{text}");
        }
    }

    #[test]
    fn other_shapes_are_not_times() {
        for text in [
            "",
            "…",
            "2026-03-01T00:00:00Z",
            "2026-03-01 00:00:00.000Z",
            "2026-03-01T00:00:00.000+00:00",
        ] {
            assert_eq!(Moment::read(text), None, "{text}");
        }
    }
}
