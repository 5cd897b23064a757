//! One row per rule.

use std::{io::Write, time::Duration};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    options: Options,
}

fn resolve(words: &str) -> Result<Config, ConfigErrors> {
    let words = std::iter::once("rollcall").chain(words.split(' ').filter(|word| !word.is_empty()));
    Words::try_parse_from(words).unwrap().options.resolve()
}

fn config(words: &str) -> Config {
    resolve(words).unwrap_or_else(|mistakes| panic!("{words}: {mistakes}"))
}

#[test]
fn no_options_give_the_default() {
    assert_eq!(
        format!("{:?}", config("")),
        format!("{:?}", Config::default_dev())
    );
    assert!(config("").dev_mode());
    assert_eq!(config("").min_idle_timeout(), Duration::from_secs(55));
}

#[test]
fn every_rule_has_a_sentence() {
    let rows = [
        (
            "--listen localhost",
            "--listen (localhost) must be an address and a port",
        ),
        (
            "--listen 0.0.0.0:80",
            "--listen (0.0.0.0:80) can be reached from other machines and needs an API key: set --api-key",
        ),
        ("--listen [::]:80", "needs an API key"),
        (
            "--database-url postgres://",
            "--database-url (postgres) must name a server",
        ),
        (
            "--database-url mysql://u:secret@h/d",
            "--database-url (mysql) must begin with sqlite: or postgres:",
        ),
        ("--database-url sqlite://", "must name a file"),
        (
            "--database-url=",
            "--database-url (empty) must begin with sqlite:",
        ),
        (
            "--database-url postgres://h/d?pasword=hunter2",
            "--database-url (pasword) has a parameter that is not known",
        ),
        (
            "--database-schema mine",
            "--database-schema (with SQLite) is for PostgreSQL",
        ),
        (
            "--database-url postgres://h/d --database-schema Mine",
            "--database-schema (Mine) must be a plain name",
        ),
        (
            "--database-url postgres://h/d --database-schema pg_mine",
            "must be a plain name",
        ),
        (
            "--database-url postgres://h/d --database-connections 4",
            "--database-connections (4) must be a number from 5",
        ),
        (
            "--database-url postgres://h/d --database-password secret --database-password-file /nowhere",
            "--database-password-file (/nowhere) cannot be used together",
        ),
        (
            "--heartbeat-interval soon",
            "--heartbeat-interval (soon) must be a duration such as",
        ),
        (
            "--heartbeat-interval 0s",
            "--heartbeat-interval (0s) must be from 1ms to 1h",
        ),
        (
            "--heartbeat-interval 1500us",
            "--heartbeat-interval (1500us) must be whole milliseconds",
        ),
        (
            "--heartbeat-timeout 40s",
            "--heartbeat-timeout (40s) must be at least 1.5 × --heartbeat-interval (30s), that is 45s",
        ),
        (
            "--flush-interval 0s",
            "--flush-interval (0s) must be from 1ms to 1h",
        ),
        (
            "--flush-interval 30m",
            "--room-idle-timeout (1h) must be at least 1.5 × --heartbeat-interval (30s) + 2 × --flush-interval (30m), that is 1h 45s",
        ),
        ("--room-idle-timeout 54s", "that is 55s"),
        (
            "--room-idle-timeout 11years",
            "--room-idle-timeout (11years) must be from 1ms to",
        ),
        ("--room-max-age 0s", "--room-max-age (0s) must be from 1ms"),
        (
            "--reconnect-grace 2h",
            "--reconnect-grace (2h) must be from 0s to 1h",
        ),
        (
            "--restart-grace 2h",
            "--restart-grace (2h) must be from 0s to 1h",
        ),
        (
            "--drain-timeout 2h",
            "--drain-timeout (2h) must be from 0s to 1h",
        ),
        (
            "--reap-interval 0s",
            "--reap-interval (0s) must be from 1ms to 7days",
        ),
        ("--reap-min-age 0s", "--reap-min-age (0s) must be from 1ms"),
        (
            "--reap-below-participants 0",
            "--reap-below-participants (0) must be a number from 1 to",
        ),
        (
            "--expiry-warning 2days",
            "--expiry-warning (2days) must be from 0s to 1day",
        ),
        (
            "--expiry-warning 2h --room-max-age 2h",
            "--expiry-warning (2h) must be shorter than --room-max-age (2h)",
        ),
        (
            "--api-key short",
            "--api-key (5 characters) must be at least 16 characters",
        ),
        (
            "--api-key 0123456789abcdef,",
            "--api-key (empty) must not be empty",
        ),
        (
            "--api-key 0123456789abcdéf",
            "--api-key (characters outside ASCII, or blanks) must be ASCII",
        ),
        (
            "--api-key-file /nonexistent/keys",
            "--api-key-file (/nonexistent/keys) cannot be read:",
        ),
        (
            "--api-key-file /dev/null",
            "--api-key-file (/dev/null) must hold at least one key",
        ),
        (
            "--last-seen-precision 500ms",
            "--last-seen-precision (500ms) must be from 1s to 1day",
        ),
        (
            "--last-seen-precision 2days",
            "--last-seen-precision (2days) must be from 1s to 1day",
        ),
        (
            "--departed-retention 0s",
            "--departed-retention (0s) must be from 1s to",
        ),
        (
            "--jwt-secret hunter2",
            "--jwt-secret (7 bytes) must be at least 32 bytes",
        ),
        (
            "--jwt-secret-file /nonexistent/secret",
            "--jwt-secret-file (/nonexistent/secret) cannot be read:",
        ),
        (
            "--jwt-secret 0123456789abcdef0123456789abcdef --jwt-secret-file /dev/null",
            "--jwt-secret-file (/dev/null) cannot be used together with --jwt-secret",
        ),
        (
            "--jwt-secret=-----BEGIN_PUBLIC_KEY-----",
            "--jwt-secret (a key in PEM) must be a secret; give a public key with --jwt-public-key",
        ),
        (
            "--jwt-public-key /nonexistent/key.pem",
            "--jwt-public-key (/nonexistent/key.pem) cannot be read:",
        ),
        (
            "--jwt-public-key /dev/null",
            "--jwt-public-key (/dev/null) must hold a public key in PEM",
        ),
        (
            "--jwks http://login.example/jwks.json",
            "--jwks (http://login.example/jwks.json) must begin with https://",
        ),
        (
            "--jwks http://127.0.0.1.login.example/jwks.json",
            "must begin with https://",
        ),
        (
            "--jwks ftp://login.example/jwks.json",
            "--jwks (ftp://login.example/jwks.json) must be a path, or an address",
        ),
        ("--jwks https://", "must be a path, or an address"),
        (
            "--jwks https://me:secret@login.example/jwks.json",
            "--jwks (an address with a user name) must not hold a user name or password",
        ),
        (
            "--jwks /nonexistent/jwks.json",
            "--jwks (/nonexistent/jwks.json) must be a JWKS: the file cannot be read",
        ),
        (
            "--jwks /dev/null",
            "--jwks (/dev/null) must be a JWKS: the document is not a JWKS",
        ),
        ("--jwks=", "--jwks (empty) must not be empty"),
        (
            "--jwks-refresh-interval 9s",
            "--jwks-refresh-interval (9s) must be from 10s to 1day",
        ),
        ("--jwt-leeway 6m", "--jwt-leeway (6m) must be from 0s to 5m"),
        (
            "--jwt-issuer us",
            "--jwt-issuer (us) checks nothing without --jwt-secret",
        ),
        (
            "--jwt-audience them",
            "--jwt-audience (them) checks nothing without --jwt-secret",
        ),
        (
            "--allowed-origin *",
            "--allowed-origin (*) must name the origins",
        ),
        (
            "--allowed-origin app.example",
            "--allowed-origin (app.example) must be an origin, scheme://host[:port]",
        ),
        (
            "--allowed-origin https://app.example/",
            "must be an origin, which has no path",
        ),
        (
            "--allowed-origin https://*.example",
            "must have at least two labels after `*.`",
        ),
        (
            "--allowed-origin https://a*.app.example",
            "must have a host name or address after ://",
        ),
        (
            "--allowed-origin https://app.example:0",
            "must have a port from 1 to 65535",
        ),
        (
            "--allowed-origin https://[::1]x",
            "must have a port from 1 to 65535",
        ),
        (
            "--allowed-origin https://me:secret@app.example",
            "--allowed-origin (an address with a user name) must not hold a user name",
        ),
        (
            "--trusted-proxy proxy.example",
            "--trusted-proxy (proxy.example) must be an IP address such as 10.0.0.2, or a network",
        ),
        (
            "--public-url ftp://app.example",
            "--public-url (ftp://app.example) must be an http:// or https:// address",
        ),
        (
            "--public-url https://app.example/?a=b",
            "must be an address without query, fragment or blanks",
        ),
        (
            "--invite-url /r?invite={token}",
            "--invite-url (/r?invite={token}) must be a whole address",
        ),
        (
            "--invite-url https://app.example/r",
            "--invite-url (https://app.example/r) must hold {token} or {invite}",
        ),
        (
            "--log-format xml",
            "--log-format (xml) must be text or json",
        ),
        ("--log a=b=c", "--log (a=b=c) must be a filter such as"),
        (
            "--max-connections 0",
            "--max-connections (0) must be a number from 1 to",
        ),
        (
            "--connections-per-participant many",
            "--connections-per-participant (many) must be a number from 1 to 10000",
        ),
        (
            "--message-bytes 16KB",
            "--message-bytes (16KB) must be a size such as 4096, 16KiB or 1MiB",
        ),
        ("--message-bytes 2MiB", "from 512 to 1048576 bytes"),
        ("--state-bytes 1", "--state-bytes (1) must be a size"),
        (
            "--state-bytes 32KiB",
            "--state-bytes (32768) must be at most --message-bytes (16384)",
        ),
        ("--metadata-bytes 0", "--metadata-bytes (0) must be a size"),
        (
            "--messages-per-second 0",
            "--messages-per-second (0) must be a number from 1",
        ),
        (
            "--message-burst 20",
            "--message-burst (20) must be at least --messages-per-second (30)",
        ),
        (
            "--fanout-frames-per-second 0",
            "--fanout-frames-per-second (0) must be a number from 1",
        ),
        (
            "--fanout-bytes-per-second 0",
            "--fanout-bytes-per-second (0) must be a size",
        ),
        (
            "--roster-limit 0",
            "--roster-limit (0) must be a number from 1",
        ),
        (
            "--handshakes-per-second 0",
            "--handshakes-per-second (0) must be a number from 1",
        ),
        (
            "--trusted-proxy 0.0.0.0/0",
            "--trusted-proxy (0.0.0.0/0) must be your proxies only",
        ),
        (
            "--forwarded-header via",
            "--forwarded-header (via) must be x-forwarded-for or forwarded",
        ),
        (
            "--tls-cert cert.pem",
            "--tls-cert (cert.pem) needs --tls-key too",
        ),
        (
            "--tls-key key.pem",
            "--tls-key (key.pem) needs --tls-cert too",
        ),
        (
            "--tls-cert /nowhere/cert.pem --tls-key /nowhere/key.pem",
            "--tls-cert (/nowhere/cert.pem) must be a readable PEM file with a certificate",
        ),
        (
            "--tls-cert /dev/null --tls-key /dev/null",
            "--tls-cert (/dev/null) must be a readable PEM file with a certificate",
        ),
        (
            "--room-max-participants 0",
            "--room-max-participants (0) must be a number from 1",
        ),
        (
            "--connections-per-address 0",
            "--connections-per-address (0) must be a number from 1",
        ),
        (
            "--bytes-per-second 8KiB",
            "--bytes-per-second (8192) must be at least --message-bytes (16384)",
        ),
        (
            "--total-handshakes-per-second 0",
            "--total-handshakes-per-second (0) must be a number from 1",
        ),
        (
            "--failed-credentials-per-minute 0",
            "--failed-credentials-per-minute (0) must be a number from 1",
        ),
        (
            "--handshake-timeout 2m",
            "--handshake-timeout (2m) must be from 10ms to 1m",
        ),
        ("--max-rooms 0", "--max-rooms (0) must be a number from 1"),
        (
            "--connection-threads 0",
            "--connection-threads (0) must be a number from 1 to 1024",
        ),
        ("--join-queue 0", "--join-queue (0) must be a number from 1"),
    ];
    for (words, sentence) in rows {
        let mistakes = resolve(words).expect_err(words);
        assert!(
            mistakes.to_string().contains(sentence),
            "{words}: {mistakes}"
        );
        assert_eq!(mistakes.0.len(), 1, "{words}: {mistakes}");
        assert!(
            !mistakes.to_string().contains("secret@"),
            "{words}: {mistakes}"
        );
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let mistakes = resolve(
        "--listen here --flush-interval 0s --heartbeat-timeout 31s --api-key x --log-format xml",
    )
    .unwrap_err();
    let mut options: Vec<_> = mistakes.0.iter().map(|mistake| mistake.option).collect();
    options.sort_unstable();
    assert_eq!(
        options,
        [
            "--api-key",
            "--flush-interval",
            "--heartbeat-timeout",
            "--listen",
            "--log-format"
        ]
    );
    assert_eq!(mistakes.to_string().lines().count(), 5);
}

#[test]
fn words_become_values() {
    let config = config(
        "--listen [::]:9000 --api-key 0123456789abcdef,fedcba9876543210 --api-key aaaaaaaaaaaaaaaa --reconnect-grace 0s \
         --room-max-age 2h30m --reap-below-participants 3 --reap-min-age none --trusted-proxy ::ffff:10.0.0.1,::1,192.0.2.0/24 \
         --public-url HTTPS://App.Example:443/presence/ --invite-url myapp://join?i={invite} --log-format json \
         --message-bytes 64KiB --fanout-bytes-per-second 1_000_000 --handshakes-per-second none --max-connections 20000",
    );
    assert_eq!(config.api_keys.len(), 3);
    assert_eq!(config.api_keys[2].expose(), "aaaaaaaaaaaaaaaa");
    assert!(!config.dev_mode());
    assert_eq!(config.reconnect_grace, Duration::ZERO);
    assert_eq!(config.room_max_age, Some(Duration::from_secs(9_000)));
    assert_eq!(
        (config.reap_below_participants, config.reap_min_age),
        (Some(3), None)
    );
    assert_eq!(
        config.trusted_proxies,
        ["10.0.0.1/32", "::1/128", "192.0.2.0/24"].map(|net| net.parse::<IpNet>().unwrap())
    );
    assert_eq!(
        config.public_url.as_deref(),
        Some("https://app.example/presence")
    );
    assert_eq!(
        config.invite_url.as_deref(),
        Some("myapp://join?i={invite}")
    );
    assert_eq!(config.log_format, Some(LogFormat::Json));
    assert_eq!(
        (
            config.limits.message_bytes,
            config.limits.fanout_bytes_per_second
        ),
        (65_536, 1_000_000)
    );
    assert_eq!(
        (
            config.limits.handshakes_per_second,
            config.limits.max_connections
        ),
        (None, Some(20_000))
    );
}

#[test]
fn last_seen_is_exact_and_kept_unless_told_otherwise() {
    let rows = [
        ("", Precision::EXACT, None),
        (
            "--last-seen-precision none --departed-retention none",
            Precision::EXACT,
            None,
        ),
        (
            "--last-seen-precision 5m --departed-retention 30days",
            Precision::to(Duration::from_secs(300)),
            Some(Duration::from_secs(30 * 86_400)),
        ),
    ];
    for (words, precision, retention) in rows {
        let config = config(words);
        assert_eq!(config.last_seen_precision, precision, "{words}");
        assert_eq!(config.departed_retention, retention, "{words}");
        let silence = config.node_terms().seat_silence();
        assert!(silence >= config.heartbeat_timeout + precision.step());
    }
}

#[test]
fn origins_are_kept_as_browsers_write_them() {
    let rows = [
        ("https://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://*.App.example:8443", "https://*.app.example:8443"),
        ("capacitor://localhost", "capacitor://localhost"),
    ];
    for (got, kept) in rows {
        assert_eq!(
            config(&format!("--allowed-origin {got}")).allowed_origins,
            [kept],
            "{got}"
        );
    }
}

#[test]
fn an_empty_public_host_is_refused() {
    assert!(resolve("--public-url https://").is_err());
}

#[test]
fn a_default_warning_may_be_longer_than_the_maximum_age() {
    assert_eq!(
        config("--room-max-age 2m").expiry_warning,
        Duration::from_secs(300)
    );
}

#[test]
fn files_hold_secrets() {
    let mut keys = tempfile::NamedTempFile::new().unwrap();
    writeln!(keys, "0123456789abcdef\n\n  fedcba9876543210  ").unwrap();
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    writeln!(secret, "0123456789abcdef0123456789abcdef").unwrap();
    let config = config(&format!(
        "--listen 0.0.0.0:80 --api-key-file {} --jwt-secret-file {} --jwt-issuer us",
        keys.path().display(),
        secret.path().display()
    ));
    assert_eq!(
        config.api_keys,
        ["0123456789abcdef", "fedcba9876543210"].map(Secret::new)
    );
    assert_eq!(
        config.jwt_secret,
        Some(Secret::new("0123456789abcdef0123456789abcdef"))
    );
}

#[test]
fn keys_of_others_come_from_here_or_over_tls() {
    let urls = [
        "https://login.example/.well-known/jwks.json",
        "HTTPS://login.example:8443/jwks?tenant=1",
        "http://localhost:8080/jwks.json",
        "http://127.0.0.2/jwks.json",
        "http://[::1]:8080/jwks.json",
    ];
    for url in urls {
        let config = config(&format!("--jwks {url} --jwt-audience us"));
        assert_eq!(config.jwks, Some(JwksSource::Url(url.to_owned())));
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, r#"{{"keys":[]}}"#).unwrap();
    let path = file.path();
    let config = config(&format!("--jwks {} --jwt-leeway 5s", path.display()));
    assert_eq!(config.jwks, Some(JwksSource::File(path.to_owned())));
    assert_eq!(config.jwt_leeway, Duration::from_secs(5));
}

#[test]
fn debug_hides_secrets() {
    let config = config("--api-key 0123456789abcdef --jwt-secret fedcba9876543210fedcba9876543210");
    let debug = format!("{config:?}");
    assert!(debug.contains("Secret(…)"), "{debug}");
    assert!(
        !debug.contains("0123456789abcdef") && !debug.contains("fedcba9876543210"),
        "{debug}"
    );
}
