//! One schema holds everything, and making it is safe from anywhere.

use rollcall::{
    clock::Clock,
    config::Secret,
    store::{ReapCriteria, RoomKey, Store, StoreError, postgres::PostgresStore},
};
use rollcall_test_cluster::Pooler;
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Db, unique},
    life::{TERMS, departed, guest, join, make_invite, make_room, row, see, user},
};

/// An application with tables of our names, and functions that stand before PostgreSQL's own for whoever is not careful.
const APPLICATION: &str = "
    CREATE TABLE public.rooms (key bigint, id text, last_active_at timestamptz);
    CREATE TABLE public.participants (key bigint, room_key bigint, last_seen_at timestamptz, is_active boolean);
    CREATE TABLE public.invites (key bigint);
    CREATE TABLE public.nodes (id bigint, stopped_at timestamptz);
    CREATE TABLE public.keys (purpose text);
    CREATE TABLE public._sqlx_migrations (version bigint, success boolean, checksum bytea);
    INSERT INTO public.rooms VALUES (1, 'lobby', '2001-01-01');
    INSERT INTO public.participants VALUES (1, 1, '2001-01-01', true);
    INSERT INTO public._sqlx_migrations VALUES (20240101, true, '');
    CREATE DOMAIN public.moment AS text;
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '2001-01-01' $$;
    CREATE FUNCTION evil.date_trunc(text, timestamptz) RETURNS timestamptz LANGUAGE sql
        AS $$ SELECT timestamptz '2001-01-01' $$;
    CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '2001-01-01' $$;
    CREATE FUNCTION evil.format(text, VARIADIC \"any\") RETURNS text LANGUAGE internal AS 'text_format_nv';
    CREATE FUNCTION evil.later(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE OPERATOR evil.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.later);
    CREATE OPERATOR evil.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.later);
    CREATE OPERATOR evil.= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.later);";

/// Everything outside our schema: each table, function and type by number, and what the application wrote.
async fn outside(db: &mut Db, schema: &str) -> Vec<String> {
    db.table(format!(
        "SELECT 'relation ' || oid FROM pg_class WHERE relnamespace <> '{schema}'::regnamespace AND oid >= 16384
            AND relnamespace <> 'pg_toast'::regnamespace
         UNION ALL SELECT 'function ' || oid FROM pg_proc WHERE pronamespace <> '{schema}'::regnamespace AND oid >= 16384
         UNION ALL SELECT 'type ' || oid FROM pg_type WHERE typnamespace <> '{schema}'::regnamespace AND oid >= 16384
            AND typnamespace <> 'pg_toast'::regnamespace
         UNION ALL SELECT 'schema ' || oid FROM pg_namespace WHERE oid >= 16384
         UNION ALL SELECT r::text FROM public.rooms AS r UNION ALL SELECT p::text FROM public.participants AS p
         UNION ALL SELECT m::text FROM public._sqlx_migrations AS m
         UNION ALL SELECT 'row' FROM public.invites UNION ALL SELECT 'row' FROM public.nodes
         UNION ALL SELECT 'row' FROM public.keys
         ORDER BY 1"
    ))
    .await
}

#[tokio::test]
async fn everything_lives_in_the_schema_beside_an_application_with_the_same_tables() {
    let bench = Bench::with_database().await;
    let schema = bench.schema();
    let mut db = bench.db().await;
    db.run(APPLICATION).await;
    db.run(format!("CREATE SCHEMA {schema}")).await;
    let (_, name) = bench.database.url.expose().rsplit_once('/').unwrap();
    let path = "evil, public, pg_catalog";
    db.run(format!("ALTER DATABASE {name} SET search_path = {path}"))
        .await;
    let before = outside(&mut db, schema).await;

    let store = bench.open().await;
    store.take_over(TERMS).await.unwrap().unwrap();
    store.signing_key().await.unwrap();
    make_room(&store, "lobby").await;
    make_invite(&store, "lobby", 1).await;
    join(&store, guest(1, 1)).await;
    let ann = join(&store, user("lobby", "ann")).await;
    let now = store.clock().now();
    see(
        &store,
        &ann.participant,
        now,
        departed(&ann.participant, now),
    )
    .await
    .unwrap();
    make_room(&store, "gone").await;
    let far = format!("UPDATE {schema}.rooms SET last_active_at = '2001-01-01' WHERE id = 'gone'");
    db.run(far).await;
    let criteria = ReapCriteria::default();
    let keys = store
        .reap_candidates(criteria, RoomKey(0), 9)
        .await
        .unwrap();
    assert_eq!(store.reap(&keys, criteria, false).await.unwrap().len(), 1);
    for check in PostgresStore::verify(&bench.database).await {
        assert!(check.outcome.is_ok(), "{check:?}");
    }

    // Other software, with the application's own path: our functions and our trigger are not led astray.
    db.run(format!("SET search_path = {path}")).await;
    let people = format!("{schema}.participants");
    db.run(format!("UPDATE {people} SET last_seen_at = '2002-02-02'"))
        .await;
    db.run(format!("UPDATE {people} SET name = 'Ann'")).await;
    assert!(row(&store, &ann.participant).await.last_seen_at >= now);
    make_room(&store, "idle").await;
    db.run(format!(
        "UPDATE {schema}.rooms SET last_active_at = '2001-01-01' WHERE id = 'idle'"
    ))
    .await;
    let expiry = format!("SELECT expired, online FROM {schema}.check_room_expiry('idle')");
    assert_eq!(db.one(expiry).await, "t|0");
    let refusal = db
        .refused(&format!("SELECT {schema}.cleanup_inactive_rooms()"))
        .await;
    assert_eq!(refusal.code, "55000", "{refusal:?}");
    store.stop().await.unwrap();
    let clean = format!("SELECT * FROM {schema}.cleanup_inactive_rooms()");
    assert_eq!(db.table(clean).await, ["idle|0"]);

    db.run("SET search_path TO DEFAULT").await;
    assert_eq!(outside(&mut db, schema).await, before);
    let ours = format!(
        "SELECT count(*) FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'"
    );
    assert_eq!(db.one(ours).await, "8");
}

async fn open_many(bench: &Bench, many: usize) {
    let mut openers = JoinSet::new();
    for _ in 0..many {
        let database = bench.database.clone();
        openers.spawn(async move { PostgresStore::open(&database, Clock::system()).await });
    }
    while let Some(opened) = openers.join_next().await {
        let store = opened.unwrap().unwrap();
        store.counts().await.unwrap();
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_open_at_once_make_one_schema() {
    let bench = Bench::new();
    open_many(&bench, 6).await;
    let versions = "SELECT version, success FROM _sqlx_migrations ORDER BY version";
    assert_eq!(bench.db().await.table(versions).await, ["1|t", "2|t"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_open_at_once_through_a_pooler_make_one_schema() {
    let mut bench = Bench::new();
    let pooler = Pooler::start(&bench.cluster.url());
    let direct = bench.database.url.clone();
    bench.database.url = Secret::new(pooler.url());
    open_many(&bench, 6).await;
    // The same sessions again, now with something there, and with another schema.
    for _ in 0..4 {
        PostgresStore::migrate(&bench.database).await.unwrap();
    }
    let first = std::mem::replace(&mut bench.database.schema, unique("test"));
    open_many(&bench, 4).await;
    bench.database.url = direct;
    let versions = "SELECT version, success FROM _sqlx_migrations ORDER BY version";
    assert_eq!(bench.db().await.table(versions).await, ["1|t", "2|t"]);
    bench.database.schema = first;
    assert_eq!(bench.db().await.table(versions).await, ["1|t", "2|t"]);
}

/// Lets a role of its own in, which may what `rights` say, and nothing more.
async fn as_role(bench: &mut Bench, rights: impl Fn(&str) -> String) {
    let role = unique("role");
    let mut db = bench.db().await;
    db.run(format!("CREATE ROLE {role} LOGIN; {}", rights(&role)))
        .await;
    let url = bench.database.url.expose();
    bench.database.url = Secret::new(url.replace("rollcall@", &format!("{role}@")));
}

/// What a server does, and an operator in psql, as the same role.
async fn serves(bench: &Bench) {
    let store = bench.open().await;
    store.take_over(TERMS).await.unwrap().unwrap();
    store.signing_key().await.unwrap();
    make_room(&store, "r").await;
    make_invite(&store, "r", 1).await;
    let ann = join(&store, user("r", "ann")).await.participant;
    let now = store.clock().now();
    see(&store, &ann, now, departed(&ann, now)).await.unwrap();
    for check in PostgresStore::verify(&bench.database).await {
        assert!(check.outcome.is_ok(), "{check:?}");
    }
    store.stop().await.unwrap();
    let mut db = bench.db().await;
    db.run("UPDATE participants SET name = 'Ann'").await;
    db.run("UPDATE participants SET last_seen_at = '2001-01-01'; UPDATE rooms SET last_active_at = '2001-01-01'")
        .await;
    let clean = "SELECT * FROM cleanup_inactive_rooms()";
    assert_eq!(db.table(clean).await, ["r|1"]);
}

#[tokio::test]
async fn who_is_no_superuser_can_make_the_schema_and_serve() {
    let mut bench = Bench::with_database().await;
    let (_, database) = bench.database.url.expose().rsplit_once('/').unwrap();
    let grant = format!("GRANT CREATE ON DATABASE {database} TO");
    as_role(&mut bench, |role| format!("{grant} {role}")).await;
    serves(&bench).await;
}

#[tokio::test]
async fn who_may_use_the_schema_but_make_nothing_can_serve() {
    let mut bench = Bench::new();
    PostgresStore::migrate(&bench.database).await.unwrap();
    let schema = bench.schema().to_owned();
    as_role(&mut bench, |role| {
        format!(
            "GRANT USAGE ON SCHEMA {schema} TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        )
    })
    .await;
    serves(&bench).await;
    // What is not there it may not make, and is told so.
    bench.database.schema = unique("test");
    let error = PostgresStore::migrate(&bench.database).await.unwrap_err();
    assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let options = format!("TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'");
        let bench = Bench::with_database_as(&options).await;
        let error = PostgresStore::migrate(&bench.database).await.unwrap_err();
        assert!(format!("{error:?}").contains("UTF8"), "{error:?}");
        let schema = format!(
            "SELECT count(*) FROM pg_namespace WHERE nspname = '{}'",
            bench.schema()
        );
        assert_eq!(bench.db().await.one(schema).await, "0");
    }
}
