-- Rollcall on PostgreSQL 13 and newer: rooms, who is or was in them, and the invites that let people in.
--
-- Applied in one transaction whose search_path is the schema alone (`--database-schema`), so nothing here names it; the
-- functions keep that search_path (FROM CURRENT), whoever calls them from wherever.
--
-- Lengths of time are whole milliseconds in bigint: an interval may hold months, which have no length. "key" is internal:
-- an integer, never used twice, cheap to look up in a flush. "id" is public.
--
-- What a column may hold is said by domains, not by CHECKs of the table: an UPDATE evaluates every CHECK of its table
-- for every row, but the domains of assigned columns only, and a flush assigns three.

-- Names are in every script; elsewhere a join would fail by the name of who comes, and lengths would be of bytes.
DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'Rollcall needs a database in UTF8, and this one is in %', current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported', HINT = 'CREATE DATABASE … ENCODING ''UTF8'' TEMPLATE template0';
    END IF;
END
$$;

-- A moment that RFC 3339 can say.
CREATE DOMAIN moment AS timestamptz
    CHECK (VALUE >= '0001-01-01 00:00:00+00' AND VALUE < '10000-01-01 00:00:00+00');
-- Up to ten thousand years, so that what is added to a moment stays one that PostgreSQL can say.
CREATE DOMAIN length_ms AS bigint CHECK (VALUE BETWEEN 1 AND 315360000000000);
CREATE DOMAIN quantity AS bigint CHECK (VALUE BETWEEN 0 AND 4294967295);
-- The length apart: counted by the regular expression it costs thirty times as much.
CREATE DOMAIN external_id AS text CHECK (octet_length(VALUE) BETWEEN 1 AND 128 AND VALUE !~ '[^A-Za-z0-9_.:@|-]');
-- 1 to 64 characters, something to see among them, no control characters.
CREATE DOMAIN display_name AS text
    CHECK (char_length(VALUE) BETWEEN 1 AND 64
           AND VALUE ~ '[^\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
           AND VALUE !~ '[\u0001-\u001f\u007f-\u009f]');
CREATE DOMAIN access_method AS text CHECK (VALUE IN ('invite', 'token'));
CREATE DOMAIN sha256 AS bytea CHECK (octet_length(VALUE) = 32);

CREATE TABLE rooms (
    key              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at       moment NOT NULL DEFAULT now(),
    -- Coarse: moved by every admission, by flushes about once a minute. No index: moves stay heap-only without one, and
    -- a scan for candidates is quick.
    last_active_at   moment NOT NULL DEFAULT now(),
    -- NULL: never idle.
    idle_timeout_ms  length_ms,
    -- NULL: no maximum age.
    max_age_ms       length_ms,
    -- NULL: no limit.
    max_participants quantity,
    -- The application's own id. A room born again under it has a new key.
    id               external_id NOT NULL UNIQUE,
    on_idle          text NOT NULL DEFAULT 'delete' CHECK (on_idle IN ('delete', 'keep')),
    -- json, not jsonb: the application's own data goes back as it came, \u0000 included.
    metadata         json NOT NULL DEFAULT '{}' CHECK (json_typeof(metadata) = 'object')
) WITH (fillfactor = 80);

CREATE TABLE invites (
    key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The room's, or what is left of it in room_ends: an invite outlives its room for a while, so that an old link says
    -- "has expired" instead of "not valid". Hence no foreign key; triggers of the three tables see to it.
    room_key   bigint NOT NULL,
    created_at moment NOT NULL DEFAULT now(),
    expires_at moment,
    revoked_at moment,
    -- NULL: any number.
    max_uses   quantity,
    uses       quantity NOT NULL DEFAULT 0,
    id         uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    -- The token itself is shown once and not kept.
    token_hash sha256 NOT NULL UNIQUE,
    room_id    external_id NOT NULL,
    CONSTRAINT invites_uses CHECK (uses <= max_uses)
) WITH (fillfactor = 90);

-- For the room's list, and for the purge.
CREATE INDEX invites_room_key ON invites (room_key, key);

-- How rooms that are gone ended, for as long as their invites are kept. Said here once for all of them: to write it into
-- each takes a new entry in each of their four indexes, as much as everything else about a reaped room.
CREATE TABLE room_ends (
    room_key        bigint PRIMARY KEY,
    ended_at        moment NOT NULL,
    -- After how long without anybody the room was idle; it is in the sentence that the late guest reads.
    idle_timeout_ms length_ms,
    cause           text NOT NULL,
    CONSTRAINT room_ends_cause CHECK (cause IN ('idle', 'max_age', 'closed')),
    CONSTRAINT room_ends_idle CHECK ((idle_timeout_ms IS NOT NULL) = (cause = 'idle'))
);

-- Invites, and how their room ended if it did.
CREATE VIEW invites_told AS
SELECT i.key, i.id, i.room_key AS any_room_key, CASE WHEN e.room_key IS NULL THEN i.room_key END AS room_key, i.room_id,
       i.created_at, i.expires_at, i.max_uses, i.uses, i.revoked_at, i.token_hash,
       e.ended_at AS room_ended_at, e.cause AS room_end_cause, e.idle_timeout_ms AS room_idle_timeout_ms
FROM invites AS i LEFT JOIN room_ends AS e ON e.room_key = i.room_key;

CREATE TABLE participants (
    -- The first column: an update that begins to differ there is eight bytes shorter in the log. No index, ever: this is
    -- what every flush writes (the index alone costs 2.7 times the flush).
    last_seen_at  moment NOT NULL DEFAULT now(),
    key           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_key      bigint NOT NULL REFERENCES rooms (key) ON DELETE CASCADE,
    -- The invite it came by, if that still exists.
    invite_key    bigint REFERENCES invites (key) ON DELETE SET NULL,
    joined_at     moment NOT NULL DEFAULT now(),
    left_at       moment,
    -- Barred from coming back since then.
    barred_at     moment,
    -- Counts admissions; a departure flushed late names the one it ends and cannot undo a newer one.
    generation    quantity NOT NULL DEFAULT 1,
    -- Counts removals; a resume token is void after the next.
    removals      quantity NOT NULL DEFAULT 0,
    id            uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    -- "Has not left". Who is online is the live server's business.
    is_active     boolean NOT NULL DEFAULT true,
    access_method access_method NOT NULL,
    -- The access token's sub; NULL for guests.
    user_id       external_id,
    name          display_name NOT NULL,
    -- SHA-256 of the browser's own secret: the same browser with the same invite is the same participant.
    client_hash   sha256,
    CONSTRAINT participants_left CHECK (is_active = (left_at IS NULL))
    -- A quarter of each page is free, so that a flush finds room beside the row: heap-only, no index touched. With a
    -- fifth, one update of a thousand found none, and the index pages it wrote cost all of them 20 bytes a row in the log.
) WITH (fillfactor = 75);

-- Without it one room's deletion scans the table. With the key, so that a page of a room's people is read in order.
CREATE INDEX participants_room_key ON participants (room_key, key);
-- One user is one participant of a room.
CREATE UNIQUE INDEX participants_room_user ON participants (room_key, user_id) WHERE user_id IS NOT NULL;
-- One browser is one participant by an invite. NULLs are distinct, so guests without a hash do not collide; they are
-- in the index because the foreign key looks here when an invite is purged.
CREATE UNIQUE INDEX participants_invite_client ON participants (invite_key, client_hash) WHERE invite_key IS NOT NULL;

-- Apart from participants, so that the row a flush rewrites stays small. Without a foreign key, which would look here once
-- for each participant that the reaper deletes, as long as everything else about it takes; participant_states_owner and
-- participants_forget see to the same.
CREATE TABLE participant_states (
    participant_key bigint PRIMARY KEY,
    state           json NOT NULL
);

-- One row for each start of a server. How far to trust its flushes is its own configuration, so it says so here.
CREATE TABLE nodes (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at      moment NOT NULL,
    -- NULL until its first flush.
    flushed_at      moment,
    -- NULL while it serves, and after a crash until the next one starts.
    stopped_at      moment,
    -- Without a flush for so long it is stale: its people may be here and not in last_seen_at.
    stale_after_ms  length_ms NOT NULL,
    -- For so long after its start those who are to come back may not have.
    settle_ms       length_ms NOT NULL,
    -- A seat may be held for so long after its last stored sign of life.
    seat_silence_ms length_ms NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE keys (
    purpose    text PRIMARY KEY CHECK (purpose <> ''),
    secret     bytea NOT NULL CHECK (octet_length(secret) = 32),
    created_at moment NOT NULL
);

-- Other software that updates a participant without saying when it was last seen says "now" by that.
CREATE FUNCTION see_participant() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE participants SET last_seen_at = now.ms
    FROM (SELECT date_trunc('milliseconds', clock_timestamp()) AS ms) AS now
    -- Also what ends the recursion.
    WHERE key = NEW.key AND last_seen_at < now.ms;
    RETURN NULL;
END
$$;

-- AFTER: for any BEFORE trigger, whatever its condition, PostgreSQL locks each row apart, which costs every flush 64 bytes
-- a row in the log. Never on the server's own writes, which say so for their transaction; that is asked last: a
-- heartbeat moves last_seen_at, so it comes to asking for departures only. A purged invite (the foreign key's SET NULL) is no
-- sign of life.
CREATE TRIGGER participants_see AFTER UPDATE ON participants FOR EACH ROW
    WHEN (OLD.last_seen_at = NEW.last_seen_at
          AND OLD.invite_key IS NOT DISTINCT FROM NEW.invite_key
          AND coalesce(current_setting('rollcall.writer', true), '') <> 'server')
    EXECUTE FUNCTION see_participant();

-- What foreign keys would see to for each row, for each statement: invites and their rooms or what is left of them, states and
-- their participants. A row that refers to another is made while that is there, and keeps it until both are committed.
CREATE FUNCTION check_invite() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM rooms WHERE key = NEW.room_key FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no room % for the invite', NEW.room_key
            USING ERRCODE = 'foreign_key_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'invites_room_key_fkey';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER invites_room AFTER INSERT OR UPDATE OF room_key ON invites
    FOR EACH ROW EXECUTE FUNCTION check_invite();

CREATE FUNCTION check_state() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM participants WHERE key = NEW.participant_key FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no participant % for the state', NEW.participant_key
            USING ERRCODE = 'foreign_key_violation', TABLE = TG_TABLE_NAME,
                  CONSTRAINT = 'participant_states_participant_key_fkey';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER participant_states_owner AFTER INSERT OR UPDATE OF participant_key ON participant_states
    FOR EACH ROW EXECUTE FUNCTION check_state();

-- Whoever deletes rooms without saying why has closed them.
CREATE FUNCTION end_rooms() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    at timestamptz := date_trunc('milliseconds', clock_timestamp());
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO room_ends (room_key, ended_at, cause)
        SELECT key, at, 'closed' FROM gone
        -- Asked for before: a conflict found on the way costs the reaper's rooms more.
        WHERE NOT EXISTS (SELECT FROM room_ends AS e WHERE e.room_key = gone.key)
        ON CONFLICT DO NOTHING;
    ELSE
        INSERT INTO room_ends (room_key, ended_at, cause) SELECT key, at, 'closed' FROM rooms ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER rooms_end AFTER DELETE ON rooms REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION end_rooms();
CREATE TRIGGER rooms_end_all BEFORE TRUNCATE ON rooms FOR EACH STATEMENT EXECUTE FUNCTION end_rooms();

CREATE FUNCTION forget_invites() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM invites USING gone
        WHERE invites.room_key = gone.room_key AND NOT EXISTS (SELECT FROM rooms WHERE rooms.key = gone.room_key);
    ELSE
        DELETE FROM invites WHERE NOT EXISTS (SELECT FROM rooms WHERE rooms.key = invites.room_key);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER room_ends_forget AFTER DELETE ON room_ends REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_invites();
CREATE TRIGGER room_ends_forget_all AFTER TRUNCATE ON room_ends FOR EACH STATEMENT EXECUTE FUNCTION forget_invites();

CREATE FUNCTION forget_states() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM participant_states;
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        -- A foreign key sees beyond the transaction's snapshot; this would leave what was written since.
        RAISE EXCEPTION 'participants can be deleted in a READ COMMITTED transaction only'
            USING ERRCODE = 'invalid_transaction_state';
    ELSE
        DELETE FROM participant_states AS s USING gone WHERE s.participant_key = gone.key;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER participants_forget AFTER DELETE ON participants REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_states();
CREATE TRIGGER participants_forget_all AFTER TRUNCATE ON participants FOR EACH STATEMENT EXECUTE FUNCTION forget_states();

CREATE FUNCTION keep_key() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'a row of % keeps its key', TG_TABLE_NAME
        USING ERRCODE = 'foreign_key_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END
$$;

CREATE TRIGGER rooms_keep_key BEFORE UPDATE OF key ON rooms FOR EACH STATEMENT EXECUTE FUNCTION keep_key();
CREATE TRIGGER room_ends_keep_key BEFORE UPDATE OF room_key ON room_ends FOR EACH STATEMENT EXECUTE FUNCTION keep_key();
CREATE TRIGGER participants_keep_key BEFORE UPDATE OF key ON participants FOR EACH STATEMENT EXECUTE FUNCTION keep_key();

-- Deletes those of the rooms that are reapable when looked at exactly, under their locks; room_ends remembers how they
-- ended, and the others' last_active_at advances to what was found. The one implementation, for the server's
-- reaper and for cleanup_inactive_rooms.
--
-- Two statements, because only a statement that begins after the locks were taken sees what their last holders did: with
-- one, a join that commits while the reaper waits is deleted (rule R1). Hence READ COMMITTED, where each has a
-- snapshot of its own. Rooms that somebody has locked are passed over: somebody is joining.
--
-- at_time: the moment to judge by; NULL: now, after the locks. seat_silence: an active participant seen within it holds a
-- seat; NULL: the caller knows who is live. max_rows: beyond so many participants the other rooms are left for a next
-- call (postponed), so that no lock is held long; a larger room goes whole.
--
-- Its settings: one lookup by key for each room, whatever the statistics say, for the foreign key's and the trigger's
-- statements too; and nothing planned anew each time. A locked row stays in its place, which is found without an index.
CREATE FUNCTION reap_rooms(
    keys bigint[], at_time timestamptz, min_age interval, below_participants bigint, seat_silence interval, max_rows bigint,
    dry_run boolean)
RETURNS TABLE (room_key bigint, room_id text, participants bigint, postponed boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    places tid[];
    at     timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'rooms can be reaped in a READ COMMITTED transaction only'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    IF dry_run THEN
        places := ARRAY(SELECT rooms.ctid FROM rooms WHERE rooms.key = ANY (keys));
    ELSE
        places := ARRAY(SELECT rooms.ctid FROM rooms WHERE rooms.key = ANY (keys) ORDER BY rooms.key FOR UPDATE SKIP LOCKED);
    END IF;
    at := coalesce(at_time, date_trunc('milliseconds', clock_timestamp()));
    RETURN QUERY
    WITH judged AS MATERIALIZED (
        SELECT r.ctid AS place, r.key, r.id, r.idle_timeout_ms, r.last_active_at, seen.size, last.activity AS last_activity,
               CASE
                   WHEN on_idle = 'keep' OR is_live OR created_at + min_age > at OR size >= below_participants THEN NULL
                   WHEN created_at + max_age_ms * interval '1 ms' <= at THEN 'max_age'
                   WHEN last.activity + idle_timeout_ms * interval '1 ms' <= at THEN 'idle'
               END AS cause
        FROM rooms AS r
        CROSS JOIN LATERAL (
            SELECT count(*) AS size, max(p.last_seen_at) AS last_seen_at,
                   coalesce(bool_or(p.is_active AND p.last_seen_at + seat_silence > at), false) AS is_live
            FROM participants AS p WHERE p.room_key = r.key) AS seen
        CROSS JOIN LATERAL (SELECT greatest(r.last_active_at, seen.last_seen_at) AS activity) AS last
        WHERE r.ctid = ANY (places)
    ), due AS MATERIALIZED (
        SELECT judged.*, sum(size) OVER (ORDER BY key) - size >= max_rows AS postponed FROM judged WHERE cause IS NOT NULL
    ), ended AS (
        INSERT INTO room_ends (room_key, ended_at, cause, idle_timeout_ms)
        SELECT due.key, at, due.cause, CASE due.cause WHEN 'idle' THEN due.idle_timeout_ms END
        FROM due
        WHERE NOT due.postponed AND NOT dry_run AND NOT EXISTS (SELECT FROM room_ends AS e WHERE e.room_key = due.key)
    ), advanced AS (
        UPDATE rooms SET last_active_at = judged.last_activity
        FROM judged
        WHERE rooms.ctid = judged.place AND judged.cause IS NULL AND rooms.last_active_at < judged.last_activity AND NOT dry_run
    ), deleted AS (
        DELETE FROM rooms USING due WHERE rooms.ctid = due.place AND NOT due.postponed AND NOT dry_run
    )
    SELECT due.key, due.id::text, due.size, due.postponed AND NOT dry_run FROM due ORDER BY due.key;
END
$$;

-- Whether a node's flushes can be trusted to say who is live: why not, in words; NULL if so.
CREATE FUNCTION why_not_reap(at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE
               WHEN started_at + settle_ms * interval '1 ms' > at OR flushed_at IS NULL
               THEN format('node %s started at %s, and whoever is to come back may not be back yet', id, started_at)
               ELSE format('node %s has not flushed since %s, and may hold people who look absent', id, flushed_at)
           END
    FROM nodes
    WHERE stopped_at IS NULL
      AND (started_at + settle_ms * interval '1 ms' > at
           OR flushed_at IS NULL OR flushed_at + stale_after_ms * interval '1 ms' <= at)
    ORDER BY id LIMIT 1
$$;

-- How old the stored sign of life of somebody who has a seat may be; NULL: no node serves, nobody has. A node that settles
-- holds a seat for everybody who is active: those it restored have been silent for as long as no node was there.
CREATE FUNCTION seat_silence(at timestamptz) RETURNS interval
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT max(CASE WHEN started_at + settle_ms * interval '1 ms' > at THEN 315360000000000 ELSE seat_silence_ms END)
           * interval '1 ms'
    FROM nodes WHERE stopped_at IS NULL
$$;

-- For psql and pg_cron: deletes idle rooms and those past their maximum age, as the server's reaper does, and answers
-- which. Refuses while it cannot know who is live (rule R9). One transaction: the locks of all are held to its end, so
-- max_rooms bounds a call.
CREATE FUNCTION cleanup_inactive_rooms(
    min_age interval DEFAULT NULL, below_participants bigint DEFAULT NULL, max_rooms integer DEFAULT 10000,
    dry_run boolean DEFAULT false)
RETURNS TABLE (room text, participants bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    at       timestamptz := date_trunc('milliseconds', clock_timestamp());
    why      text;
    silence  interval;
    chunk    bigint[];
    after    bigint := 0;
    reaped   bigint;
    room_count bigint := 0;
BEGIN
    -- No node may take the database over in between, with seats to restore.
    LOCK TABLE nodes IN ROW SHARE MODE;
    why := why_not_reap(at);
    IF why IS NOT NULL AND NOT dry_run THEN
        RAISE EXCEPTION 'rooms are not cleaned up now: %', why
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'If that node is gone for good and none is to follow it, set its nodes.stopped_at.';
    END IF;
    silence := seat_silence(at);
    WHILE coalesce(room_count < max_rooms, true) LOOP
        chunk := ARRAY(
            SELECT key FROM rooms
            WHERE key > after AND on_idle = 'delete'
              AND (last_active_at + idle_timeout_ms * interval '1 ms' <= at OR created_at + max_age_ms * interval '1 ms' <= at)
            ORDER BY key LIMIT least(500, max_rooms - room_count));
        EXIT WHEN cardinality(chunk) = 0;
        after := chunk[cardinality(chunk)];
        RETURN QUERY SELECT gone.room_id, gone.participants
            FROM reap_rooms(chunk, at, min_age, below_participants, silence, 9223372036854775807, dry_run) AS gone;
        GET DIAGNOSTICS reaped = ROW_COUNT;
        room_count := room_count + reaped;
    END LOOP;
END
$$;

-- When a room is over if nobody is heard from again, as GET /v1/rooms/{room}/expiry answers it, as far as the last flush
-- knows; no row for an unknown room.
CREATE FUNCTION check_room_expiry(room text)
RETURNS TABLE (expires_at timestamptz, seconds_remaining bigint, expired boolean, online bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    WITH moments AS MATERIALIZED (
        SELECT at, seat_silence(at) AS silence FROM date_trunc('milliseconds', clock_timestamp()) AS at
    )
    SELECT times.expires_at,
           CASE WHEN times.expires_at IS NOT NULL
                THEN greatest(0, floor(extract(epoch FROM times.expires_at - judged.at)))::bigint END,
           (coalesce(judged.idle_at <= judged.at, false) AND judged.online = 0) OR coalesce(judged.ends_at <= judged.at, false),
           judged.online
    FROM (
        SELECT moments.at, seen.online,
               greatest(r.last_active_at, seen.last_seen_at) + r.idle_timeout_ms * interval '1 ms' AS idle_at,
               r.created_at + r.max_age_ms * interval '1 ms' AS ends_at
        FROM rooms AS r
        CROSS JOIN moments
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE p.is_active AND p.last_seen_at + moments.silence > moments.at) AS online,
                   max(p.last_seen_at) AS last_seen_at
            FROM participants AS p WHERE p.room_key = r.key) AS seen
        WHERE r.id = room) AS judged
    CROSS JOIN LATERAL (SELECT least(judged.idle_at, judged.ends_at) AS expires_at) AS times
$$;
