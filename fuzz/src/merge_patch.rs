//! Merge patches of a participant's state.

use std::cell::OnceCell;

use arbitrary::{Arbitrary, Unstructured};
use rollcall::{
    hub::{Ending, Place, Seating},
    presence::merge,
};
use rollcall_protocol::{ConnectionId, StateText};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use crate::stage::{Stage, config, paused};

/// The most a state may hold here: within the reach of short inputs.
const STATE_BYTES: usize = 128;
/// Deeper is not decoded.
const NESTING: usize = 64;

/// Applies patches in a row, to a bare map and to the state of somebody in a room: lines of JSON, or made of the bytes.
pub fn check(data: &[u8]) {
    let patches = if data.first() == Some(&b'{') {
        written(data)
    } else {
        Vec::arbitrary_take_rest(Unstructured::new(data))
            .map(|patches: Vec<Patch>| patches.into_iter().map(|patch| patch.0).collect())
            .unwrap_or_default()
    };
    check_merge(&patches);
    ROOM.with(|room| room.get_or_init(Seated::new).check_updates(&patches));
}

/// RFC 7396 section 2, line by line.
fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let old = target.remove(name).unwrap_or_default();
            target.insert(name.clone(), merge_patch(old, value));
        }
    }
    Value::Object(target)
}

/// The first may hold nulls, which no patch can set.
fn check_merge(patches: &[Map<String, Value>]) {
    let Some((first, patches)) = patches.split_first() else {
        return;
    };
    let mut merged = first.clone();
    let mut expected = Value::Object(first.clone());
    for patch in patches {
        merge(&mut merged, patch.clone());
        expected = merge_patch(expected, &Value::Object(patch.clone()));
        assert_eq!(
            Value::Object(merged.clone()),
            expected,
            "patched with {patch:?}"
        );
        let once = merged.clone();
        merge(&mut merged, patch.clone());
        assert_eq!(
            merged, once,
            "the same patch again changes nothing: {patch:?}"
        );
        let text = StateText::from(&merged);
        let again = serde_json::from_str::<Map<String, Value>>(text.as_str());
        assert_eq!(again.ok(), Some(merged.clone()), "the text is the state");
    }
}

thread_local! {
    /// Made once: the rooms of a node outlive who is in them.
    static ROOM: OnceCell<Seated> = const { OnceCell::new() };
}

/// A room that somebody sits down in, once for every input.
struct Seated {
    stage: Stage,
    runtime: Runtime,
}

impl Seated {
    fn new() -> Self {
        let runtime = paused();
        let mut config = config();
        config.limits.state_bytes = STATE_BYTES;
        let stage = runtime.block_on(Stage::set(config));
        Self { stage, runtime }
    }

    /// A state is what the patches make of `{}`, but for those that would make it too large: they change nothing.
    fn check_updates(&self, patches: &[Map<String, Value>]) {
        self.runtime.block_on(async {
            let mut place = self.sit().await;
            let mut state = Value::Object(Map::new());
            for patch in patches {
                let merged = merge_patch(state.clone(), &Value::Object(patch.clone()));
                let is_small = merged.to_string().len() <= STATE_BYTES;
                let seat = place.seat().expect("a participant has a seat");
                let updated = seat.update(None, Some(patch.clone()));
                assert_eq!(updated.is_ok(), is_small, "{patch:?} makes it {merged}");
                if is_small {
                    state = merged;
                }
                assert_eq!(self.shown(), state, "after {patch:?}");
            }
            place.ends(Ending::Left);
            drop(place);
            // Time for the flusher to take what is dirty.
            tokio::time::sleep(2 * self.stage.node.config.flush_interval).await;
            assert_eq!(self.stage.node.hub.seats(), 0);
        });
    }

    async fn sit(&self) -> Place {
        let admitted = self.stage.admit(&self.stage.door("somebody")).await;
        let seating = Seating {
            connection: ConnectionId(1),
            resumes: None,
            token_ends: None,
        };
        let seated = admitted.map(|admitted| admitted.entry.sit(seating));
        seated
            .expect("the door is open")
            .expect("the room is there")
            .0
    }

    fn shown(&self) -> Value {
        let (_, _, present) = self.stage.node.hub.present(self.stage.room, None, 10);
        let [present] = present.as_slice() else {
            panic!("one is here, not {present:?}");
        };
        serde_json::from_str(present.member.state.as_str()).expect("a state is JSON")
    }
}

fn written(data: &[u8]) -> Vec<Map<String, Value>> {
    let lines = data.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// An object of few names, so that patches meet what is there.
#[derive(Debug)]
struct Patch(Map<String, Value>);

impl<'a> Arbitrary<'a> for Patch {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        object(u, NESTING).map(Self)
    }
}

fn object(u: &mut Unstructured<'_>, levels: usize) -> arbitrary::Result<Map<String, Value>> {
    const NAMES: [&str; 5] = ["", "a", "b", "a\"\\", "ä\u{0}"];
    let mut object = Map::new();
    while u.arbitrary()? {
        object.insert((*u.choose(&NAMES)?).to_owned(), value(u, levels - 1)?);
    }
    Ok(object)
}

fn value(u: &mut Unstructured<'_>, levels: usize) -> arbitrary::Result<Value> {
    Ok(match u.int_in_range(0..=7)? {
        0 | 1 => Value::Null,
        2 => Value::Bool(u.arbitrary()?),
        3 => Value::from(u.arbitrary::<f64>()?),
        4 => Value::from(u.arbitrary::<i64>()?),
        5 => Value::String(u.arbitrary()?),
        _ if levels == 0 => Value::Null,
        6 => {
            let mut items = Vec::new();
            while u.arbitrary()? {
                items.push(value(u, levels - 1)?);
            }
            Value::Array(items)
        }
        _ => Value::Object(object(u, levels)?),
    })
}
