//! The `rollcall` program: reads its words, and runs what they ask for.

use std::{future::Future, process::ExitCode};

use rollcall::{
    cli::{self, Command},
    config::Options,
    telemetry,
};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Serve(options)) => serve(&options),
        Ok(Command::Migrate(database)) => block_on(cli::migrate(&database)),
        Ok(Command::Verify(verification)) => block_on(cli::verify(&verification)),
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
    let connections = match Builder::new_multi_thread()
        .thread_name("connections")
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
