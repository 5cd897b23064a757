-- Rollcall on SQLite: rooms, who is or was in them, and the invites that let people in.
--
-- Times are TEXT, RFC 3339 in UTC with milliseconds and a Z: fixed width, so they sort as text, and whoever opens the
-- database can read them. Lengths of time are whole milliseconds. STRICT tables, and a CHECK for each shape, because a
-- time of another width would sort wrongly without any error.
--
-- "key" is internal: an integer, never used twice (AUTOINCREMENT), cheap to look up in a flush. "id" is public.

CREATE TABLE rooms (
    key              INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The application's own id. A room born again under it has a new key.
    id               TEXT NOT NULL UNIQUE CHECK (id <> ''),
    created_at       TEXT NOT NULL
        CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- Coarse: moved by every admission, by flushes about once a minute. No index: every move would write it too, and
    -- a scan for candidates is quick.
    last_active_at   TEXT NOT NULL
        CHECK (last_active_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- NULL: never idle.
    idle_timeout_ms  INTEGER CHECK (idle_timeout_ms > 0),
    on_idle          TEXT NOT NULL CHECK (on_idle IN ('delete', 'keep')),
    -- NULL: no limit.
    max_participants INTEGER CHECK (max_participants BETWEEN 0 AND 4294967295),
    -- NULL: no maximum age.
    max_age_ms       INTEGER CHECK (max_age_ms >= 0),
    metadata         TEXT NOT NULL DEFAULT '{}'
        CHECK (CASE WHEN json_valid(metadata) THEN json_type(metadata) = 'object' ELSE 0 END)
) STRICT;

CREATE TABLE invites (
    key                  INTEGER PRIMARY KEY AUTOINCREMENT,
    id                   TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    -- The token itself is shown once and not kept.
    token_hash           BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    -- An invite outlives its room for a while, so that an old link says "has expired" instead of "not valid".
    room_key             INTEGER REFERENCES rooms (key) ON DELETE SET NULL,
    room_id              TEXT NOT NULL CHECK (room_id <> ''),
    created_at           TEXT NOT NULL
        CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    expires_at           TEXT
        CHECK (expires_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- NULL: any number.
    max_uses             INTEGER CHECK (max_uses BETWEEN 0 AND 4294967295),
    uses                 INTEGER NOT NULL DEFAULT 0 CHECK (uses BETWEEN 0 AND 4294967295),
    revoked_at           TEXT
        CHECK (revoked_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- How the room ended. Other software may delete a room without saying: then the clean-up fills this in.
    room_ended_at        TEXT
        CHECK (room_ended_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    room_end_cause       TEXT CHECK (room_end_cause IN ('idle', 'max_age', 'closed')),
    -- After how long without anybody the room was idle; it is in the sentence that the late guest reads.
    room_idle_timeout_ms INTEGER CHECK (room_idle_timeout_ms > 0),
    CHECK (max_uses IS NULL OR uses <= max_uses),
    CHECK ((room_ended_at IS NULL) = (room_end_cause IS NULL)),
    CHECK ((room_idle_timeout_ms IS NOT NULL) = (room_end_cause IS 'idle'))
) STRICT;

-- For the room's list, and for the foreign key when a room is deleted. NULLs are in it on purpose: the purge looks for
-- invites without a room.
CREATE INDEX invites_room_key ON invites (room_key);

CREATE TABLE participants (
    key           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    room_key      INTEGER NOT NULL REFERENCES rooms (key) ON DELETE CASCADE,
    -- The access token's sub; NULL for guests.
    user_id       TEXT CHECK (user_id <> ''),
    name          TEXT NOT NULL CHECK (name <> ''),
    access_method TEXT NOT NULL CHECK (access_method IN ('invite', 'token')),
    invite_key    INTEGER REFERENCES invites (key) ON DELETE SET NULL,
    -- SHA-256 of the browser's own secret: the same browser with the same invite is the same participant.
    client_hash   BLOB CHECK (length(client_hash) = 32),
    -- "Has not left". Who is online is the live server's business.
    is_active     INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    joined_at     TEXT NOT NULL
        CHECK (joined_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- No index, ever: this is what every flush writes (the index alone costs 2.7 times the flush).
    last_seen_at  TEXT NOT NULL
        CHECK (last_seen_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    left_at       TEXT
        CHECK (left_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- Counts admissions; a departure flushed late names the one it ends and cannot undo a newer one.
    generation    INTEGER NOT NULL DEFAULT 1 CHECK (generation >= 1),
    -- Counts removals; a resume token is void after the next.
    removals      INTEGER NOT NULL DEFAULT 0 CHECK (removals >= 0),
    barred_at     TEXT
        CHECK (barred_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    CHECK (is_active = (left_at IS NULL))
) STRICT;

-- Without it one room's deletion scans the table.
CREATE INDEX participants_room_key ON participants (room_key);
-- One user is one participant of a room.
CREATE UNIQUE INDEX participants_room_user ON participants (room_key, user_id) WHERE user_id IS NOT NULL;
-- One browser is one participant by an invite. NULLs are distinct to SQLite, so guests without a hash do not collide;
-- they are in the index because the foreign key looks here when an invite is purged.
CREATE UNIQUE INDEX participants_invite_client ON participants (invite_key, client_hash) WHERE invite_key IS NOT NULL;

-- Apart from participants, so that the row a flush rewrites stays small.
CREATE TABLE participant_states (
    participant_key INTEGER PRIMARY KEY REFERENCES participants (key) ON DELETE CASCADE,
    state           TEXT NOT NULL CHECK (json_valid(state))
) STRICT;

-- One row for each start of a server.
CREATE TABLE nodes (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at TEXT NOT NULL
        CHECK (started_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- NULL until its first flush.
    flushed_at TEXT
        CHECK (flushed_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'),
    -- NULL while it serves, and after a crash until the next one starts.
    stopped_at TEXT
        CHECK (stopped_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z')
) STRICT;

CREATE TABLE keys (
    purpose    TEXT PRIMARY KEY CHECK (purpose <> ''),
    secret     BLOB NOT NULL CHECK (length(secret) = 32),
    created_at TEXT NOT NULL
        CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z')
) STRICT;
