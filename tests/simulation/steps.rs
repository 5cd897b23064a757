//! What happens next, drawn from the seed; and what clients do.

use rollcall::admission::{Credential, Query};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    link::Flow,
    log::Breach,
    model::{By, Conn, Fault},
    peer::Command,
    world::{SLOTS, World, plain},
};

impl World {
    /// One step and what follows from it at once.
    pub async fn step(&mut self) -> Result<(), Breach> {
        self.log.next_step();
        match self.draw(100) {
            0..17 => self.join_and_judge().await?,
            17..26 => self.come_back().await?,
            26..31 => self.leave(),
            31..41 => self.spoil(),
            41..49 => self.speak(),
            49..51 => self.flood().await,
            51..55 => self.remove().await,
            55..56 => self.restore().await,
            56..58 => self.revoke().await,
            58..59 => self.close_room().await,
            59..61 => self.touch().await,
            61..63 => self.patch().await,
            63..66 => self.create_missing().await,
            66..68 => self.invite().await,
            68..71 => self.sweep().await,
            71..77 => self.trouble(),
            77..78 => self.delete_by_others().await,
            78..80 => self.step_clock(),
            80..82 => self.restart().await?,
            82..84 => self.stall().await,
            84..85 => self.outage().await?,
            85..86 => self.flicker().await,
            _ => return self.pass().await,
        }
        self.settle().await;
        self.check().await?;
        match self.draw(4) {
            0 => {
                let wait = self.millis(3_000);
                self.shift().await;
                self.wait(wait).await
            }
            1 => {
                let wait = self.millis(70);
                self.wait(wait).await
            }
            _ => Ok(()),
        }
    }

    async fn pass(&mut self) -> Result<(), Breach> {
        let longest = [70, 1_500, 6_000, 12_000, 12_000, 45_000, 90_000, 300_000];
        let longest = self.pick(&longest).unwrap_or(70);
        let wait = self.millis(longest);
        self.log.note(format_args!("wait {wait:?}"));
        self.wait(wait).await
    }

    async fn join_and_judge(&mut self) -> Result<(), Breach> {
        let before = self.before_join().await;
        self.join();
        self.judge_last(before).await
    }

    async fn come_back(&mut self) -> Result<(), Breach> {
        let lost = self.which(|conn| conn.room.is_some() && !conn.is_open());
        let recent = &lost[lost.len().saturating_sub(4)..];
        let of = match self.draw(10) {
            0 => self.pick(&self.which(|conn| conn.room.is_some())),
            1 => self.pick(&self.which(Conn::is_open)),
            2 => self.pick(&lost),
            _ => self.pick(recent),
        };
        let Some(of) = of else { return Ok(()) };
        let before = self.before_join().await;
        self.resume(of);
        self.judge_last(before).await
    }

    /// Somebody enters by something, somewhere.
    pub fn join(&mut self) {
        let slot = self.draw(SLOTS.len());
        if self.chance(4) {
            return self.forge(slot);
        }
        let of_slot = self.invites.iter().enumerate().rev();
        let of_slot = of_slot.filter(|(_, invite)| invite.slot == slot);
        let invites: Vec<usize> = of_slot.map(|(at, _)| at).take(4).collect();
        let guest = self.chance(45);
        match self.pick(&invites).filter(|_| guest) {
            Some(invite) => self.join_by_invite(invite),
            None => {
                let user = self.draw(5);
                let (query, by, who, end) = self.credential(slot, user);
                self.enter(query, by, who, slot, end);
            }
        }
    }

    fn join_by_invite(&mut self, at: usize) {
        let (token, slot) = (self.invites[at].token.clone(), self.invites[at].slot);
        let guest = self.draw(4);
        let (who, client) = if self.chance(10) {
            self.strangers += 1;
            (format!("x{}", self.strangers), None)
        } else {
            (
                format!("g{guest}i{at}"),
                Some(format!("client-of-guest-{guest}")),
            )
        };
        let query = Query {
            name: who.parse().ok(),
            client,
            ..plain(Credential::Invite(token))
        };
        self.enter(query, By::Invite(at), who, slot, None);
    }

    fn forge(&mut self, slot: usize) {
        let credential = match self.draw(3) {
            0 => Credential::Invite("nobody-made-this".into()),
            1 => Credential::AccessToken("a.b.c".into()),
            _ => Credential::Resume("bm9ib2R5LW1hZGUtdGhpcw".into()),
        };
        self.enter(plain(credential), By::Forged, "forger".into(), slot, None);
    }

    fn leave(&mut self) {
        let Some(number) = self.pick(&self.which(Conn::is_healthy)) else {
            return;
        };
        let how = self.draw(4);
        self.log.note(format_args!("#{number} leaves ({how})"));
        match how {
            0 => self.tell(number, Command::Close(1001)),
            1 => self.tell(number, Command::Close(1000)),
            _ => self.say(number, json!({"type": "leave"})),
        }
        self.conns[number].leaving = Some((Instant::now(), how != 0));
    }

    /// Somebody comes and goes while the room gathers what it will say: nobody hears of it.
    async fn flicker(&mut self) {
        let Some(number) = self.pick(&self.which(Conn::is_healthy)) else {
            return;
        };
        self.say(
            number,
            json!({"type": "update", "state": {"n": self.log.step()}}),
        );
        self.conns[number].said_state = Some(Instant::now());
        self.settle().await;
        let (slot, user) = (self.conns[number].slot, self.draw(5));
        let (query, by, who, end) = self.credential(slot, user);
        self.enter(query, by, who, slot, end);
        self.settle().await;
        let guest = self.conns.len() - 1;
        if self.conns[guest].is_open() {
            self.log.note(format_args!("#{guest} leaves at once"));
            self.say(guest, json!({"type": "leave"}));
            self.conns[guest].leaving = Some((Instant::now(), true));
        }
    }

    /// Something happens to a link or a client.
    fn spoil(&mut self) {
        let Some(number) = self.pick(&self.which(Conn::is_healthy)) else {
            return;
        };
        let how = self.draw(9);
        self.log.note(format_args!("#{number} is spoilt ({how})"));
        let conn = &mut self.conns[number];
        let fault = match how {
            0..4 => {
                conn.link.set(Flow::Cut);
                Fault::Cut
            }
            4 => {
                conn.link.up.send_replace(Flow::Half);
                Fault::Silent
            }
            5 => {
                conn.link.down.send_replace(Flow::Half);
                Fault::Silent
            }
            6 => {
                conn.link.set(Flow::Stalled);
                Fault::Silent
            }
            7 => Fault::Deaf,
            _ => Fault::Silent,
        };
        conn.fault = Some((fault, Instant::now()));
        match how {
            7 => self.tell(number, Command::StopReading),
            8 => self.tell(number, Command::Hang),
            _ => {}
        }
    }

    fn speak(&mut self) {
        let Some(number) = self.pick(&self.which(Conn::is_healthy)) else {
            return;
        };
        let what = self.draw(6);
        match what {
            0..3 => self.say(
                number,
                json!({"type": "update", "state": {"n": self.log.step()}}),
            ),
            3 => self.say(number, json!({"type": "update", "status": "idle"})),
            4 => self.say(number, json!({"type": "update", "status": "active"})),
            _ => {
                for _ in 0..20 {
                    let said =
                        json!({"type": "broadcast", "event": "e", "payload": "x".repeat(500)});
                    self.say(number, said);
                }
            }
        }
        self.log.note(format_args!("#{number} speaks ({what})"));
        self.conns[number].said_state = Some(Instant::now());
    }
}
