//! An independent replayer of wire JSON: it knows PROTOCOL.md and nothing of the server's types.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What a client believes, from frames alone. Every breach of rules R4 and R5 panics.
#[derive(Debug)]
pub struct Replay {
    pub seq: u64,
    pub occupancy: u64,
    /// `None` while the room is only counted.
    pub members: Option<BTreeMap<String, Value>>,
    own: Option<String>,
    /// Oneself may be named in the first frame after the welcome.
    unannounced: BTreeSet<String>,
}

impl Replay {
    pub fn new(welcome: &Value) -> Self {
        let own = welcome["self"]["participant_id"]
            .as_str()
            .map(str::to_owned);
        let mut replay = Self {
            seq: 0,
            occupancy: 0,
            members: None,
            unannounced: own.iter().cloned().collect(),
            own,
        };
        replay.replace(welcome);
        if let (Some(own), Some(members)) = (&replay.own, &replay.members) {
            assert!(members.contains_key(own), "the welcome shows oneself");
        }
        replay
    }

    fn replace(&mut self, snapshot: &Value) {
        self.seq = snapshot["seq"].as_u64().unwrap();
        self.occupancy = snapshot["occupancy"].as_u64().unwrap();
        let by_id = |members: &Vec<Value>| {
            let by_id: BTreeMap<String, Value> =
                members.iter().map(|it| (id(it), it.clone())).collect();
            assert_eq!(by_id.len(), members.len(), "nobody twice");
            by_id
        };
        assert_eq!(
            snapshot["roster"] == "full",
            snapshot["members"].is_array(),
            "{snapshot}"
        );
        self.members = snapshot["members"].as_array().map(by_id);
        self.check_occupancy();
    }

    fn check_occupancy(&self) {
        if let Some(members) = &self.members {
            assert_eq!(
                members.len() as u64,
                self.occupancy,
                "occupancy is the number of members"
            );
        }
    }

    pub fn apply(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "sync" => {
                assert!(
                    message["seq"].as_u64().unwrap() >= self.seq,
                    "a sync never goes back"
                );
                self.unannounced = self.own.iter().cloned().collect();
                self.replace(message);
            }
            "presence" => self.apply_presence(message),
            _ => {}
        }
    }

    fn apply_presence(&mut self, message: &Value) {
        assert_eq!(
            message["seq"].as_u64().unwrap(),
            self.seq + 1,
            "R4: no gap: {message}"
        );
        self.seq += 1;
        self.occupancy = message["occupancy"].as_u64().unwrap();
        let Some(members) = &mut self.members else {
            let lists = ["joined", "updated", "left"].map(|list| message.get(list));
            assert_eq!(lists, [None, None, None], "only counted: {message}");
            return;
        };
        for joined in list(message, "joined") {
            let known = members.insert(id(joined), joined.clone()).is_some();
            assert!(
                !known || self.unannounced.contains(&id(joined)),
                "R5: joined twice: {message}"
            );
            self.unannounced.remove(&id(joined));
        }
        for updated in list(message, "updated") {
            let member = members
                .get_mut(&id(updated))
                .unwrap_or_else(|| panic!("updated but unknown: {message}"));
            for (field, value) in updated.as_object().unwrap() {
                member[field] = value.clone();
            }
        }
        for left in list(message, "left") {
            assert!(
                members.remove(&id(left)).is_some(),
                "R5: left but unknown: {message}"
            );
        }
        self.check_occupancy();
    }

    /// The names on the roster, sorted.
    pub fn names(&self) -> Vec<&str> {
        let members = self.members.as_ref().expect("a listed roster");
        let mut names: Vec<&str> = members
            .values()
            .map(|member| member["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    pub fn member(&self, id: &str) -> Option<&Value> {
        self.members.as_ref()?.get(id)
    }

    /// The roster without what is only a sample, to be compared with the server's own.
    pub fn roster(&self) -> BTreeMap<String, Value> {
        let members = self.members.clone().unwrap_or_default();
        members
            .into_iter()
            .map(|(id, member)| (id, without_sample(member)))
            .collect()
    }
}

/// A member without `last_seen_at`, which is a sample, and `connections`, which frames do not have.
pub fn without_sample(mut member: Value) -> Value {
    if let Some(fields) = member.as_object_mut() {
        fields.remove("last_seen_at");
        fields.remove("connections");
    }
    member
}

fn list<'a>(message: &'a Value, name: &str) -> Vec<&'a Value> {
    match message.get(name) {
        Some(list) => list.as_array().unwrap().iter().inspect(|_| ()).collect(),
        None => Vec::new(),
    }
}

fn id(member: &Value) -> String {
    member["id"].as_str().unwrap().to_owned()
}
