//! Private servers live, crash, freeze and end as told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rollcall_test_cluster::{Cluster, Pooler, SHARED_URL_VARIABLE, shared};

#[test]
fn a_server_answers() {
    let cluster = Cluster::start();
    assert_eq!(
        cluster.psql("SELECT current_database(), current_user"),
        "rollcall|rollcall"
    );
    assert_eq!(cluster.psql("SHOW server_encoding"), "UTF8");
    assert_eq!(cluster.psql("SHOW synchronous_commit"), "on");
    assert_eq!(cluster.psql("SHOW port"), cluster.port().to_string());
}

#[test]
fn settings_win_over_the_defaults() {
    let cluster = Cluster::start_with(&[("fsync", "on"), ("log_line_prefix", "it's ")]);
    assert_eq!(cluster.psql("SHOW fsync"), "on");
    assert_eq!(cluster.psql("SHOW log_line_prefix"), "it's");
    assert_eq!(cluster.psql("SHOW full_page_writes"), "off");
}

#[test]
#[should_panic(expected = "unrecognized configuration parameter")]
fn a_wrong_setting_shows_the_log() {
    Cluster::start_with(&[("colour", "red")]);
}

#[test]
#[should_panic(expected = "relation \"nowhere\" does not exist")]
fn a_failing_statement_shows_its_message() {
    Cluster::start().psql("SELECT * FROM nowhere");
}

#[test]
fn a_script_takes_variables() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.sql");
    fs::write(&script, "SELECT :'name';\nSELECT :number + 1;\n").unwrap();
    let answer = cluster.psql_file(&script, &[("name", "it's"), ("number", "41")]);
    assert_eq!(answer, "it's\n42");
}

#[test]
fn committed_data_survive_a_crash() {
    let cluster = Cluster::start();
    cluster.psql("CREATE TABLE kept AS SELECT 1 AS n");
    let processes = processes_of(&data_folder(&cluster.url()));
    assert_eq!(processes.len(), 1, "the children carry titles instead");

    cluster.kill();
    assert!(!answers(&cluster.url()));

    cluster.restart();
    assert_eq!(cluster.psql("SELECT n FROM kept"), "1");
}

#[test]
fn a_stopped_server_starts_again() {
    let cluster = Cluster::start();
    let url = cluster.url();
    cluster.psql("CREATE TABLE kept AS SELECT 1 AS n");
    for _ in 0..3 {
        cluster.stop();
        assert!(!answers(&url));
        cluster.restart();
        assert_eq!(cluster.psql("SELECT n FROM kept"), "1");
    }
    assert_eq!(cluster.url(), url);
}

#[test]
fn a_frozen_server_answers_after_the_thaw() {
    let cluster = Cluster::start();
    cluster.freeze();
    let refusal = psql(&cluster.url())
        .env("PGCONNECT_TIMEOUT", "2")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refusal.stderr).contains("timeout expired"));

    let patient = psql(&cluster.url()).stdout(Stdio::piped()).spawn().unwrap();
    cluster.thaw();
    assert_eq!(patient.wait_with_output().unwrap().stdout, b"1\n");
}

#[test]
fn a_frozen_server_can_crash() {
    let cluster = Cluster::start();
    cluster.freeze();
    cluster.kill();
    cluster.restart();
    assert!(answers(&cluster.url()));
}

#[test]
fn a_pooler_answers_and_is_strict() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster.url());
    assert_ne!(pooler.url(), cluster.url());
    assert!(answers(&pooler.url()));

    let refusal = psql(&pooler.url())
        .env("PGOPTIONS", "-c search_path=elsewhere")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&refusal.stderr).contains("unsupported startup parameter: options")
    );

    drop(pooler);
    assert!(answers(&cluster.url()));
}

#[test]
fn those_who_share_get_one_server() {
    let (first, second) = (shared(), thread::spawn(shared).join().unwrap());
    assert_eq!(first.url(), second.url());
    assert_eq!(first.psql("SELECT 1"), "1");
}

#[test]
fn dropping_leaves_nothing() {
    for disturb in [|_: &Cluster| {}, Cluster::freeze, Cluster::kill] {
        let cluster = Cluster::start();
        let data = data_folder(&cluster.url());
        disturb(&cluster);
        drop(cluster);
        assert_gone(&data);
    }
}

#[test]
fn a_panic_leaves_nothing() {
    let (send, receive) = std::sync::mpsc::channel();
    let test = thread::spawn(move || {
        let cluster = Cluster::start();
        send.send(data_folder(&cluster.url())).unwrap();
        panic!("on purpose");
    });
    assert!(test.join().is_err());
    assert_gone(&receive.recv().unwrap());
}

#[test]
fn a_killed_owner_leaves_nothing() {
    let mut owner = with_postgres(&format!(
        r#"psql -XAtc "SHOW data_directory" "${SHARED_URL_VARIABLE}"; read -r _"#
    ))
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut data = String::new();
    BufReader::new(owner.stdout.take().unwrap())
        .read_line(&mut data)
        .unwrap();
    let data = data.trim_end();
    assert_eq!(processes_of(data).len(), 1);

    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually(|| processes_of(data).is_empty() && !Path::new(data).exists());
}

#[test]
fn the_exit_code_is_the_commands() {
    assert_eq!(with_postgres("exit 3").status().unwrap().code(), Some(3));
    assert_eq!(
        with_postgres("kill -KILL $$").status().unwrap().code(),
        Some(128 + 9)
    );
}

fn with_postgres(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall-with-postgres"));
    command.args(["sh", "-c", script]);
    command
}

fn answers(url: &str) -> bool {
    psql(url).output().unwrap().stdout == b"1\n"
}

fn psql(url: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-XAt", "-c", "SELECT 1", "-d", url]);
    command
}

fn data_folder(url: &str) -> String {
    let output = psql(url).args(["-c", "SHOW data_directory"]).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    output.lines().last().unwrap().to_owned()
}

fn assert_gone(data: &str) {
    assert_eq!(processes_of(data), Vec::<String>::new());
    assert!(!Path::new(data).exists(), "{data} is still there");
}

/// The command lines that mention `data`.
fn processes_of(data: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("cmdline")).ok())
        .filter(|line| line.contains(data))
        .collect()
}

/// Within a time that only something broken takes.
fn eventually(mut holds: impl FnMut() -> bool) {
    let held = (0..3000).any(|_| {
        holds() || {
            thread::sleep(Duration::from_millis(10));
            false
        }
    });
    assert!(held);
}
