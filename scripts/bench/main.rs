//! What `scripts/bench.sh` measures with: a server that does no work, a load, and the table.

#![allow(clippy::print_stdout, reason = "a program whose output is its result")]

mod floor;
mod load;
mod processor;
mod table;
mod wire;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

/// Measures servers of caches
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Answer every request of RESP with the same bytes: what the network stack costs anyway
    Floor(floor::Settings),
    /// Put a server under load and print one line of JSON
    Load(load::Settings),
    /// Read such lines and print medians as Markdown, or as JSON
    Table(table::Settings),
}

fn main() -> ExitCode {
    let result: Result<(), Box<dyn Error>> = match Arguments::parse().action {
        Action::Floor(settings) => floor::run(&settings),
        Action::Load(settings) => load::run(&settings),
        Action::Table(settings) => table::run(&settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
