//! Who is in which room, and which of them are dropped.

/// People in a room, as in TARGETS.
const ROOM: usize = 8;
/// At most so many are kept, and at most a quarter.
const KEPT: usize = 500;
/// A room of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Clients of this process.
    pub kept: usize,
    /// Clients of holders.
    pub lost: usize,
}

/// A kept one in each of many rooms of lost ones, as many in rooms of their own, and the rest of the lost among themselves.
pub(super) fn layout(connections: usize) -> Vec<Room> {
    let kept = KEPT.min(connections / 4).max(1);
    let mut lost = connections - kept;
    let neighbours = kept.div_ceil(2).min(lost);
    let mut rooms = Vec::new();
    for _ in 0..neighbours {
        let share = lost.min(ROOM - 1);
        lost -= share;
        rooms.push(Room {
            kept: 1,
            lost: share,
        });
    }
    let fill = |mut left: usize| {
        std::iter::from_fn(move || {
            let share = left.min(ROOM);
            left -= share;
            (share > 0).then_some(share)
        })
    };
    rooms.extend(fill(kept - neighbours).map(|kept| Room { kept, lost: 0 }));
    rooms.extend(fill(lost).map(|lost| Room { kept: 0, lost }));
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_place() {
        for connections in [2, 3, 8, 60, 61, 1000, 15_000] {
            let rooms = layout(connections);
            let sum = |count: fn(&Room) -> usize| rooms.iter().map(count).sum::<usize>();
            assert_eq!(sum(|room| room.kept + room.lost), connections);
            assert!(
                rooms
                    .iter()
                    .all(|room| (1..=ROOM).contains(&(room.kept + room.lost))),
                "{rooms:?}"
            );
        }
        let kept: usize = layout(15_000).iter().map(|room| room.kept).sum();
        assert_eq!(kept, KEPT);
    }
}
