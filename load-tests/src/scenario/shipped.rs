//! The scenarios that come with this program.

/// Names and texts.
pub const SHIPPED: [(&str, &str); 10] = [
    ("steady", include_str!("../../scenarios/steady.toml")),
    ("ramp", include_str!("../../scenarios/ramp.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("deploy", include_str!("../../scenarios/deploy.toml")),
    (
        "invite-rush",
        include_str!("../../scenarios/invite-rush.toml"),
    ),
    ("crowd", include_str!("../../scenarios/crowd.toml")),
    ("chatty", include_str!("../../scenarios/chatty.toml")),
    (
        "slow-readers",
        include_str!("../../scenarios/slow-readers.toml"),
    ),
    ("night", include_str!("../../scenarios/night.toml")),
    ("flood", include_str!("../../scenarios/flood.toml")),
];

/// The text of the one with this name.
pub fn find(name: &str) -> Option<&'static str> {
    let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    found.map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::{super::Scenario, *};

    #[test]
    fn all_can_be_read_and_have_their_names() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::read(text).unwrap();
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty() && !scenario.thresholds.is_empty());
        }
    }
}
