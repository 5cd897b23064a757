//! Other software writes too. What it may not write has a name; what it may, the store reads.

use std::{collections::BTreeSet, time::Duration};

use rollcall::store::{
    InviteKey, ParticipantKey, ReapCriteria, RoomKey, RoomPatch, Store, postgres::PostgresStore,
};
use rollcall_protocol::{DisplayName, RoomId, Timestamp};
use serde_json::json;

use crate::{
    bench::{Bench, Db},
    life::{TERMS, guest, id, join, make_invite, make_room, user},
};

/// One INSERT a line: columns, values, the SQLSTATE, and the constraint or domain if there is one.
const ROOMS: &str = r"
    id                         ; ''                                     ; 23514 ; external_id_check
    id                         ; 'a b'                                  ; 23514 ; external_id_check
    id                         ; 'a/b'                                  ; 23514 ; external_id_check
    id                         ; 'ä'                                    ; 23514 ; external_id_check
    id                         ; E'a\n'                                 ; 23514 ; external_id_check
    id                         ; repeat('x', 129)                       ; 23514 ; external_id_check
    id                         ; NULL                                   ; 23502 ;
    id                         ; 'r'                                    ; 23505 ; rooms_id_key
    key, id                    ; 7, 'x'                                 ; 428C9 ;
    id, created_at             ; 'x', 'infinity'                        ; 23514 ; moment_check
    id, created_at             ; 'x', '-infinity'                       ; 23514 ; moment_check
    id, created_at             ; 'x', '0001-12-31 BC'                   ; 23514 ; moment_check
    id, created_at             ; 'x', '10000-01-01 00:00+00'            ; 23514 ; moment_check
    id, last_active_at         ; 'x', 'infinity'                        ; 23514 ; moment_check
    id, last_active_at         ; 'x', NULL                              ; 23502 ;
    id, idle_timeout_ms        ; 'x', 0                                 ; 23514 ; length_ms_check
    id, idle_timeout_ms        ; 'x', -60000                            ; 23514 ; length_ms_check
    id, idle_timeout_ms        ; 'x', 315360000000001                   ; 23514 ; length_ms_check
    id, max_age_ms             ; 'x', -1                                ; 23514 ; length_ms_check
    id, max_participants       ; 'x', -1                                ; 23514 ; quantity_check
    id, max_participants       ; 'x', 4294967296                        ; 23514 ; quantity_check
    id, on_idle                ; 'x', 'sleep'                           ; 23514 ; rooms_on_idle_check
    id, metadata               ; 'x', '[]'                              ; 23514 ; rooms_metadata_check
    id, metadata               ; 'x', 'null'                            ; 23514 ; rooms_metadata_check
    id, metadata               ; 'x', '{'                               ; 22P02 ;
    id, metadata               ; 'x', NULL                              ; 23502 ;
";

const PARTICIPANTS: &str = r"
    name                       ; ''                                     ; 23514 ; display_name_check
    name                       ; E' \t '                                ; 23514 ; display_name_check
    name                       ; E'\u00a0\u2003\u3000'                  ; 23514 ; display_name_check
    name                       ; E'a\nb'                                ; 23514 ; display_name_check
    name                       ; E'a\u007fb'                            ; 23514 ; display_name_check
    name                       ; E'a\u0085b'                            ; 23514 ; display_name_check
    name                       ; repeat('ä', 65)                        ; 23514 ; display_name_check
    name                       ; NULL                                   ; 23502 ;
    user_id                    ; ''                                     ; 23514 ; external_id_check
    user_id                    ; 'a b'                                  ; 23514 ; external_id_check
    user_id                    ; 'ann'                                  ; 23505 ; participants_room_user
    room_key                   ; -1                                     ; 23503 ; participants_room_key_fkey
    invite_key                 ; -1                                     ; 23503 ; participants_invite_key_fkey
    invite_key, client_hash    ; (SELECT key FROM invites), decode(repeat('02', 32), 'hex') ; 23505 ; participants_invite_client
    client_hash                ; 'short'                                ; 23514 ; sha256_check
    id                         ; (SELECT id FROM participants LIMIT 1)  ; 23505 ; participants_id_key
    access_method              ; 'link'                                 ; 23514 ; access_method_check
    access_method              ; NULL                                   ; 23502 ;
    joined_at                  ; 'infinity'                             ; 23514 ; moment_check
    last_seen_at               ; '-infinity'                            ; 23514 ; moment_check
    last_seen_at               ; NULL                                   ; 23502 ;
    is_active, left_at         ; false, 'infinity'                      ; 23514 ; moment_check
    barred_at                  ; 'infinity'                             ; 23514 ; moment_check
    is_active                  ; false                                  ; 23514 ; participants_left
    left_at                    ; now()                                  ; 23514 ; participants_left
    is_active                  ; NULL                                   ; 23502 ;
    generation                 ; -1                                     ; 23514 ; quantity_check
    removals                   ; -1                                     ; 23514 ; quantity_check
";

const INVITES: &str = r"
    max_uses, uses             ; 1, 2                                   ; 23514 ; invites_uses
    max_uses                   ; -1                                     ; 23514 ; quantity_check
    uses                       ; -1                                     ; 23514 ; quantity_check
    token_hash                 ; 'short'                                ; 23514 ; sha256_check
    token_hash                 ; decode(repeat('01', 32), 'hex')        ; 23505 ; invites_token_hash_key
    id                         ; (SELECT id FROM invites LIMIT 1)       ; 23505 ; invites_id_key
    room_id                    ; 'a b'                                  ; 23514 ; external_id_check
    room_key                   ; -1                                     ; 23503 ; invites_room_key_fkey
    expires_at                 ; 'infinity'                             ; 23514 ; moment_check
    revoked_at                 ; 'infinity'                             ; 23514 ; moment_check
    room_key                   ; NULL                                   ; 23502 ;
";

/// The same for whole statements.
const REST: &str = r"
    INSERT INTO keys VALUES ('resume', 'short', now())                                          ; 23514 ; keys_secret_check
    INSERT INTO keys VALUES ('', decode(repeat('01', 32), 'hex'), now())                        ; 23514 ; keys_purpose_check
    INSERT INTO nodes (started_at, stale_after_ms, settle_ms, seat_silence_ms) SELECT now(), 0, 1, 1 ; 23514 ; length_ms_check
    INSERT INTO room_ends (room_key, ended_at, cause) SELECT -1, now(), 'boredom'               ; 23514 ; room_ends_cause
    INSERT INTO room_ends (room_key, ended_at, cause) SELECT -1, now(), 'idle'                  ; 23514 ; room_ends_idle
    INSERT INTO room_ends (room_key, ended_at, cause, idle_timeout_ms) SELECT -1, now(), 'closed', 1 ; 23514 ; room_ends_idle
    INSERT INTO room_ends (room_key, ended_at, cause, idle_timeout_ms) SELECT -1, now(), 'idle', -1  ; 23514 ; length_ms_check
    INSERT INTO room_ends (room_key, ended_at, cause) SELECT -1, 'infinity', 'closed'           ; 23514 ; moment_check
    INSERT INTO participant_states VALUES (-1, '{}')                 ; 23503 ; participant_states_participant_key_fkey
    INSERT INTO participant_states SELECT key, '{' FROM participants ; 22P02 ;
    UPDATE rooms SET key = DEFAULT                                   ; 23503 ; rooms_keep_key
    UPDATE participants SET key = DEFAULT                            ; 23503 ; participants_keep_key
    UPDATE room_ends SET room_key = -1                               ; 23503 ; room_ends_keep_key
    UPDATE invites SET room_key = -1                                 ; 23503 ; invites_room_key_fkey
    UPDATE rooms SET last_active_at = 'infinity'                     ; 23514 ; moment_check
    UPDATE rooms SET idle_timeout_ms = -1                            ; 23514 ; length_ms_check
    UPDATE participants SET last_seen_at = 'infinity'                ; 23514 ; moment_check
    UPDATE participants SET left_at = now()                          ; 23514 ; participants_left
    UPDATE participants SET name = ' '                               ; 23514 ; display_name_check
    UPDATE participants SET user_id = 'ann'                          ; 23505 ; participants_room_user
    UPDATE participants SET room_key = -1                            ; 23503 ; participants_room_key_fkey
    UPDATE invites SET max_uses = 0                                  ; 23514 ; invites_uses
    UPDATE invites SET uses = uses - 9                               ; 23514 ; quantity_check
";

/// The fields of a table's lines.
fn lines(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = table.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| line.split(';').map(str::trim).collect())
}

/// A row that is well but for what the case says.
fn insert(table: &str, well: &[(&str, &str)], columns: &str, values: &str) -> String {
    let (mut columns, mut values) = (columns.to_owned(), values.to_owned());
    for (column, value) in well {
        if !columns.split(", ").any(|given| given == *column) {
            columns = format!("{columns}, {column}");
            values = format!("{values}, {value}");
        }
    }
    format!("INSERT INTO {table} ({columns}) SELECT {values}")
}

#[tokio::test]
async fn bad_rows_are_refused_by_name() {
    let bench = Bench::new();
    let store = bench.open().await;
    make_room(&store, "r").await;
    make_invite(&store, "r", 1).await;
    join(&store, user("r", "ann")).await;
    join(&store, guest(1, 2)).await;
    let mut db = bench.db().await;
    let room = ("room_key", "(SELECT key FROM rooms WHERE id = 'r')");
    let person = [room, ("name", "'Ann'"), ("access_method", "'token'")];
    let token = "decode(repeat('07', 32), 'hex')";
    let invite = [room, ("room_id", "'r'"), ("token_hash", token)];
    let mut cases: Vec<(String, &str, &str)> = lines(REST)
        .map(|case| (case[0].to_owned(), case[1], case[2]))
        .collect();
    let tables: [(_, _, &[(&str, &str)]); 3] = [
        ("rooms", ROOMS, &[]),
        ("participants", PARTICIPANTS, &person),
        ("invites", INVITES, &invite),
    ];
    for (table, bad, well) in tables {
        let case = |case: Vec<_>| (insert(table, well, case[0], case[1]), case[2], case[3]);
        cases.extend(lines(bad).map(case));
    }
    assert_eq!(cases.len(), 88);
    for (sql, code, name) in &cases {
        let refusal = db.refused(sql).await;
        let found = (&*refusal.code, &*refusal.constraint);
        assert_eq!(found, (*code, *name), "{sql}: {refusal:?}");
    }
    // On their own the well columns are well, or the cases would show nothing.
    db.run(insert("rooms", &[], "id", "'x'")).await;
    db.run(insert("participants", &person, "generation", "1"))
        .await;
    db.run(insert("invites", &invite, "uses", "0")).await;
}

/// Where in a name a character stands.
type Place = fn(char) -> String;

/// Every character of the basic plane on its own and between two letters, as the domain and as the server judge it.
#[tokio::test]
async fn names_are_judged_as_the_server_does() {
    let bench = Bench::new();
    PostgresStore::migrate(&bench.database).await.unwrap();
    let mut db = bench.db().await;
    db.run(
        "CREATE FUNCTION pg_temp.is_name(candidate text) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM candidate::display_name;
             RETURN true;
         EXCEPTION WHEN check_violation THEN
             RETURN false;
         END $$",
    )
    .await;
    let characters: Vec<char> = (1..=0xffff_u32)
        .chain(0x1f600..0x1f610)
        .filter_map(char::from_u32)
        .collect();
    let places: [(&str, Place); 2] = [
        ("chr(n)", |c| c.to_string()),
        ("'a' || chr(n) || 'b'", |c| format!("a{c}b")),
    ];
    for (sql, name) in places {
        let refused = db
            .table(format!(
                "SELECT n FROM (SELECT * FROM generate_series(1, 65535) UNION ALL SELECT * FROM generate_series(128512, 128527))
                     AS c (n)
                 WHERE n NOT BETWEEN 55296 AND 57343 AND NOT pg_temp.is_name({sql}) ORDER BY n"
            ))
            .await;
        let expected: Vec<String> = characters
            .iter()
            .filter(|c| name(**c).parse::<DisplayName>().is_err())
            .map(|c| u32::from(*c).to_string())
            .collect();
        assert_eq!(refused, expected, "{sql}");
    }
}

/// Rows that are allowed, however odd, as above.
const ODD_ROOMS: &str = r#"
    metadata                   ; 'nul',      '{"a":"\u0000"}'
    metadata                   ; 'twice',    '{"a":1,"a":2}'
    metadata                   ; 'huge',     '{"a":1e999}'
    metadata                   ; 'half',     '{"a":"\ud800"}'
    metadata                   ; 'deep',     ('{"a":' || repeat('[', 500) || repeat(']', 500) || '}')::json
    metadata                   ; 'long',     '{"a":123456789012345678901234567890.5}'
    created_at, last_active_at ; 'first',    '0001-01-01 00:00:00+00', '0001-01-01 00:00:00+00'
    created_at, last_active_at ; 'last',     '9999-12-31 23:59:59.999999+00', '9999-12-31 23:59:59.999999+00'
    created_at, max_age_ms, idle_timeout_ms       ; 'longest',  '9999-12-31 23:59:59.999999+00', 315360000000000, 315360000000000
    max_age_ms, idle_timeout_ms, max_participants ; 'shortest', 1, 1, 0
    created_at                 ; 'micro',    '2026-01-01 00:00:00.123999+00'
    max_participants           ; '.|:@-_',   4294967295
"#;

const ODD_NAMES: &str = r"
    ' Ann '
    E'\u200b'
    E'\u202eAnn'
    repeat('😀', 64)
    E'\ufeff'
    E'\ue000'
";

async fn insert_odd_rows(db: &mut Db) {
    for room in lines(ODD_ROOMS) {
        let (columns, values) = (room[0], room[1]);
        db.run(format!(
            "INSERT INTO rooms (id, {columns}) VALUES ({values})"
        ))
        .await;
    }
    for name in lines(ODD_NAMES) {
        let name = name[0];
        db.run(format!(
            "INSERT INTO participants (room_key, name, access_method, joined_at, last_seen_at)
             SELECT key, {name}, 'invite', '0001-01-01 00:00+00', '2026-01-01 00:00:00.000999+00' FROM rooms"
        ))
        .await;
    }
    db.run(
        "INSERT INTO participants (room_key, name, access_method, last_seen_at, is_active, left_at, generation, removals, barred_at)
         SELECT key, 'x', 'token', '9999-12-31 23:59:59.999999+00', false, '0001-01-01 00:00+00', 0, 4294967295, now() FROM rooms
         WHERE id NOT IN ('first', 'shortest');
         INSERT INTO participant_states SELECT key, '{\"a\":1e999}' FROM participants WHERE is_active;
         INSERT INTO invites (room_key, room_id, token_hash, expires_at, uses, revoked_at)
         SELECT key, 'another', sha256(id::bytea), '9999-12-31 23:59:59.999999+00', 4294967295, '0001-01-01 00:00+00' FROM rooms",
    )
    .await;
}

#[tokio::test]
async fn odd_rows_are_read() {
    let bench = Bench::new();
    let store = bench.open().await;
    let mut db = bench.db().await;
    insert_odd_rows(&mut db).await;
    let rooms = store.rooms(RoomKey(0), 100).await.unwrap();
    assert_eq!(rooms.len(), lines(ODD_ROOMS).count());
    for room in &rooms {
        let people = store.participants(room.key, ParticipantKey(0), 100);
        let people = people.await.unwrap();
        assert!(people.len() >= lines(ODD_NAMES).count());
        assert_eq!(people[0].name.as_str(), "Ann");
        assert_eq!(
            people[0].last_seen_at,
            "2026-01-01T00:00:00.000Z".parse().unwrap()
        );
        let invites = store.invites(room.key, InviteKey(0), 100).await.unwrap();
        assert_eq!(invites[0].uses, u32::MAX);
        store.last_activity(room.key).await.unwrap().unwrap();
        let (_, facts) = store
            .facts(&user(room.id.as_str(), "nobody"))
            .await
            .unwrap();
        assert_eq!(facts.room.as_ref(), Some(room));
        db.one(format!("SELECT * FROM check_room_expiry('{}')", room.id))
            .await;
    }
    let found = |room: &str| rooms.iter().find(|row| row.id == id(room)).unwrap();
    assert_eq!(found("nul").settings.metadata["a"], "\0");
    assert_eq!(
        found("micro").created_at,
        "2026-01-01T00:00:00.123Z".parse().unwrap()
    );
    assert_eq!(
        found("longest").ends_at(),
        Some(Timestamp::from_millis(i64::MAX))
    );
    assert_eq!(
        found("shortest").settings.idle_timeout,
        Some(Duration::from_millis(1))
    );
    // A server starts over them, too, as the next after one that flushed while these people were there.
    db.run(
        "INSERT INTO nodes (started_at, flushed_at, stopped_at, stale_after_ms, settle_ms, seat_silence_ms)
         VALUES ('2025-01-01', '2026-01-01 00:00+00', now(), 315360000000000, 315360000000000, 315360000000000)",
    )
    .await;
    let seats = lines(ODD_ROOMS).count() * lines(ODD_NAMES).count();
    let restored = store.take_over(TERMS).await.unwrap().unwrap();
    assert_eq!(restored.seats.len(), seats);
    store
        .reap_candidates(ReapCriteria::default(), RoomKey(0), 100)
        .await
        .unwrap();
    db.table("SELECT * FROM cleanup_inactive_rooms(dry_run => true)")
        .await;
}

/// Metadata that PostgreSQL can hold and this server cannot say is not the room's end, nor lost by looking.
#[tokio::test]
async fn metadata_that_cannot_be_read_stays_as_it_is() {
    let bench = Bench::new();
    let store = bench.open().await;
    let mut db = bench.db().await;
    insert_odd_rows(&mut db).await;
    let texts = "SELECT id, md5(metadata::text) FROM rooms WHERE id IN ('huge', 'half', 'deep') ORDER BY id";
    let before = db.table(texts).await;
    let patch = RoomPatch {
        max_participants: Some(Some(3)),
        ..RoomPatch::default()
    };
    for room in ["huge", "half", "deep"] {
        let room: RoomId = id(room);
        let row = store.patch_room(&room, &patch).await.unwrap().unwrap();
        assert_eq!(row.settings.metadata, serde_json::Map::new());
        join(&store, user(room.as_str(), "ann")).await;
    }
    assert_eq!(db.table(texts).await, before);
    let patch = RoomPatch {
        metadata: json!({"a": 1}).as_object().cloned(),
        ..RoomPatch::default()
    };
    let row = store
        .patch_room(&id("huge"), &patch)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.settings.metadata["a"], 1);
    let distinct: BTreeSet<String> = db.table(texts).await.into_iter().collect();
    assert_eq!(
        distinct.intersection(&before.into_iter().collect()).count(),
        2
    );
}
