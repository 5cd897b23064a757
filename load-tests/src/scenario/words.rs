//! The small words of a scenario file: durations, spreads of durations, and mixtures.
//!
//! What makes no sense by itself (a weight below zero, weights that are all zero) is refused here, where the parser still
//! knows the line.

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::chance::Chance;

/// A duration as people write it: `"1m 30s"`, `"200ms"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("`{text}` is not a duration: {error}")))
}

/// A duration that may be left out.
pub(super) fn maybe_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// How long something takes each time: `"10s"`, `{ min = "5s", max = "15s" }` (evenly) or `{ mean = "10s" }` (exponentially,
/// as with things that end by chance).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Always the same.
    Fixed(Duration),
    /// Evenly between the two.
    Between(Duration, Duration),
    /// Exponentially distributed around this mean.
    Around(Duration),
}

impl Span {
    /// One of them.
    pub fn draw(self, chance: &mut Chance) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Between(least, most) => chance.between(least, most),
            // The share is never 1, so that the logarithm is finite.
            Self::Around(mean) => mean.mul_f64(-(1.0 - chance.share()).ln()),
        }
    }

    /// The mean.
    pub fn mean(self) -> Duration {
        match self {
            Self::Fixed(time) | Self::Around(time) => time,
            Self::Between(least, most) => (least + most) / 2,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spread {
    #[serde(default, deserialize_with = "maybe_duration")]
    min: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    max: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    mean: Option<Duration>,
}

impl Spread {
    fn span<E: Error>(&self) -> Result<Span, E> {
        match (self.min, self.max, self.mean) {
            (Some(min), Some(max), None) if min <= max => Ok(Span::Between(min, max)),
            (Some(_), Some(_), None) => Err(E::custom("`min` is more than `max`")),
            (None, None, Some(mean)) => Ok(Span::Around(mean)),
            _ => Err(E::custom("either `min` and `max`, or `mean`")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Span;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str(r#"a duration, or { min = "…", max = "…" }, or { mean = "…" }"#)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text)
                    .map(Span::Fixed)
                    .map_err(|error| E::custom(format!("`{text}` is not a duration: {error}")))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Span, M::Error> {
                Spread::deserialize(MapAccessDeserializer::new(map))?.span()
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// One of several, by weight: `"invite"`, or `{ invite = 3, token = 1 }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix<T>(Vec<(T, f64)>);

impl<T: Copy> Mix<T> {
    /// Always the same.
    pub fn only(one: T) -> Self {
        Self(vec![(one, 1.0)])
    }

    /// Any of these, none of which is likelier than another; at least one.
    pub fn evenly(these: &[T]) -> Self {
        Self(these.iter().map(|one| (*one, 1.0)).collect())
    }

    /// One of them.
    pub fn draw(&self, chance: &mut Chance) -> T {
        let sum: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = chance.share() * sum;
        for (one, weight) in &self.0 {
            left -= weight;
            if left < 0.0 {
                return *one;
            }
        }
        // Rounding; what has no weight was left out when it was read.
        self.0[self.0.len() - 1].0
    }

    /// Those that can be drawn.
    pub fn kinds(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(one, _)| *one)
    }

    fn of<E: Error>(weights: BTreeMap<T, f64>) -> Result<Self, E> {
        if weights.values().any(|weight| !(0.0..1e12).contains(weight)) {
            return Err(E::custom("a weight is a number from 0 up"));
        }
        let mix: Vec<_> = weights
            .into_iter()
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        if mix.is_empty() {
            return Err(E::custom("the weights sum up to 0: nothing could be drawn"));
        }
        Ok(Self(mix))
    }
}

impl<'de, T: DeserializeOwned + Ord + Copy> Deserialize<'de> for Mix<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned + Ord + Copy> Visitor<'de> for Reader<T> {
            type Value = Mix<T>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a word, or words with weights: { one = 3, other = 1 }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Mix<T>, E> {
                let word = serde::de::value::StrDeserializer::<E>::new(text);
                T::deserialize(word).map(Mix::only)
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Mix<T>, M::Error> {
                Mix::of(BTreeMap::deserialize(MapAccessDeserializer::new(map))?)
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws<T>(mut draw: impl FnMut(&mut Chance) -> T) -> Vec<T> {
        let mut chance = Chance::of(7);
        (0..10_000).map(|_| draw(&mut chance)).collect()
    }

    #[test]
    fn spans_keep_their_bounds_and_means() {
        let (two, six) = (Duration::from_secs(2), Duration::from_secs(6));
        for span in [Span::Fixed(two), Span::Between(two, six), Span::Around(six)] {
            let drawn = draws(|chance| span.draw(chance));
            let mean = drawn.iter().sum::<Duration>() / 10_000;
            let ratio = mean.as_secs_f64() / span.mean().as_secs_f64();
            assert!((0.95..1.05).contains(&ratio), "{span:?}: {mean:?}");
            assert_eq!(drawn, draws(|chance| span.draw(chance)), "a seed repeats");
        }
        let bounded = draws(|chance| Span::Between(two, six).draw(chance));
        assert!(bounded.iter().all(|time| (two..six).contains(time)));
    }

    #[test]
    fn a_mixture_is_drawn_by_weight() {
        let mix = Mix::of::<toml::de::Error>(BTreeMap::from([('a', 3.0), ('b', 1.0), ('c', 0.0)]));
        let drawn = draws(|chance| mix.as_ref().unwrap().draw(chance));
        let count = |which| drawn.iter().filter(|one| **one == which).count();
        assert!((7300..7700).contains(&count('a')), "{}", count('a'));
        assert_eq!(count('c'), 0);
    }
}
