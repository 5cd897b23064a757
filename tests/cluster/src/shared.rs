//! One server for a whole test run.

use std::{
    env,
    path::Path,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::{Cluster, psql};

/// Where `make test` says which server the run shares: the environment variable, which holds a URL.
pub const SHARED_URL_VARIABLE: &str = "ROLLCALL_TEST_POSTGRES";

/// A server that other tests use at the same time: not to be stopped, and everybody makes a schema of their own.
#[derive(Debug, Clone)]
pub struct Shared(Source);

#[derive(Debug, Clone)]
enum Source {
    Run(String),
    Process(Arc<Cluster>),
}

/// The server of this test run. Without one, this process's own: started at the first call, ended with the last handle.
pub fn shared() -> Shared {
    Shared(match env::var(SHARED_URL_VARIABLE) {
        Ok(url) => Source::Run(url),
        Err(_) => Source::Process(of_this_process()),
    })
}

impl Shared {
    /// The address of the database.
    pub fn url(&self) -> String {
        match &self.0 {
            Source::Run(url) => url.clone(),
            Source::Process(cluster) => cluster.url(),
        }
    }

    /// As [`Cluster::psql`].
    ///
    /// # Panics
    ///
    /// With psql's message when a statement fails.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        psql::command(&self.url(), sql)
    }

    /// As [`Cluster::psql_file`].
    ///
    /// # Panics
    ///
    /// With psql's message when a statement fails.
    #[track_caller]
    pub fn psql_file(&self, path: &Path, variables: &[(&str, &str)]) -> String {
        psql::file(&self.url(), path, variables)
    }
}

/// Under the lock throughout, so that those who come at once wait for one server.
fn of_this_process() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut current = CLUSTER.lock();
    current.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start());
        *current = Arc::downgrade(&cluster);
        cluster
    })
}
