//! Where the installed programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A program of the PostgreSQL installation: the one that `pg_config` names, else Debian's newest.
pub(crate) fn postgresql(program: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            configured_folder()
                .or_else(newest_folder)
                .unwrap_or_else(|| missing("postgresql"))
        })
        .join(program)
}

/// Debian keeps it in `/usr/sbin`, which is not on everybody's `PATH`.
pub(crate) fn pgbouncer() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
        .unwrap_or_else(|| missing("pgbouncer"))
}

/// `None` without the server too: `pg_config` also comes with the client library.
fn configured_folder() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    has_server(&folder).then_some(folder)
}

fn newest_folder() -> Option<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| has_server(folder))
        .max()
        .map(|(_, folder)| folder)
}

fn has_server(folder: &Path) -> bool {
    folder.join("postgres").is_file()
}

fn missing(package: &str) -> ! {
    panic!(
        "{package} is not installed: `make test` does that on Debian, or `apt-get install {package}`"
    )
}
