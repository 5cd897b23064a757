//! The limit: the same rows as a binary `COPY` into an empty heap without an index.

use rollcall::store::Seen;
use sqlx::PgConnection;

use crate::bed::Bed;

/// 1970-01-01 to 2000-01-01, where PostgreSQL's own time begins.
const EPOCH_MS: i64 = 946_684_800_000;
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: i16 = -1;

/// Makes the heap empty, and says what to send it.
pub(crate) async fn prepare(bed: &mut Bed, seen: &[Seen]) -> anyhow::Result<Vec<u8>> {
    bed.run("CREATE SCHEMA IF NOT EXISTS copied; CREATE TABLE IF NOT EXISTS copied.seen (key bigint, at timestamptz)").await?;
    bed.run("TRUNCATE copied.seen").await?;
    let mut data = HEADER.to_vec();
    seen.iter().for_each(|seen| tuple(&mut data, seen));
    data.extend(TRAILER.to_be_bytes());
    Ok(data)
}

/// Sends it; answers how many rows that was.
pub(crate) async fn copy(db: &mut PgConnection, data: Vec<u8>) -> anyhow::Result<u64> {
    let mut copy = db
        .copy_in_raw("COPY copied.seen FROM STDIN (FORMAT binary)")
        .await?;
    copy.send(data).await?;
    Ok(copy.finish().await?)
}

fn tuple(data: &mut Vec<u8>, seen: &Seen) {
    let micros = (seen.last_seen_at.as_millis() - EPOCH_MS) * 1_000;
    data.extend(2_i16.to_be_bytes());
    for field in [seen.key.0, micros] {
        data.extend(8_i32.to_be_bytes());
        data.extend(field.to_be_bytes());
    }
}
