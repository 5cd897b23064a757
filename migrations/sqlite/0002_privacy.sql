-- Who does not want it kept when they were last there: last_seen_at stays at joined_at then, left_at likewise.
ALTER TABLE participants ADD COLUMN keeps_last_seen INTEGER NOT NULL DEFAULT 1 CHECK (keeps_last_seen IN (0, 1));

-- By how much this node's stored last_seen_at may be earlier than what it knew; the next one needs it to tell who was there.
ALTER TABLE nodes ADD COLUMN last_seen_precision_ms INTEGER NOT NULL DEFAULT 0 CHECK (last_seen_precision_ms >= 0);
