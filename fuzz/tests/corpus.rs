//! Every target on its corpus, and on a fixed number of inputs made of it: the same ones every time, on any toolchain.

use std::{
    cell::Cell,
    fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Once,
};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// How long what is made of nothing gets.
const MOST_BYTES: usize = 512;
/// How often an input of the corpus is changed.
const MOST_CHANGES: usize = 6;

thread_local! {
    /// A task that panics takes nobody with it, so panics are counted as they happen; all of a target runs on one thread.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn message() {
    check("message", 30_000, rollcall_fuzz::message::check);
}

#[test]
fn merge_patch() {
    check("merge_patch", 4_000, rollcall_fuzz::merge_patch::check);
}

#[test]
fn query() {
    check("query", 20_000, rollcall_fuzz::query::check);
}

#[test]
fn access_token() {
    check("access_token", 4_000, rollcall_fuzz::access_token::check);
}

#[test]
fn connection() {
    check("connection", 500, rollcall_fuzz::connection::check);
}

fn check(target: &str, made: usize, check: fn(&[u8])) {
    static COUNTS: Once = Once::new();
    COUNTS.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            tell(info);
        }));
    });
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{target} has a corpus");
    for input in &corpus {
        check_one(check, input);
    }
    let mut rng = StdRng::seed_from_u64(6);
    for _ in 0..made {
        check_one(check, &make(&corpus, &mut rng));
    }
}

fn check_one(check: fn(&[u8]), input: &[u8]) {
    let panics = PANICS.get();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| check(input)));
    assert!(
        outcome.is_ok() && PANICS.get() == panics,
        "on b\"{}\"",
        input.escape_ascii()
    );
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = fs::read_dir(folder).expect("the corpus is beside the crate");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("readable"))
        .collect()
}

/// An input of the corpus, changed in a few places; now and then one made of nothing.
fn make(corpus: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    if rng.random_ratio(1, 8) {
        let mut input = vec![0; rng.random_range(0..MOST_BYTES)];
        rng.fill_bytes(&mut input);
        return input;
    }
    let mut input = corpus.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..=MOST_CHANGES) {
        let at = rng.random_range(0..=input.len());
        let to = rng.random_range(at..=input.len()).min(at + 16);
        match rng.random_range(0..5) {
            0 => input.insert(at, rng.random()),
            1 => drop(input.drain(at..to)),
            2 => input.extend_from_within(at..to),
            3 => {
                let other = corpus.choose(rng).map(Vec::as_slice).unwrap_or_default();
                let from = rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
            _ => input[at..to]
                .iter_mut()
                .take(1)
                .for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
        }
    }
    input
}
