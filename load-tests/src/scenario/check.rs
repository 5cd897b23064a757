//! What the parser cannot see: names that lead nowhere, and numbers that make no sense together.

use toml::Spanned;

use super::{Access, Link, Population, Rooms, Scenario, Size, places::point};

impl Scenario {
    /// Refuses what makes no sense.
    pub(super) fn check(&self, text: &str) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.phases.is_empty(),
            "a scenario has at least one [[phase]]"
        );
        unique("phase", self.phases.iter().map(|phase| &phase.name))?;
        unique("population", self.populations.iter().map(|one| &one.name))?;
        for phase in &self.phases {
            anyhow::ensure!(
                !phase.duration.is_zero(),
                "phase `{}`: a duration of nothing",
                phase.name
            );
        }
        for population in &self.populations {
            self.check_population(population, text)?;
        }
        for flood in &self.floods {
            self.check_phase(&flood.phase, text)?;
            anyhow::ensure!(
                flood.per_second > 0.0,
                "flood: per_second must be more than 0"
            );
        }
        Ok(())
    }

    fn check_population(&self, population: &Population, text: &str) -> anyhow::Result<()> {
        let name = &population.name;
        anyhow::ensure!(population.clients > 0, "population `{name}`: nobody in it");
        if let Some(phase) = &population.arrive.phase {
            self.check_phase(phase, text)?;
        }
        self.check_rooms(name, &population.rooms, text)?;
        check_links(population)?;
        if let Some(beat) = population.heartbeat {
            anyhow::ensure!(
                !beat.every.is_zero() && (0.0..=1.0).contains(&beat.jitter),
                "population `{name}`: heartbeat: every is more than 0, and jitter from 0 to 1"
            );
        }
        if let Some(update) = population.update {
            anyhow::ensure!(
                !update.every.mean().is_zero(),
                "population `{name}`: update: every is more than 0"
            );
        }
        if let Some(broadcast) = population.broadcast {
            anyhow::ensure!(
                broadcast.per_second > 0.0,
                "population `{name}`: broadcast: per_second is more than 0"
            );
        }
        let endless = population.stay.is_some_and(|stay| stay.mean().is_zero())
            && population.away.mean().is_zero();
        anyhow::ensure!(!endless, "population `{name}`: neither stays nor is away");
        Ok(())
    }

    fn check_phase(&self, name: &Spanned<String>, text: &str) -> anyhow::Result<()> {
        if self.phase(name.get_ref()).is_some() {
            return Ok(());
        }
        let known: Vec<&str> = self
            .phases
            .iter()
            .map(|phase| phase.name.as_str())
            .collect();
        let mistake = format!(
            "there is no phase `{}`; there are: {}",
            name.get_ref(),
            known.join(", ")
        );
        anyhow::bail!("{}", point(text, &name.span(), &mistake))
    }

    fn check_rooms(&self, name: &str, rooms: &Rooms, text: &str) -> anyhow::Result<()> {
        let said = [
            rooms.size.is_some(),
            rooms.count.is_some(),
            rooms.of.is_some(),
        ];
        anyhow::ensure!(
            said.into_iter().filter(|said| *said).count() == 1,
            "population `{name}`: rooms: exactly one of size, count and of"
        );
        let sizes = match rooms.size {
            Some(Size::Exactly(size)) => 0 < size,
            Some(Size::Between([least, most])) => 0 < least && least <= most,
            None => rooms.count != Some(0),
        };
        anyhow::ensure!(
            sizes,
            "population `{name}`: rooms: from 1 up, the least first"
        );
        let Some(of) = &rooms.of else { return Ok(()) };
        let other = self
            .populations
            .iter()
            .find(|one| one.name == *of.get_ref());
        let mistake = match other {
            Some(other) if other.rooms.of.is_none() => return Ok(()),
            Some(_) => "that population has no rooms of its own".to_owned(),
            None => format!("there is no population `{}`", of.get_ref()),
        };
        anyhow::bail!("{}", point(text, &of.span(), &mistake))
    }
}

fn check_links(population: &Population) -> anyhow::Result<()> {
    let mut tokens = population
        .access
        .kinds()
        .filter(|kind| *kind == Access::Token);
    let only_invites = |link: &Link| matches!(link, Link::Revoked | Link::UsedUp);
    anyhow::ensure!(
        tokens.next().is_none() || !population.links.kinds().any(|link| only_invites(&link)),
        "population `{}`: access tokens are neither revoked nor used up; let those come by invite in a population of their own",
        population.name
    );
    Ok(())
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> anyhow::Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        anyhow::ensure!(seen.insert(name), "there are two {what}s called `{name}`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "x"
        about = "y"
        [[phase]]
        name = "fill"
        duration = "5s"
        [[population]]
        name = "guests"
        clients = 10
        rooms = { size = 8 }
        arrive = { phase = "fill", over = "3s", shape = "ramp" }
        stay = { mean = "4s" }
        links = { valid = 3, forged = 1 }
        [[flood]]
        phase = "fill"
        per_second = 3
    "#;

    #[test]
    fn what_makes_sense_is_read() {
        let mut scenario = Scenario::read(GOOD).unwrap();
        scenario.scale(0.01);
        assert_eq!(scenario.populations[0].clients, 1);
    }

    /// What replaces what, and what the message must name.
    #[test]
    fn mistakes_are_named_with_their_place() {
        for (good, bad, names) in [
            ("clients = 10", "clients = 0", "nobody"),
            ("clients = 10", "clints = 10", "unknown field `clints`"),
            (
                "clients = 10",
                "clients = 10\nread = { pause = \"1\" }",
                "`1` is not a duration",
            ),
            ("\"5s\"", "\"5 seconds and a bit\"", "line 6"),
            (
                "phase = \"fill\", over",
                "phase = \"fil\", over",
                "no phase `fil`; there are: fill",
            ),
            ("phase = \"fill\"\n", "phase = \"late\"\n", "line 15"),
            ("valid = 3, forged = 1", "valid = 0", "sum up to 0"),
            ("valid = 3, forged = 1", "valid = -1", "from 0 up"),
            (
                "valid = 3, forged = 1",
                "vald = 1",
                "unknown variant `vald`",
            ),
            ("size = 8", "size = 8, count = 1", "exactly one"),
            ("size = 8", "size = [8, 2]", "the least first"),
            ("size = 8", "of = \"others\"", "no population `others`"),
            ("mean = \"4s\"", "mean = \"4s\", min = \"1s\"", "either"),
            (
                "mean = \"4s\"",
                "min = \"4s\", max = \"1s\"",
                "more than `max`",
            ),
            ("\"ramp\"", "\"steep\"", "unknown variant `steep`"),
            ("per_second = 3", "per_second = 0", "more than 0"),
        ] {
            let text = GOOD.replacen(good, bad, 1);
            assert_ne!(text, GOOD, "{good} is not in it");
            let error = format!("{:#}", Scenario::read(&text).unwrap_err());
            assert!(error.contains(names), "{bad}: {error}");
        }
    }
}
