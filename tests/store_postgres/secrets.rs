//! A password reaches the database and nothing that people read.

use std::{error::Error, fmt::Write, fs, path::Path, process::Command, time::Duration};

use rollcall::{
    clock::Clock,
    config::{Config, Database, Secret},
    store::postgres::PostgresStore,
};
use rollcall_test_cluster::Cluster;
use tempfile::TempDir;

use crate::bench::Db;

const RIGHT: &str = "tr0ub4dor";
const WRONG: &str = "c0rrecth0rse";

/// A server that lets `ann` in by her password only.
struct Guarded {
    cluster: Cluster,
    dir: TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let hba = dir.path().join("hba.conf");
        let rules =
            "host all rollcall 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(&hba, rules).unwrap();
        let cluster = Cluster::start_with(&[("hba_file", hba.to_str().unwrap())]);
        let mut db = Db::connect(&cluster.url()).await;
        db.run(format!(
            "CREATE ROLE ann LOGIN PASSWORD '{RIGHT}'; GRANT CREATE ON DATABASE rollcall TO ann"
        ))
        .await;
        Self { cluster, dir }
    }

    fn url(&self, user: &str) -> String {
        format!(
            "postgres://{user}@127.0.0.1:{}/rollcall",
            self.cluster.port()
        )
    }

    fn database(&self, user: &str) -> Database {
        let mut database = Database::at(self.url(user));
        database.wait = Duration::ZERO;
        database
    }
}

/// All that could be said of an attempt to open it.
async fn said(database: &Database) -> (bool, String) {
    let opened = PostgresStore::open(database, Clock::system()).await;
    let mut config = Config::default_dev();
    config.database = database.clone();
    let mut said = format!("{database:?} {config:?} {opened:?}");
    let mut cause = opened.as_ref().err().map(|error| error as &dyn Error);
    while let Some(error) = cause {
        write!(said, " {error}").unwrap();
        cause = error.source();
    }
    for check in PostgresStore::verify(database).await {
        write!(said, " {check:?}").unwrap();
    }
    (opened.is_ok(), said)
}

#[tokio::test]
async fn the_password_is_used_and_not_shown() {
    let guarded = Guarded::start().await;
    let mut by_option = guarded.database("ann");
    by_option.password = Some(Secret::new(RIGHT));
    let mut instead = guarded.database(&format!("ann:{WRONG}"));
    instead.password = Some(Secret::new(RIGHT));
    let mut wrong = guarded.database("ann");
    wrong.password = Some(Secret::new(WRONG));
    let mut elsewhere = Database::at(format!("postgres://ann:{RIGHT}@127.0.0.1:1/rollcall"));
    elsewhere.wait = Duration::ZERO;
    let malformed = [
        format!("postgres://ann:{RIGHT}@127.0.0.1:port/rollcall"),
        format!("postgres://ann:{RIGHT}@[::1/rollcall"),
        format!("postgres://ann:%ff{RIGHT}@127.0.0.1/rollcall"),
        format!("postgres://127.0.0.1/rollcall?sslmode={RIGHT}"),
        format!("postgres://127.0.0.1/rollcall?port={RIGHT}"),
    ];
    let mut cases = vec![
        (guarded.database(&format!("ann:{RIGHT}")), Ok("connect")),
        (by_option, Ok("connect")),
        (instead, Ok("connect")),
        (
            guarded.database(&format!("ann:{WRONG}")),
            Err("password authentication failed"),
        ),
        (wrong, Err("password authentication failed")),
        (elsewhere, Err("refused")),
    ];
    cases.extend(malformed.map(|url| {
        (
            Database::at(url),
            Err("the database URL is no PostgreSQL address"),
        )
    }));
    for (n, (database, expected)) in cases.iter().enumerate() {
        let (is_open, said) = said(database).await;
        assert!(
            !said.contains(RIGHT) && !said.contains(WRONG),
            "{n}: {said}"
        );
        assert_eq!(is_open, expected.is_ok(), "{n}: {said}");
        let (Ok(word) | Err(word)) = *expected;
        assert!(said.contains(word), "{n}: {said}");
    }
}

/// The program itself: exit code, and everything it wrote.
fn run(dir: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .current_dir(dir)
        .args(words)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn the_program_takes_the_password_from_a_file_and_says_nothing_of_it() {
    let guarded = Guarded::start().await;
    let dir = guarded.dir.path();
    let url = guarded.url("ann");
    fs::write(dir.join("right"), format!("{RIGHT}\n")).unwrap();
    fs::write(dir.join("wrong"), WRONG).unwrap();
    let with_password = guarded.url(&format!("ann:{WRONG}"));
    let cases: [(&[&str], bool); 6] = [
        (
            &[
                "migrate",
                "--database-url",
                &url,
                "--database-password-file",
                "right",
            ],
            true,
        ),
        (
            &[
                "verify",
                "--database-url",
                &url,
                "--database-password-file",
                "right",
            ],
            true,
        ),
        (
            &[
                "verify",
                "--database-url",
                &url,
                "--database-password-file",
                "wrong",
            ],
            false,
        ),
        (&["verify", "--database-url", &with_password], false),
        (
            &[
                "serve",
                "--database-url",
                &with_password,
                "--database-wait",
                "0s",
            ],
            false,
        ),
        (
            &[
                "migrate",
                "--database-url",
                &with_password.replace("127", "[127"),
            ],
            false,
        ),
    ];
    for (words, is_well) in cases {
        let (succeeded, text) = run(dir, words);
        assert!(
            !text.contains(RIGHT) && !text.contains(WRONG),
            "{words:?}: {text}"
        );
        assert_eq!(succeeded, is_well, "{words:?}: {text}");
    }
}
