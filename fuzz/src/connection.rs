//! A whole connection: strangers who send anything at all, in any pieces, and somebody in the same room who must not notice.

mod frame;
mod member;
#[expect(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the tests' own, which knows the protocol's text and nothing of the server's types"
)]
#[path = "../../tests/server/replay.rs"]
mod replay;
mod script;
mod stranger;

use std::alloc::System;

use arbitrary::{Arbitrary, Unstructured};
use cap::Cap;
use futures::{FutureExt, future::join_all};
use rollcall::chance;
use tokio_util::sync::CancellationToken;

use self::{member::Member, script::Script};
use crate::stage::{Stage, config, paused};

/// Counts what this whole process holds.
#[global_allocator]
static HELD: Cap<System> = Cap::new(System, usize::MAX);

/// What a room with strangers in it may make the process hold: its ring of one MiB, and as much again and again for what is being
/// encoded, read and looked at by the checks.
const MOST_HELD: usize = 4 * 1024 * 1024;
/// They are all one participant, on a connection each.
const MOST_STRANGERS: usize = 2;
/// Small enough for short inputs to exceed.
const MESSAGE_BYTES: usize = 1024;
const STATE_BYTES: usize = 256;

/// Lets strangers in, and sees that nothing comes of it that the protocol does not name.
pub fn check(data: &[u8]) {
    let Ok(mut scripts) = Vec::<Script>::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    scripts.truncate(MOST_STRANGERS);
    // The same bytes are the same run.
    chance::seed(7);
    paused().block_on(check_scripts(scripts));
}

async fn check_scripts(scripts: Vec<Script>) {
    let mut config = config();
    config.limits.message_bytes = MESSAGE_BYTES;
    config.limits.state_bytes = STATE_BYTES;
    let stage = Stage::set(config).await;
    let mut member = Member::join(&stage).await;
    let most = HELD.allocated() + MOST_HELD;
    let id = member.id.clone();
    let acts = scripts
        .into_iter()
        .map(|script| stranger::act(&stage, script, &id, most));
    let strangers = join_all(acts).map(drop);
    member.stay(&stage, strangers).await;
    member.leave().await;
    assert_eq!((stage.node.hub.seats(), stage.node.hub.rooms()), (0, 0));
    assert!(
        stage.node.connections.is_empty(),
        "every connection has ended"
    );
    let stopped = stage.node.shut_down(&CancellationToken::new()).await;
    stopped.expect("nothing is left");
}
