//! What the words mean, and what is made of a server's answers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread,
};

use clap::CommandFactory;

use super::*;

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("rollcall")
        .chain(line.split_whitespace())
        .map(OsString::from)
        .collect()
}

fn remote(line: &str) -> Remote {
    match parse(words(line)) {
        Ok(Command::Remote(remote)) => remote,
        other => panic!("{line}: {other:?}"),
    }
}

/// Answers each request with the next of `answers`; gives back what was asked.
fn server(answers: &'static [(u16, &'static str)]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut request = String::new();
            while reader.read_line(&mut request).unwrap() > 2 {}
            let lower = request.to_lowercase();
            let length = lower
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            let mut sent = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut sent).unwrap();
            let key = lower.contains("authorization: bearer 0123456789abcdef\r\n");
            let first = request
                .lines()
                .next()
                .unwrap()
                .trim_end_matches(" HTTP/1.1");
            asked.push(format!(
                "{first} {} key={key}",
                String::from_utf8(sent).unwrap()
            ));
            let length = body.len();
            write!(
                socket,
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
        asked
    });
    (address, serving)
}

fn ask(
    line: &str,
    answers: &'static [(u16, &'static str)],
) -> (Result<String, Failure>, Vec<String>) {
    let (address, serving) = server(answers);
    let mut out = Vec::new();
    let outcome = remote(&format!(
        "{line} --server {address} --api-key 0123456789abcdef"
    ))
    .run(&mut out);
    (
        outcome.map(|()| String::from_utf8(out).unwrap()),
        serving.join().unwrap(),
    )
}

#[test]
fn the_declaration_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn serve_is_what_no_command_means() {
    for line in ["--listen 127.0.0.1:9", "serve --listen 127.0.0.1:9"] {
        let Ok(Command::Serve(options)) = parse(words(line)) else {
            panic!("{line}")
        };
        assert_eq!(options.listen, "127.0.0.1:9", "{line}");
    }
    assert!(matches!(parse(words("")), Ok(Command::Serve(_))));
}

#[test]
fn mistakes_and_help_have_their_codes() {
    let rows = [
        ("--help", ExitCode::SUCCESS),
        ("--version", ExitCode::SUCCESS),
        ("--nonsense", USAGE.into()),
        ("room show", USAGE.into()),
    ];
    for (line, code) in rows {
        assert_eq!(parse(words(line)).unwrap_err(), code, "{line}");
    }
    assert_eq!(finish(Err(Failure::Usage(String::new()))), USAGE.into());
    assert_eq!(finish(Err(Failure::Unfit)), ExitCode::FAILURE);
    assert_eq!(
        finish(Err(io::Error::from(io::ErrorKind::BrokenPipe).into())),
        ExitCode::SUCCESS
    );
}

#[test]
fn commands_become_calls() {
    const OK: &[(u16, &str)] = &[(200, "{}")];
    let rows = [
        ("reap --dry-run", r#"POST /v1/admin/reap {"dry_run":true}"#),
        ("stats", "GET /v1/admin/stats "),
        ("room create", "POST /v1/rooms {}"),
        (
            "room create a --idle-timeout never --keep --max-participants 3 --max-age 2h --metadata {\"a\":1}",
            r#"POST /v1/rooms {"id":"a","idle_timeout_seconds":null,"max_age_seconds":7200,"max_participants":3,"metadata":{"a":1},"on_idle":"keep"}"#,
        ),
        ("room close a|b", "DELETE /v1/rooms/a%7Cb "),
        (
            "invite create a --expires-in 1day --max-uses 2",
            r#"POST /v1/rooms/a/invites {"expires_in_seconds":86400,"max_uses":2}"#,
        ),
        ("invite revoke i", "DELETE /v1/invites/i "),
        (
            "token mint a --sub me --name Me --ttl 5m",
            r#"POST /v1/rooms/a/tokens {"name":"Me","sub":"me","ttl_seconds":300}"#,
        ),
        (
            "token check x.y --room a",
            "GET /v1/connect?token=x.y&room=a ",
        ),
    ];
    for (line, call) in rows {
        let (outcome, asked) = ask(line, OK);
        assert!(outcome.is_ok(), "{line}: {outcome:?}");
        assert_eq!(asked, [format!("{call} key=true")], "{line}");
    }
}

#[test]
fn lists_follow_their_cursor() {
    const PAGES: &[(u16, &str)] = &[
        (
            200,
            r#"{"items":[{"id":"a","online":12}],"next_cursor":"a b"}"#,
        ),
        (
            200,
            r#"{"items":[{"id":"longer","online":3}],"next_cursor":null}"#,
        ),
    ];
    let (outcome, asked) = ask("room list", PAGES);
    assert_eq!(outcome.unwrap(), "ID      ONLINE\na       12\nlonger  3\n");
    assert_eq!(asked[1], "GET /v1/rooms?limit=1000&cursor=a%20b  key=true");
    let (outcome, _) = ask("room list --json", PAGES);
    assert_eq!(
        outcome.unwrap(),
        "{\"items\":[{\"id\":\"a\",\"online\":12},{\"id\":\"longer\",\"online\":3}],\"next_cursor\":null}\n"
    );
}

#[test]
fn a_room_is_shown_with_its_people() {
    const ROOM: &[(u16, &str)] = &[
        (200, r#"{"id":"a","online":1,"metadata":{"k":1}}"#),
        (
            200,
            r#"{"seq":1,"occupancy":1,"items":[{"id":"p","name":"A\u001b[2J","connections":2}],"next_cursor":null}"#,
        ),
    ];
    let (outcome, _) = ask("room show a", ROOM);
    let shown = outcome.unwrap();
    assert!(
        shown.contains("metadata  {\"k\":1}\n") && shown.contains("ID  NAME"),
        "{shown}"
    );
    assert!(
        !shown.contains('\u{1b}'),
        "a name must not rewrite the terminal"
    );
}

#[test]
fn refusals_are_sentences() {
    let (outcome, _) = ask(
        "room close a",
        &[(
            404,
            r#"{"code":"room_not_found","detail":"Room not found or inactive."}"#,
        )],
    );
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "Room not found or inactive. (room_not_found)"
    );
    let (outcome, _) = ask("stats", &[(502, "<html>")]);
    assert!(
        outcome
            .unwrap_err()
            .to_string()
            .contains("answered 502 without JSON")
    );
}

#[test]
fn an_absent_server_is_named_with_the_remedy() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let failure = remote(&format!("stats --server http://{free}"))
        .run(&mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains(&format!("cannot reach the server at http://{free}")),
        "{failure}"
    );
    assert!(
        failure.contains("Set --server or ROLLCALL_SERVER"),
        "{failure}"
    );
    let failure = remote("stats --server localhost:8080")
        .run(&mut Vec::new())
        .unwrap_err();
    assert_eq!(finish(Err(failure)), USAGE.into());
}
