//! The command `connectors`: reads files and options, calls the library, prints, and turns what happened
//! into an exit code. The only part that prints.
#![expect(clippy::print_stderr, reason = "a command line speaks through its output")]

mod ask;
mod cli;
mod command;
mod failure;
mod present;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match command::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_code())
        }
    }
}
