//! The database's disk is full and it says so. (Where the log of changes itself has no room, PostgreSQL ends itself: that is
//! the crash of `server_gone`.)
//!
//! The error is raised by triggers: a file system of a few megabytes takes root to mount.

use std::time::Duration;

use crate::{
    database::{Corner, Psql},
    harness::{self, token_for},
    scene::{AT_ONCE, REFUSED_WITHIN, Scene, is_unavailable},
};

/// As PostgreSQL says it when a table cannot grow.
const FULL: &str = "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE 'could not extend file \"base/16384/16385\": No space left on device' USING ERRCODE = 'disk_full';
    END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_nothing_can_be_written() {
    let corner = Corner::new();
    let mut scene = Scene::begin(&corner.database).await;
    scene.psql.run(FULL).await;
    for table in ["participants", "rooms", "participant_states"] {
        let trigger = format!(
            "CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON {table}
             FOR EACH ROW EXECUTE FUNCTION disk_full()"
        );
        scene.psql.run(&trigger).await;
    }
    scene.suffers(Duration::ZERO).await;
    scene.psql.run("DROP FUNCTION disk_full CASCADE").await;
    scene.recovers().await;
    scene.ends().await;
}

/// Rewriting rows finds room where adding some does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_new_rows_find_no_room() {
    let corner = Corner::new();
    let mut scene = Scene::begin(&corner.database).await;
    let mut psql = Psql::open(&corner.database).await;
    psql.run(FULL).await;
    psql.run(
        "CREATE TRIGGER disk_full BEFORE INSERT ON participants FOR EACH ROW EXECUTE FUNCTION disk_full()",
    )
    .await;
    let eve = format!("token={}", token_for("eve", "main"));
    let refused = harness::open(scene.server.addr, &eve, &[]);
    let refused = tokio::time::timeout(REFUSED_WITHIN, refused).await.unwrap();
    is_unavailable(&refused.err().unwrap());
    let ada = format!("token={}", token_for("ada", "main"));
    let again = tokio::time::timeout(AT_ONCE, scene.server.connect(&ada)).await;
    again.expect("who has a row needs no new one").leave().await;
    scene.heartbeats().await;
    scene.flushes().await;
    scene.is_ready().await;
    psql.run("DROP FUNCTION disk_full CASCADE").await;
    scene.server.connect(&eve).await;
    scene.ends().await;
}
