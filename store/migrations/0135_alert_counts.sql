-- +goose Up
-- How many alerts of a key are in each state, of how many bytes those are that
-- wait, and since when the next one does: so that nobody has to count them.
ALTER TABLE alert_key ADD COLUMN pending BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alert_key ADD COLUMN pending_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alert_key ADD COLUMN oldest BIGINT NOT NULL DEFAULT 0; -- 0: nothing is pending
ALTER TABLE alert_key ADD COLUMN delivered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alert_key ADD COLUMN skipped BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alert_key ADD COLUMN dead BIGINT NOT NULL DEFAULT 0;
UPDATE alert_key SET
    pending = c.pending, pending_bytes = c.bytes, oldest = c.oldest, delivered = c.delivered, skipped = c.skipped, dead = c.dead
FROM (
    SELECT key_id,
        SUM(CASE WHEN state = 'pending'   THEN 1 ELSE 0 END) AS pending,
        CAST(SUM(CASE WHEN state = 'pending' THEN size ELSE 0 END) AS BIGINT) AS bytes,
        COALESCE(MIN(CASE WHEN state = 'pending' THEN since END), 0) AS oldest,
        SUM(CASE WHEN state = 'delivered' THEN 1 ELSE 0 END) AS delivered,
        SUM(CASE WHEN state = 'skipped'   THEN 1 ELSE 0 END) AS skipped,
        SUM(CASE WHEN state = 'dead'      THEN 1 ELSE 0 END) AS dead
    FROM alert GROUP BY key_id
) AS c WHERE c.key_id = alert_key.id;
CREATE INDEX alert_key_dead ON alert_key (sink, dead) WHERE dead > 0;
DROP INDEX alert_key_due;
CREATE INDEX alert_key_due ON alert_key (sink, next_at, pending, pending_bytes, oldest) WHERE next_at > 0;

-- A person asked for it again: it is told even if it is no news.
ALTER TABLE alert ADD COLUMN replayed BIGINT NOT NULL DEFAULT 0; -- 0 or 1

-- What is forgotten or counted anew, and dead letters as they are listed.
DROP INDEX alert_by_end;
CREATE INDEX alert_by_end ON alert (state, done_at, key_id) WHERE done_at > 0;
DROP INDEX alert_dead;
CREATE INDEX alert_dead ON alert (created_at, id) WHERE state = 'dead';

-- +goose Down
DROP INDEX alert_dead;
CREATE INDEX alert_dead ON alert (key_id) WHERE state = 'dead';
DROP INDEX alert_by_end;
CREATE INDEX alert_by_end ON alert (done_at) WHERE done_at > 0;
ALTER TABLE alert DROP COLUMN replayed;
DROP INDEX alert_key_due;
CREATE INDEX alert_key_due ON alert_key (sink, next_at) WHERE next_at > 0;
DROP INDEX alert_key_dead;
ALTER TABLE alert_key DROP COLUMN dead;
ALTER TABLE alert_key DROP COLUMN skipped;
ALTER TABLE alert_key DROP COLUMN delivered;
ALTER TABLE alert_key DROP COLUMN oldest;
ALTER TABLE alert_key DROP COLUMN pending_bytes;
ALTER TABLE alert_key DROP COLUMN pending;
