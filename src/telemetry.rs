//! Where logs go and how they look. Standard output belongs to the commands; logs go to standard error.

use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal},
};

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Starts logging for the whole process. What a library or test has started before stays.
pub fn init(config: &Config) {
    // A Config holds no filter that does not parse.
    let filter = EnvFilter::builder().parse_lossy(&config.log);
    let is_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let _ = match config.log_format.unwrap_or(if is_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    }) {
        LogFormat::Text => builder.with_ansi(is_terminal).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// An error with its causes in one line, which a JSON log would leave out. Some libraries say the cause in their own text
/// too; it is said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let mut said = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !said.ends_with(&next) {
                said = format!("{said}: {next}");
            }
            cause = error.source();
        }
        f.write_str(&said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn a_chain_says_each_cause_once() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = StoreError::Unavailable(sqlx::Error::Io(refused()).into());
        let chained = chain(&error).to_string();
        assert_eq!(chained.matches(&refused().to_string()).count(), 1);
        assert!(
            chained.starts_with("the database is unavailable: "),
            "{chained}"
        );
    }
}
