//! When people come: planned ahead, so that a server that is slow now is not spared later.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::words;
use crate::chance::Chance;

/// When a population comes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrive {
    /// From the start of this phase on. Default: the first.
    pub phase: Option<Spanned<String>>,
    /// How long after it. Default: at once.
    #[serde(default, deserialize_with = "words::duration")]
    pub after: Duration,
    /// Within which time all have come. Default: none: all at once.
    #[serde(default, deserialize_with = "words::duration")]
    pub over: Duration,
    /// How they spread over it. Default: `"even"`.
    #[serde(default)]
    pub shape: Shape,
}

/// How arrivals spread over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// At the same distance.
    #[default]
    Even,
    /// Ever more a second, from none.
    Ramp,
    /// By chance, as strangers come (a Poisson process of which the number is known).
    Poisson,
}

impl Arrive {
    /// When the one at this place of so many comes, after the phase has begun.
    pub fn due(&self, at: usize, of: usize, chance: &mut Chance) -> Duration {
        let place = at as f64 / of as f64;
        let share = match self.shape {
            Shape::Even => place,
            // What grows evenly has its sum grow with the square.
            Shape::Ramp => place.sqrt(),
            Shape::Poisson => chance.share(),
        };
        self.after + self.over.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(shape: Shape) -> Vec<f64> {
        let arrive = Arrive {
            phase: None,
            after: Duration::from_secs(1),
            over: Duration::from_secs(10),
            shape,
        };
        let mut chance = Chance::of(1);
        let due = |at| arrive.due(at, 1000, &mut chance).as_secs_f64();
        (0..1000).map(due).collect()
    }

    fn within(dues: &[f64], from: f64, to: f64) -> usize {
        dues.iter().filter(|due| (from..to).contains(*due)).count()
    }

    #[test]
    fn an_even_rate_is_even() {
        let dues = dues(Shape::Even);
        assert_eq!(within(&dues, 1.0, 1.99), 99);
        assert_eq!(within(&dues, 10.0, 11.0), 100);
    }

    #[test]
    fn a_ramp_grows() {
        let dues = dues(Shape::Ramp);
        let (first, last) = (within(&dues, 1.0, 2.0), within(&dues, 10.0, 11.0));
        assert!(first < 15 && (180..200).contains(&last), "{first} {last}");
    }

    #[test]
    fn chance_spreads_over_everything_and_repeats() {
        let drawn = dues(Shape::Poisson);
        assert_eq!(within(&drawn, 1.0, 11.0), 1000);
        let middle = within(&drawn, 5.0, 7.0);
        assert!((150..250).contains(&middle), "{middle}");
        assert_eq!(drawn, dues(Shape::Poisson));
    }
}
