//! Where the database is: the options of every command that opens it, and what they must be.

use std::time::Duration;

use clap::Args;

use super::{ConfigErrors, Secret, mistakes::Mistakes, origin, parse::shown};

/// The options that say where the database is. Words, until they are resolved.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseOptions {
    /// Where the database is: sqlite://FILE or postgres://USER@HOST/NAME
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite://rollcall.db",
        hide_env_values = true
    )]
    pub database_url: String,
    /// The PostgreSQL schema that holds everything [default: rollcall]
    #[arg(long, env = "ROLLCALL_DATABASE_SCHEMA", value_name = "NAME")]
    pub database_schema: Option<String>,
    /// The password, if the URL has none; better given as a file or in the environment
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    pub database_password: Option<String>,
    /// A file with the password
    #[arg(long, env = "ROLLCALL_DATABASE_PASSWORD_FILE", value_name = "PATH")]
    pub database_password_file: Option<String>,
    /// PostgreSQL connections for joins and requests; flush and reaper have two more [default: 10]
    #[arg(long, env = "ROLLCALL_DATABASE_CONNECTIONS", value_name = "N")]
    pub database_connections: Option<String>,
    /// How long to wait at the start for a PostgreSQL that is not there yet [default: 60s]
    #[arg(long, env = "ROLLCALL_DATABASE_WAIT", value_name = "DURATION")]
    pub database_wait: Option<String>,
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its address, of the kind that [`Database::kind`] says. It may hold a password.
    pub url: Secret,
    /// The PostgreSQL schema that holds everything: lower case, digits and underscores.
    pub schema: String,
    /// The password that goes before the address's own.
    pub password: Option<Secret>,
    /// PostgreSQL connections for joins and requests.
    pub connections: u32,
    /// How long to wait at the start for a PostgreSQL that is not there yet.
    pub wait: Duration,
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file of this machine.
    Sqlite,
    /// A server.
    Postgres,
}

impl Database {
    /// The database at an address, everything else as it is without options.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: Secret::new(url),
            schema: "rollcall".to_owned(),
            password: None,
            connections: 10,
            wait: Duration::from_secs(60),
        }
    }

    /// Which database the address is of.
    pub fn kind(&self) -> DatabaseKind {
        match kind(self.url.expose()) {
            Some(kind) => kind,
            None => DatabaseKind::Sqlite,
        }
    }
}

impl DatabaseOptions {
    /// Reads the options on their own, for the commands that need nothing else.
    ///
    /// # Errors
    ///
    /// All mistakes.
    pub fn resolve(&self) -> Result<Database, ConfigErrors> {
        let mut mistakes = Mistakes::default();
        let database = self.read(&mut mistakes);
        mistakes.into_result().map(|()| database)
    }

    pub(super) fn read(&self, mistakes: &mut Mistakes) -> Database {
        let mut database = Database::at(self.url(mistakes));
        database.password = self.password(mistakes);
        if let Some(got) = &self.database_schema {
            database.schema = schema(mistakes, got);
        }
        if let Some(got) = &self.database_connections {
            // Four may wait for locks of others, and joins must go on.
            database.connections = mistakes.number("--database-connections", got, 5..=1_000);
        }
        if let Some(got) = &self.database_wait {
            database.wait = mistakes.duration("--database-wait", got, Duration::ZERO..=HOUR);
        }
        self.check_kind(mistakes);
        database
    }

    fn url(&self, mistakes: &mut Mistakes) -> &str {
        let got = &self.database_url;
        let needs = match kind(got) {
            None => "must begin with sqlite: or postgres:, such as sqlite://rollcall.db",
            Some(DatabaseKind::Sqlite) if names_nothing(got) => {
                "must name a file, such as sqlite://rollcall.db"
            }
            Some(DatabaseKind::Postgres) if names_nothing(got) => {
                "must name a server, such as postgres://rollcall@localhost/rollcall"
            }
            Some(kind) => {
                if kind == DatabaseKind::Postgres {
                    check_parameters(mistakes, got);
                }
                return got;
            }
        };
        // The rest of it may hold a password.
        let shown =
            origin::scheme(got).map_or(shown(got), |_| got.split("://").next().unwrap_or_default());
        mistakes.add("--database-url", shown, needs);
        got
    }

    fn password(&self, mistakes: &mut Mistakes) -> Option<Secret> {
        match (&self.database_password, &self.database_password_file) {
            (None, None) => None,
            (Some(password), None) => Some(Secret::new(password)),
            (None, Some(path)) => {
                let file = mistakes.file("--database-password-file", path)?;
                Some(Secret::new(file.trim_end_matches(['\r', '\n'])))
            }
            (Some(_), Some(path)) => {
                mistakes.add(
                    "--database-password-file",
                    path,
                    "cannot be used together with --database-password; leave one of them out",
                );
                None
            }
        }
    }

    /// What SQLite has no use for was meant for another address.
    fn check_kind(&self, mistakes: &mut Mistakes) {
        if kind(&self.database_url) != Some(DatabaseKind::Sqlite) {
            return;
        }
        let needless = [
            ("--database-schema", self.database_schema.is_some()),
            ("--database-password", self.database_password.is_some()),
            (
                "--database-password-file",
                self.database_password_file.is_some(),
            ),
            (
                "--database-connections",
                self.database_connections.is_some(),
            ),
            ("--database-wait", self.database_wait.is_some()),
        ];
        for (option, _) in needless.iter().filter(|(_, is_given)| *is_given) {
            mistakes.add(
                option,
                "with SQLite",
                "is for PostgreSQL: set --database-url to a postgres: address, or leave it out",
            );
        }
    }
}

fn kind(url: &str) -> Option<DatabaseKind> {
    if url.starts_with("sqlite:") {
        Some(DatabaseKind::Sqlite)
    } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        Some(DatabaseKind::Postgres)
    } else {
        None
    }
}

fn names_nothing(url: &str) -> bool {
    url.split_once(':')
        .is_none_or(|(_, rest)| rest.trim_start_matches('/').is_empty())
}

/// A parameter that is not known is a mistake of the pen; the driver would log it, and its value may be a secret.
fn check_parameters(mistakes: &mut Mistakes, url: &str) {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !PARAMETERS.contains(&&*name) {
            let needs = format!(
                "has a parameter that is not known; there are {}",
                PARAMETERS.join(", ")
            );
            mistakes.add("--database-url", name, needs);
        }
    }
}

fn schema(mistakes: &mut Mistakes, got: &str) -> String {
    let is_plain = got
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let begins_well = got.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    // PostgreSQL cuts longer names, and keeps those with pg_ for itself.
    if !is_plain || !begins_well || got.len() > 63 || got.starts_with("pg_") {
        mistakes.add(
            "--database-schema",
            shown(got),
            "must be a plain name of at most 63 lower-case letters, digits and underscores, not beginning with a digit or \
             pg_",
        );
    }
    got.to_owned()
}

const HOUR: Duration = Duration::from_secs(60 * 60);
/// The parameters that a PostgreSQL address may have.
const PARAMETERS: [&str; 11] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];
