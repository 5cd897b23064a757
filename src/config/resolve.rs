//! The rules that turn [`Options`] into a [`Config`]: what each word must be, then what they say together.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::{
    Config, ConfigErrors, LogFormat, Options, Secret, limits,
    mistakes::Mistakes,
    origin,
    parse::{api_keys_in, human, shown},
};
use crate::{
    admission::{JwksSource, VerifyingKey},
    doors::ForwardedHeader,
    store::Precision,
    telemetry::chain,
    tls::{TlsError, TlsFiles},
};

impl Options {
    /// Reads every option and checks what they say together.
    ///
    /// # Errors
    ///
    /// All mistakes, not only the first.
    pub fn resolve(&self) -> Result<Config, ConfigErrors> {
        let mut mistakes = Mistakes::default();
        let config = Config {
            heartbeat_interval: mistakes.duration(
                "--heartbeat-interval",
                &self.heartbeat_interval,
                MILLISECOND..=HOUR,
            ),
            heartbeat_timeout: mistakes.duration(
                "--heartbeat-timeout",
                &self.heartbeat_timeout,
                MILLISECOND..=DAY,
            ),
            flush_interval: mistakes.duration(
                "--flush-interval",
                &self.flush_interval,
                MILLISECOND..=HOUR,
            ),
            reconnect_grace: mistakes.duration(
                "--reconnect-grace",
                &self.reconnect_grace,
                Duration::ZERO..=HOUR,
            ),
            restart_grace: mistakes.duration(
                "--restart-grace",
                &self.restart_grace,
                Duration::ZERO..=HOUR,
            ),
            room_idle_timeout: mistakes.duration(
                "--room-idle-timeout",
                &self.room_idle_timeout,
                MILLISECOND..=DECADE,
            ),
            room_max_age: mistakes.unless_none(self.room_max_age.as_deref(), |mistakes, got| {
                mistakes.duration("--room-max-age", got, MILLISECOND..=DECADE)
            }),
            room_max_participants: mistakes
                .unless_none(self.room_max_participants.as_deref(), |mistakes, got| {
                    mistakes.number("--room-max-participants", got, 1..=u32::MAX)
                }),
            reap_interval: mistakes.duration(
                "--reap-interval",
                &self.reap_interval,
                MILLISECOND..=DAY * 7,
            ),
            reap_min_age: mistakes.unless_none(self.reap_min_age.as_deref(), |mistakes, got| {
                mistakes.duration("--reap-min-age", got, MILLISECOND..=DECADE)
            }),
            reap_below_participants: mistakes
                .unless_none(self.reap_below_participants.as_deref(), |mistakes, got| {
                    mistakes.number("--reap-below-participants", got, 1..=u32::MAX)
                }),
            last_seen_precision: mistakes
                .unless_none(self.last_seen_precision.as_deref(), |mistakes, got| {
                    mistakes.duration("--last-seen-precision", got, SECOND..=DAY)
                })
                .map_or(Precision::EXACT, Precision::to),
            departed_retention: mistakes
                .unless_none(self.departed_retention.as_deref(), |mistakes, got| {
                    mistakes.duration("--departed-retention", got, SECOND..=DECADE)
                }),
            expiry_warning: self
                .expiry_warning
                .as_deref()
                .map_or(EXPIRY_WARNING, |got| {
                    mistakes.duration("--expiry-warning", got, Duration::ZERO..=DAY)
                }),
            drain_timeout: mistakes.duration(
                "--drain-timeout",
                &self.drain_timeout,
                Duration::ZERO..=HOUR,
            ),
            connection_threads: self
                .connection_threads
                .as_deref()
                .map(|got| mistakes.number("--connection-threads", got, 1..=1024)),
            database: self.database.read(&mut mistakes),
            api_keys: self.api_keys(&mut mistakes),
            jwt_secret: self.jwt_secret(&mut mistakes),
            jwt_public_keys: self.jwt_public_keys(&mut mistakes),
            jwks: self.jwks(&mut mistakes),
            jwks_refresh_interval: mistakes.duration(
                "--jwks-refresh-interval",
                &self.jwks_refresh_interval,
                TEN_SECONDS..=DAY,
            ),
            jwt_leeway: mistakes.duration(
                "--jwt-leeway",
                &self.jwt_leeway,
                Duration::ZERO..=MAX_LEEWAY,
            ),
            jwt_issuer: self
                .jwt_issuer
                .as_deref()
                .map(|got| mistakes.text("--jwt-issuer", got)),
            jwt_audience: self
                .jwt_audience
                .as_deref()
                .map(|got| mistakes.text("--jwt-audience", got)),
            allowed_origins: self.allowed_origins(&mut mistakes),
            trusted_proxies: self.trusted_proxies(&mut mistakes),
            forwarded_header: self
                .forwarded_header
                .as_deref()
                .and_then(|got| forwarded_header(&mut mistakes, got)),
            tls: self.tls(&mut mistakes),
            public_url: self
                .public_url
                .as_deref()
                .map(|got| public_url(&mut mistakes, got)),
            invite_url: self
                .invite_url
                .as_deref()
                .map(|got| invite_url(&mut mistakes, got)),
            log_format: self
                .log_format
                .as_deref()
                .and_then(|got| log_format(&mut mistakes, got)),
            log: log(&mut mistakes, &self.log),
            limits: self.limits.resolve(&mut mistakes),
            listen: self.listen(&mut mistakes),
        };
        self.check_relations(&mut mistakes, &config);
        mistakes.into_result().map(|()| config)
    }

    fn listen(&self, mistakes: &mut Mistakes) -> SocketAddr {
        self.listen.parse().unwrap_or_else(|_| {
            let needs =
                "must be an address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080";
            mistakes.add("--listen", shown(&self.listen), needs);
            // Loopback, so that no second mistake is made of it.
            ([127, 0, 0, 1], 0).into()
        })
    }

    fn api_keys(&self, mistakes: &mut Mistakes) -> Vec<Secret> {
        let given = mistakes.list("--api-key", &self.api_keys);
        let mut keys: Vec<_> = given
            .iter()
            .map(|key| mistakes.api_key("--api-key", key))
            .collect();
        if let Some(path) = &self.api_key_file
            && let Some(file) = mistakes.file("--api-key-file", path)
        {
            let before = keys.len();
            keys.extend(api_keys_in(&file).map(|key| mistakes.api_key("--api-key-file", key)));
            if keys.len() == before {
                mistakes.add(
                    "--api-key-file",
                    path,
                    "must hold at least one key, one a line",
                );
            }
        }
        keys
    }

    fn jwt_secret(&self, mistakes: &mut Mistakes) -> Option<Secret> {
        match (&self.jwt_secret, &self.jwt_secret_file) {
            (None, None) => None,
            (Some(secret), None) => Some(mistakes.jwt_secret("--jwt-secret", secret.trim())),
            (None, Some(path)) => {
                let file = mistakes.file("--jwt-secret-file", path)?;
                Some(mistakes.jwt_secret("--jwt-secret-file", file.trim()))
            }
            (Some(_), Some(path)) => {
                mistakes.add(
                    "--jwt-secret-file",
                    path,
                    "cannot be used together with --jwt-secret; leave one of them out",
                );
                None
            }
        }
    }

    fn jwt_public_keys(&self, mistakes: &mut Mistakes) -> Vec<VerifyingKey> {
        const OPTION: &str = "--jwt-public-key";
        let mut keys = Vec::new();
        for path in mistakes.list(OPTION, &self.jwt_public_keys) {
            let Some(pem) = mistakes.file(OPTION, &path) else {
                continue;
            };
            match VerifyingKey::from_pem(&pem) {
                Ok(found) => keys.extend(found),
                Err(needs) => mistakes.add(OPTION, path, needs),
            }
        }
        keys
    }

    fn jwks(&self, mistakes: &mut Mistakes) -> Option<JwksSource> {
        const OPTION: &str = "--jwks";
        let got = mistakes.text(OPTION, self.jwks.as_deref()?);
        match JwksSource::parse(&got) {
            Ok(source) => {
                // A file is there or not; an address may be back in a moment.
                if let JwksSource::File(_) = &source
                    && !got.is_empty()
                    && let Err(error) = source.read()
                {
                    mistakes.add(OPTION, got, format!("must be a JWKS: {}", chain(&error)));
                }
                Some(source)
            }
            Err(needs) => {
                // Not even a mistake may print a password.
                let shown = if got.contains('@') {
                    "an address with a user name"
                } else {
                    &got
                };
                mistakes.add(OPTION, shown, needs);
                None
            }
        }
    }

    fn allowed_origins(&self, mistakes: &mut Mistakes) -> Vec<String> {
        let given = mistakes.list("--allowed-origin", &self.allowed_origins);
        let given = given.into_iter().filter(|got| !got.is_empty());
        given
            .map(|got| checked(mistakes, "--allowed-origin", &got, origin::pattern))
            .collect()
    }

    fn trusted_proxies(&self, mistakes: &mut Mistakes) -> Vec<IpNet> {
        let given = mistakes.list("--trusted-proxy", &self.trusted_proxies);
        let mut proxies = Vec::with_capacity(given.len());
        for got in given.iter().filter(|got| !got.is_empty()) {
            let net = got.parse::<IpNet>().or_else(|_| {
                got.parse()
                    .map(|address: std::net::IpAddr| address.to_canonical().into())
            });
            match net {
                // Everybody could then say to be anybody.
                Ok(net) if net.prefix_len() == 0 => mistakes.add(
                    "--trusted-proxy",
                    got,
                    "must be your proxies only, not every address there is",
                ),
                Ok(net) => proxies.push(net),
                Err(_) => mistakes.add(
                    "--trusted-proxy",
                    got,
                    "must be an IP address such as 10.0.0.2, or a network such as 10.0.0.0/8",
                ),
            }
        }
        proxies
    }

    fn tls(&self, mistakes: &mut Mistakes) -> Option<TlsFiles> {
        let files = match (&self.tls_cert, &self.tls_key) {
            (None, None) => return None,
            (Some(cert), Some(key)) => TlsFiles {
                cert: PathBuf::from(cert),
                key: PathBuf::from(key),
            },
            (Some(cert), None) => {
                mistakes.add("--tls-cert", shown(cert), "needs --tls-key too");
                return None;
            }
            (None, Some(key)) => {
                mistakes.add("--tls-key", shown(key), "needs --tls-cert too");
                return None;
            }
        };
        if let Err(error) = files.load() {
            let (option, path) = match &error {
                TlsError::Cert(_) => ("--tls-cert", &files.cert),
                TlsError::Key(_) | TlsError::Mismatch(_) => ("--tls-key", &files.key),
            };
            mistakes.add(option, path.display(), chain(&error).to_string());
        }
        Some(files)
    }

    fn check_relations(&self, mistakes: &mut Mistakes, config: &Config) {
        let interval = config.heartbeat_interval;
        if mistakes.spare(&["--heartbeat-interval", "--heartbeat-timeout"])
            && config.heartbeat_timeout < interval * 3 / 2
        {
            let (interval, least) = (human(interval), human(interval * 3 / 2));
            let needs = format!(
                "must be at least 1.5 × --heartbeat-interval ({interval}), that is {least}, so that a silent client is \
                 pinged before it is closed"
            );
            mistakes.add(
                "--heartbeat-timeout",
                human(config.heartbeat_timeout),
                needs,
            );
        }
        if mistakes.spare(&[
            "--heartbeat-interval",
            "--flush-interval",
            "--room-idle-timeout",
        ]) && config.room_idle_timeout < config.min_idle_timeout()
        {
            let (interval, flush) = (human(interval), human(config.flush_interval));
            let needs = format!(
                "must be at least 1.5 × --heartbeat-interval ({interval}) + 2 × --flush-interval ({flush}), that is {}",
                human(config.min_idle_timeout())
            );
            mistakes.add(
                "--room-idle-timeout",
                human(config.room_idle_timeout),
                needs,
            );
        }
        if let (Some(_), Some(age)) = (&self.expiry_warning, config.room_max_age)
            && mistakes.spare(&["--expiry-warning", "--room-max-age"])
            && config.expiry_warning >= age
        {
            let needs = format!("must be shorter than --room-max-age ({})", human(age));
            mistakes.add("--expiry-warning", human(config.expiry_warning), needs);
        }
        if !config.listen.ip().to_canonical().is_loopback()
            && self.api_keys.is_empty()
            && self.api_key_file.is_none()
        {
            let needs = "can be reached from other machines and needs an API key: set --api-key (ROLLCALL_API_KEY) or \
                         --api-key-file (`rollcall key` makes one), or listen on 127.0.0.1";
            mistakes.add("--listen", config.listen, needs);
        }
        let has_keys = self.jwt_secret.is_some()
            || self.jwt_secret_file.is_some()
            || !self.jwt_public_keys.is_empty()
            || self.jwks.is_some();
        for (option, got) in [
            ("--jwt-issuer", &self.jwt_issuer),
            ("--jwt-audience", &self.jwt_audience),
        ] {
            if let (Some(got), false) = (got, has_keys) {
                mistakes.add(
                    option,
                    shown(got),
                    "checks nothing without --jwt-secret, --jwt-public-key or --jwks; set one of them, or leave it out",
                );
            }
        }
        limits::check(mistakes, &config.limits);
    }
}

fn public_url(mistakes: &mut Mistakes, got: &str) -> String {
    checked(mistakes, "--public-url", got, origin::base_url)
}

fn invite_url(mistakes: &mut Mistakes, got: &str) -> String {
    if origin::scheme(got).is_none_or(|(_, rest)| rest.is_empty())
        || got.contains(char::is_whitespace)
    {
        mistakes.add(
            "--invite-url",
            shown(got),
            "must be a whole address, such as https://app.example/r?invite={token}",
        );
    } else if !got.contains("{token}") && !got.contains("{invite}") {
        mistakes.add(
            "--invite-url",
            got,
            "must hold {token} or {invite} where the invite's token goes",
        );
    }
    got.to_owned()
}

fn forwarded_header(mistakes: &mut Mistakes, got: &str) -> Option<ForwardedHeader> {
    match got.to_ascii_lowercase().as_str() {
        "forwarded" => Some(ForwardedHeader::Forwarded),
        "x-forwarded-for" => Some(ForwardedHeader::XForwardedFor),
        _ => {
            let needs = "must be x-forwarded-for or forwarded";
            mistakes.add("--forwarded-header", shown(got), needs);
            None
        }
    }
}

fn log_format(mistakes: &mut Mistakes, got: &str) -> Option<LogFormat> {
    match got {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => {
            mistakes.add("--log-format", shown(got), "must be text or json");
            None
        }
    }
}

fn log(mistakes: &mut Mistakes, got: &str) -> String {
    if let Err(error) = EnvFilter::builder().parse(got) {
        mistakes.add(
            "--log",
            shown(got),
            format!("must be a filter such as info,rollcall::hub=debug ({error})"),
        );
    }
    got.to_owned()
}

fn checked(
    mistakes: &mut Mistakes,
    option: &'static str,
    got: &str,
    read: impl Fn(&str) -> Result<String, &'static str>,
) -> String {
    read(got).unwrap_or_else(|flaw| {
        // Not even a mistake may print a password.
        let shown = if got.contains('@') {
            "an address with a user name"
        } else {
            shown(got)
        };
        mistakes.add(option, shown, format!("must {flaw}"));
        String::new()
    })
}

/// As often as unknown keys may cause a read.
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// A clock that is off by more is to be set right.
const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Beyond any sense, and far within what a timestamp can hold.
const DECADE: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);
/// An option without a default of its own, because only a chosen one is held against the maximum age.
const EXPIRY_WARNING: Duration = Duration::from_secs(5 * 60);
