//! Where logs go and how they look. Standard output belongs to the commands; logs go to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Config, LogFormat};

/// Starts logging for the whole process. What a library or test has started before stays.
pub fn init(config: &Config) {
    // A Config holds no filter that does not parse.
    let filter = EnvFilter::builder().parse_lossy(&config.log);
    let is_terminal = io::stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    let _ = match config.log_format.unwrap_or(if is_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    }) {
        LogFormat::Text => builder.with_ansi(is_terminal).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
