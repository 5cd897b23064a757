//! The `rollcall` program: reads its words, and runs what they ask for.

use std::{future::Future, process::ExitCode};

use rollcall::{
    cli::{self, Command},
    config::Options,
    telemetry,
};
use tokio::runtime::Builder;

/// Many small things that live as long as a connection, made in the middle of what lives as long as a handshake: glibc needs a
/// tenth more memory for them (docs/performance.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Serve(options)) => serve(&options),
        Ok(Command::Migrate(database)) => block_on(cli::migrate(&database)),
        Ok(Command::Verify(verification)) => block_on(cli::verify(&verification)),
        Ok(Command::Key) => cli::key(),
        Ok(Command::Remote(remote)) => cli::ask(&remote),
        Err(code) => code,
    }
}

fn serve(options: &Options) -> ExitCode {
    let config = match options.resolve() {
        Ok(config) => config,
        Err(mistakes) => return cli::misconfigured(&mistakes),
    };
    telemetry::init(&config);
    for option in cli::exposed_secrets(std::env::args_os()) {
        tracing::warn!(
            option,
            "process lists show this secret to everybody on the machine; set its variable or file instead"
        );
    }
    let threads = config.connection_threads.unwrap_or_else(default_threads);
    let connections = match Builder::new_multi_thread()
        .thread_name("connections")
        .worker_threads(threads)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return cli::failed(&error),
    };
    let code = block_on(async {
        // The one call of the server.
        match rollcall::server::run(config, connections.handle().clone()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cli::failed(&error),
        }
    });
    connections.shutdown_background();
    code
}

/// One fewer than cores: what accepts, admits and writes keeps a share that heartbeats cannot take. In processor time a heartbeat
/// one thread or two made no difference (docs/performance.md).
fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).max(1)
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // Whatever had to end has ended; what is left must not hold the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => cli::failed(&error),
    }
}
