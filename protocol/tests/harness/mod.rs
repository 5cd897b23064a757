//! Files that are published with the crate and made from its types: compared here, rewritten on request.

use std::{env, fs, path::PathBuf};

/// Where a published file lives.
pub(crate) fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Compares a published file with what the types say now; `UPDATE=1` rewrites it instead.
pub(crate) fn check(file: &str, now: &str) {
    let path = path(file);
    let now = format!("{now}\n");
    if env::var_os("UPDATE").is_some() {
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).expect("the folder can be made");
        fs::write(&path, &now).expect("the file can be written");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == now,
        "protocol/{file} is not what the types say; if the change is meant: \
         UPDATE=1 cargo test -p rollcall-protocol --all-features\n\
         published:\n{published}\nnow:\n{now}"
    );
}
