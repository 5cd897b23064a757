//! A heartbeat: what it is to the hub, and all of it through the real connection code.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use divan::Bencher;
use rollcall::{
    admission::Ask,
    clock::Clock,
    connection::{self, websocket_config},
    node::Node,
    store::memory::MemoryStore,
};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use crate::{crowd, wire::Wires};

/// The seat is marked as dirty already.
#[divan::bench]
fn touch(bencher: Bencher<'_, '_>) {
    let hub = crowd::hub();
    let places = crowd::room(&hub, 8);
    bencher.bench(|| places[0].hear());
}

/// The first since a flush.
#[divan::bench]
fn touch_after_a_flush(bencher: Bencher<'_, '_>) {
    let hub = crowd::hub();
    let places = crowd::room(&hub, 8);
    bencher
        .with_inputs(|| hub.collect_dirty())
        .bench_local_refs(|_| places[0].hear());
}

/// Read, decoded, noted, and answered with an ack.
#[divan::bench]
fn heartbeat_and_ack(bencher: Bencher<'_, '_>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut connection = Connection::open(&runtime);
    let _entered = runtime.enter();
    bencher.bench_local(|| {
        connection.wires.ask(0);
        connection.run();
    });
    assert_eq!(
        connection.wires.outstanding(),
        0,
        "every heartbeat has its ack"
    );
}

/// The future that the server spawns for a connection, run by hand.
struct Connection {
    future: Pin<Box<dyn Future<Output = ()>>>,
    wires: &'static Wires,
    _node: Node,
}

impl Connection {
    fn open(runtime: &Runtime) -> Self {
        let clock = Clock::system();
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let node = Node::start(Arc::new(crowd::config()), store, clock.clone());
        let node = runtime.block_on(node).expect("the memory store answers");
        let ask = Ask::User {
            room_id: "room".parse().expect("an id"),
            user_id: "user".parse().expect("an id"),
            name: None,
            create: true,
            keeps_last_seen: true,
            expires_at: clock.now() + Duration::from_secs(24 * 3600),
        };
        let admitted = runtime.block_on(node.admission.decide(ask));
        let admitted = admitted.expect("everybody may enter");
        let wires = Wires::lay(1);
        let config = Some(websocket_config(&node.config));
        let socket = WebSocketStream::from_raw_socket(wires.pipe(0), Role::Server, config);
        let socket = runtime.block_on(socket);
        let mut opened = Self {
            future: Box::pin(connection::run(socket, admitted, Arc::clone(&node.deps))),
            wires,
            _node: node,
        };
        let _entered = runtime.enter();
        opened.run();
        opened
    }

    /// Until there is nothing to do.
    fn run(&mut self) {
        let mut nobody = Context::from_waker(futures::task::noop_waker_ref());
        let state = self.future.as_mut().poll(&mut nobody);
        assert_eq!(state, Poll::Pending, "the connection has not ended");
    }
}
