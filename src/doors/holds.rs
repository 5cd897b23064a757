//! Sockets that are open, counted.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;

use super::Source;
use crate::metrics::Limit;

/// What a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Speaks HTTP; one that becomes a WebSocket is counted as both for a moment.
    Http,
    /// A connection, from the verdict on.
    WebSocket,
}

/// How many sockets there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// Of both kinds.
    pub(super) sockets: usize,
    pub(super) http: usize,
    pub(super) websockets: usize,
    /// Of each kind; `None`: any number.
    pub(super) by_source: Option<usize>,
}

/// A crowd is this part of the sockets that may speak HTTP.
const CROWDED: usize = 4;

/// Counts what is open.
#[derive(Debug)]
pub(super) struct Holds {
    most: Most,
    open: Mutex<Open>,
}

/// Taken when a socket opens and when it closes, never between.
#[derive(Debug, Default)]
struct Open {
    http: usize,
    websockets: usize,
    by_source: HashMap<(Kind, Source), usize>,
}

/// One open socket; dropping it counts it out.
#[derive(Debug)]
pub struct Hold {
    holds: Arc<Holds>,
    kind: Kind,
    source: Option<Source>,
}

impl Holds {
    pub(super) fn new(most: Most) -> Self {
        Self {
            most,
            open: Mutex::default(),
        }
    }

    /// Counts a socket in, or answers the limit that it would exceed.
    pub(super) fn take(
        self: &Arc<Self>,
        kind: Kind,
        source: Option<Source>,
    ) -> Result<Hold, Limit> {
        let mut open = self.open.lock();
        let is_full = match kind {
            Kind::Http => {
                open.http >= self.most.http || open.http + open.websockets >= self.most.sockets
            }
            Kind::WebSocket => open.websockets >= self.most.websockets,
        };
        if is_full {
            return Err(Limit::Connections);
        }
        // Nobody is counted by source where that limits nothing.
        let source = source.filter(|_| self.most.by_source.is_some());
        if let (Some(source), Some(most)) = (source, self.most.by_source) {
            let count = open.by_source.entry((kind, source)).or_default();
            if *count >= most {
                return Err(Limit::ConnectionsPerAddress);
            }
            *count += 1;
        }
        *open.of(kind) += 1;
        Ok(Hold {
            holds: Arc::clone(self),
            kind,
            source,
        })
    }
}

impl Holds {
    /// Whether so much of the room for those who have not come in yet is taken that none of them may take their time.
    pub(super) fn is_crowded(&self) -> bool {
        self.open.lock().http >= self.most.http / CROWDED
    }
}

impl Open {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Http => &mut self.http,
            Kind::WebSocket => &mut self.websockets,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut open = self.holds.open.lock();
        *open.of(self.kind) -= 1;
        let Some(source) = self.source else { return };
        if let Entry::Occupied(mut count) = open.by_source.entry((self.kind, source)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        let open = &mut *open;
        // A crowd that has gone leaves no table of its size behind.
        if open.by_source.len() * 4 < open.by_source.capacity() {
            open.by_source.shrink_to(open.by_source.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Option<Source> {
        Some(Source::of([192, 0, 2, last].into()))
    }

    fn holds(sockets: usize, websockets: usize, by_source: Option<usize>) -> Arc<Holds> {
        Arc::new(Holds::new(Most {
            sockets,
            http: sockets,
            websockets,
            by_source,
        }))
    }

    #[test]
    fn each_limit_holds_and_what_closes_makes_room() {
        let holds = holds(5, 3, Some(2));
        let first = holds.take(Kind::WebSocket, source(1)).unwrap();
        let _second = holds.take(Kind::WebSocket, source(1)).unwrap();
        let refused = |kind, from| holds.take(kind, from).err();
        assert_eq!(
            refused(Kind::WebSocket, source(1)),
            Some(Limit::ConnectionsPerAddress)
        );
        // The other kind is counted by itself, and who has no source not at all.
        let _asking = holds.take(Kind::Http, source(1)).unwrap();
        let _proxied = holds.take(Kind::WebSocket, None).unwrap();
        assert_eq!(
            refused(Kind::WebSocket, source(2)),
            Some(Limit::Connections)
        );
        drop(first);
        let _third = holds.take(Kind::WebSocket, source(1)).unwrap();
        let _last = holds.take(Kind::Http, source(3)).unwrap();
        assert_eq!(refused(Kind::Http, source(3)), Some(Limit::Connections));
    }

    #[test]
    fn a_crowd_that_has_not_come_in_leaves_room_for_those_who_have() {
        let holds = Arc::new(Holds::new(Most {
            sockets: 16,
            http: 8,
            websockets: 16,
            by_source: None,
        }));
        let mut crowd = vec![holds.take(Kind::Http, None).unwrap()];
        assert!(!holds.is_crowded());
        crowd.extend((0..7).map(|_| holds.take(Kind::Http, None).unwrap()));
        assert!(holds.is_crowded());
        assert_eq!(holds.take(Kind::Http, None).err(), Some(Limit::Connections));
        holds.take(Kind::WebSocket, None).unwrap();
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let holds = holds(1_000_000, 1_000_000, Some(10));
        let crowd: Vec<_> = (0..50_000u32)
            .map(|at| Source::of(std::net::Ipv4Addr::from_bits(at).into()))
            .map(|source| holds.take(Kind::Http, Some(source)).unwrap())
            .collect();
        drop(crowd);
        let open = holds.open.lock();
        assert_eq!((open.http, open.by_source.len()), (0, 0));
        assert!(open.by_source.capacity() < 100);
    }
}
