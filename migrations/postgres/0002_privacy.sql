-- Privacy of last-seen. Rooms stay exact: last_active_at says when a room is idle, whatever its people's rows say.

-- Who does not want it kept when they were last there: last_seen_at stays at joined_at then, left_at likewise.
ALTER TABLE participants ADD COLUMN keeps_last_seen boolean NOT NULL DEFAULT true;

-- By how much this node's stored last_seen_at may be earlier than what it knew; the next one needs it to tell who was there.
-- Its seat_silence_ms has it in.
ALTER TABLE nodes ADD COLUMN last_seen_precision_ms bigint NOT NULL DEFAULT 0
    CONSTRAINT nodes_last_seen_precision CHECK (last_seen_precision_ms BETWEEN 0 AND 315360000000000);

-- As before, but no more exactly than the server itself, and not for those who do not want it.
CREATE OR REPLACE FUNCTION see_participant() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE participants SET last_seen_at = seen.at
    FROM (SELECT timestamptz 'epoch' + floor(extract(epoch FROM clock_timestamp())::numeric * 1000 / step.ms) * step.ms
                 * interval '1 ms' AS at
          FROM (SELECT greatest(max(last_seen_precision_ms), 1) AS ms FROM nodes WHERE stopped_at IS NULL) AS step) AS seen
    -- Also what ends the recursion.
    WHERE key = NEW.key AND last_seen_at < seen.at AND keeps_last_seen;
    RETURN NULL;
END
$$;

-- As before, but whoever is active without a last_seen_at that is kept holds a seat while a node serves: nothing says
-- otherwise.
CREATE OR REPLACE FUNCTION reap_rooms(
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
                   coalesce(bool_or(p.is_active AND seat_silence IS NOT NULL
                                     AND (NOT p.keeps_last_seen OR p.last_seen_at + seat_silence > at)), false) AS is_live
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

-- As before, with the same for who is online.
CREATE OR REPLACE FUNCTION check_room_expiry(room text)
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
            SELECT count(*) FILTER (WHERE p.is_active AND moments.silence IS NOT NULL
                                    AND (NOT p.keeps_last_seen OR p.last_seen_at + moments.silence > moments.at)) AS online,
                   max(p.last_seen_at) AS last_seen_at
            FROM participants AS p WHERE p.room_key = r.key) AS seen
        WHERE r.id = room) AS judged
    CROSS JOIN LATERAL (SELECT least(judged.idle_at, judged.ends_at) AS expires_at) AS times
$$;
