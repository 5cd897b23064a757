-- Moves the hand-made version's reading_sessions and session_participants into Rollcall's rooms and participants. README.md
-- beside this file says how to run it, what becomes of what, and how to go back.
--
--   psql -v ON_ERROR_STOP=1 -f migrations/move-in.sql DATABASE
--
-- Variables (-v NAME=VALUE): old_schema (public), new_schema (rollcall), idle_timeout of the rooms (1 hour; never), on_idle
-- (delete; keep). The old tables are only read. Run it as often as you like, also while both serve: what it has moved it
-- brings forward, never back, and what has ended in Rollcall since stays ended.

\set ON_ERROR_STOP on
\if :{?old_schema}
\else
    \set old_schema public
\endif
\if :{?new_schema}
\else
    \set new_schema rollcall
\endif
\if :{?idle_timeout}
\else
    \set idle_timeout '1 hour'
\endif
\if :{?on_idle}
\else
    \set on_idle delete
\endif

-- Not REPEATABLE READ: where a node has flushed a row in between, that would fail instead of seeing it.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path TO :"new_schema", pg_temp;
-- Times without a zone are taken for UTC.
SET LOCAL TimeZone TO 'UTC';
SET LOCAL lock_timeout TO '10s';
SET LOCAL client_min_messages TO warning;

DO $$
BEGIN
    IF to_regclass('participants') IS NULL OR to_regclass('_sqlx_migrations') IS NULL THEN
        RAISE EXCEPTION 'there is no Rollcall in this schema'
            USING HINT = 'Make it with `rollcall migrate`, or name another: -v new_schema=NAME';
    END IF;
    -- One at a time.
    PERFORM pg_advisory_xact_lock(hashtext('rollcall move in'), hashtext(current_schema()));
END
$$;

-- What was moved, so that what ends in Rollcall is not moved again. Drop it when the old application is gone.
CREATE TABLE IF NOT EXISTS moved_in (
    old_table text NOT NULL CHECK (old_table IN ('reading_sessions', 'session_participants')),
    old_id    uuid NOT NULL,
    PRIMARY KEY (old_table, old_id)
);

CREATE TEMP TABLE summary (n serial, line text, rows bigint) ON COMMIT DROP;

-- A time that Rollcall can store, to the millisecond; NULL for what was none. A clock may have been a little ahead; what is
-- further in the future would come with every run anew.
CREATE OR REPLACE FUNCTION pg_temp.past(at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN at >= '0001-01-01 00:00:00+00' AND at < now() + interval '5 minutes'
                THEN date_trunc('milliseconds', least(at, now())) END
$$;

-- A name without control characters and outer blanks, of at most 64 characters; NULL if nothing is left to see.
CREATE OR REPLACE FUNCTION pg_temp.visible(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT nullif(regexp_replace(
        left(regexp_replace(regexp_replace(name, '[\u0001-\u001f\u007f-\u009f]+', ' ', 'g'), blanks.leading, ''), 64),
        blanks.trailing, ''), '')
    FROM (SELECT '^[\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+' AS leading,
                 '[\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$' AS trailing) AS blanks
$$;

-- Read once each, the people first: whoever is in it finds their session, also while the old application writes.
CREATE TEMP TABLE old_people ON COMMIT DROP AS
SELECT id, session_id, user_id::text AS user_id, pg_temp.visible(name) AS name, name AS old_name,
       lower(btrim(access_method)) AS access_method, pg_temp.past(created_at) AS created_at,
       pg_temp.past(updated_at) AS updated_at, pg_temp.past(last_seen_at) AS last_seen_at
FROM :"old_schema".session_participants;
ANALYZE old_people;

CREATE TEMP TABLE old_sessions ON COMMIT DROP AS
SELECT id, name, coalesce(pg_temp.past(created_at), pg_temp.past(updated_at)) AS created_at
FROM :"old_schema".reading_sessions;
ANALYZE old_sessions;

-- Everybody once: several rows of one user in one session are one participant, with the first row's id, the earliest time of
-- joining, and of everything else the latest.
CREATE TEMP TABLE people ON COMMIT DROP AS
SELECT timed.session_id, timed.user_id, array_agg(timed.id ORDER BY timed.joined_at, timed.id) AS ids,
       coalesce((array_agg(timed.name ORDER BY timed.seen_at DESC, timed.id) FILTER (WHERE timed.name IS NOT NULL))[1], 'Guest')
           AS name,
       (array_agg(timed.method ORDER BY timed.seen_at DESC, timed.id))[1] AS access_method,
       min(timed.joined_at) AS joined_at, max(timed.seen_at) AS seen_at, bool_or(m.old_id IS NOT NULL) AS were_moved
FROM (
    SELECT p.id, p.session_id, p.user_id, p.name,
           CASE WHEN p.access_method IN ('invite', 'link') THEN 'invite'
                WHEN p.access_method IN ('token', 'user') THEN 'token'
                WHEN p.user_id IS NULL THEN 'invite'
                ELSE 'token' END AS method,
           coalesce(least(p.created_at, p.last_seen_at), p.updated_at, s.created_at, now()) AS joined_at,
           coalesce(greatest(p.created_at, coalesce(p.last_seen_at, p.updated_at)), s.created_at, now()) AS seen_at
    FROM old_people AS p LEFT JOIN old_sessions AS s ON s.id = p.session_id
) AS timed
LEFT JOIN moved_in AS m ON m.old_table = 'session_participants' AND m.old_id = timed.id
GROUP BY timed.session_id, timed.user_id, CASE WHEN timed.user_id IS NULL THEN timed.id END;
ANALYZE people;

-- Rooms. One that is there already, made by the application or by a run before, is left as it is.
CREATE TEMP TABLE ended ON COMMIT DROP AS
SELECT s.id FROM old_sessions AS s
WHERE EXISTS (SELECT FROM moved_in AS m WHERE m.old_table = 'reading_sessions' AND m.old_id = s.id)
  AND NOT EXISTS (SELECT FROM rooms WHERE rooms.id = s.id::text);

WITH made AS (
    INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms, on_idle, metadata)
    SELECT s.id::text, first.at, greatest(first.at, seen.latest),
           extract(epoch FROM nullif(:'idle_timeout', 'never')::interval)::bigint * 1000, :'on_idle',
           CASE WHEN s.name IS NULL THEN '{}' ELSE json_build_object('name', left(s.name, 500)) END
    FROM old_sessions AS s
    LEFT JOIN (SELECT session_id, min(joined_at) AS earliest, max(seen_at) AS latest FROM people GROUP BY session_id) AS seen
        ON seen.session_id = s.id
    CROSS JOIN LATERAL (SELECT coalesce(s.created_at, seen.earliest, now()) AS at) AS first
    WHERE NOT EXISTS (SELECT FROM ended WHERE ended.id = s.id)
    ORDER BY first.at, s.id
    ON CONFLICT (id) DO NOTHING
    RETURNING 1
), counted (made) AS (SELECT count(*) FROM made)
INSERT INTO summary (line, rows)
SELECT 'rooms moved', made FROM counted
UNION ALL SELECT 'rooms there already', (SELECT count(*) FROM old_sessions) - (SELECT count(*) FROM ended) - made FROM counted
UNION ALL SELECT 'rooms skipped: ended in Rollcall since', count(*) FROM ended;

INSERT INTO moved_in SELECT 'reading_sessions', id FROM old_sessions ON CONFLICT DO NOTHING;

-- Who gets a row: their rooms are kept from being reaped or closed meanwhile, joins go on.
CREATE TEMP TABLE kept_rooms ON COMMIT DROP AS
SELECT rooms.key, rooms.id FROM rooms
WHERE rooms.id IN (SELECT session_id::text FROM people WHERE NOT were_moved)
ORDER BY rooms.key FOR KEY SHARE;

CREATE TEMP TABLE fates ON COMMIT DROP AS
SELECT people.*, rooms.key AS room_key, coalesce(by_user.key, by_id.key) AS known_key,
       CASE
           WHEN s.id IS NULL THEN 'participants skipped: without a session'
           WHEN rooms.key IS NULL THEN 'participants skipped: of rooms that have ended in Rollcall since'
           WHEN coalesce(by_user.key, by_id.key) IS NOT NULL THEN 'participants there already'
           WHEN people.were_moved THEN 'participants skipped: deleted in Rollcall since'
           WHEN elsewhere.key IS NOT NULL THEN 'participants skipped: their id is taken in another room'
           ELSE 'new'
       END AS fate
FROM people
LEFT JOIN old_sessions AS s ON s.id = people.session_id
LEFT JOIN rooms ON rooms.id = s.id::text
LEFT JOIN participants AS by_user ON by_user.room_key = rooms.key AND by_user.user_id = people.user_id
LEFT JOIN participants AS by_id ON by_id.room_key = rooms.key AND by_id.id = people.ids[1]
LEFT JOIN participants AS elsewhere ON elsewhere.room_key <> rooms.key AND elsewhere.id = people.ids[1];
ANALYZE fates;

-- They have all left: nobody is in Rollcall before they come. Whoever does, with the same user id, is the same participant.
WITH made AS (
    INSERT INTO participants (id, room_key, user_id, name, access_method, joined_at, last_seen_at, is_active, left_at)
    SELECT ids[1], room_key, user_id, name, access_method, joined_at, seen_at, false, seen_at
    FROM fates WHERE fate = 'new' AND room_key IN (SELECT key FROM kept_rooms)
    ORDER BY joined_at, ids[1]
    ON CONFLICT DO NOTHING
    RETURNING id
), remembered AS (
    INSERT INTO moved_in SELECT 'session_participants', unnest(ids) FROM fates
    WHERE known_key IS NOT NULL OR ids[1] IN (SELECT id FROM made)
    ON CONFLICT DO NOTHING
)
INSERT INTO summary (line, rows)
SELECT 'participants moved', count(*) FROM made
UNION ALL SELECT 'participants left for the next run: they are just coming', count(*) - (SELECT count(*) FROM made)
FROM fates WHERE fate = 'new';

-- Forward only. Whoever has a row locked is the node, which knows better; the next run looks again.
WITH behind AS (
    SELECT p.key, fates.seen_at FROM fates JOIN participants AS p ON p.key = fates.known_key
    WHERE p.last_seen_at < fates.seen_at
    ORDER BY p.key FOR NO KEY UPDATE OF p SKIP LOCKED
), forward AS (
    UPDATE participants AS p
    SET last_seen_at = behind.seen_at, left_at = CASE WHEN NOT p.is_active THEN greatest(p.left_at, behind.seen_at) END
    FROM behind WHERE p.key = behind.key
    RETURNING 1
)
INSERT INTO summary (line, rows) SELECT 'participants seen later in the old version', count(*) FROM forward;

INSERT INTO summary (line, rows)
SELECT fate, count(fates.fate)
FROM unnest(ARRAY[
    'participants there already', 'participants skipped: without a session',
    'participants skipped: of rooms that have ended in Rollcall since', 'participants skipped: deleted in Rollcall since',
    'participants skipped: their id is taken in another room'
]) WITH ORDINALITY AS reasons (fate, n) LEFT JOIN fates USING (fate)
GROUP BY fate, reasons.n ORDER BY reasons.n;

INSERT INTO summary (line, rows)
SELECT 'rows beyond the first of one user in one session', coalesce(sum(cardinality(ids) - 1), 0) FROM people
UNION ALL
SELECT 'names mended', count(*) FROM old_people WHERE name IS DISTINCT FROM old_name OR name IS NULL
UNION ALL
SELECT 'access methods guessed', count(*) FROM old_people
WHERE access_method IS NULL OR access_method NOT IN ('invite', 'link', 'token', 'user');

SELECT line AS "what", rows FROM summary ORDER BY n;

COMMIT;
