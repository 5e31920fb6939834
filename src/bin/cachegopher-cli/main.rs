//! The command line: a prompt, single commands, and tools around a running cluster.
//!
//! Without a command it shows a prompt, or carries out the lines that it is given through a pipe. A
//! command that is none of its own is sent to a node: `cachegopher-cli get k`. It exits with 0, with 1
//! when something was refused or no node could be asked, and with 2 when it was called wrongly.

mod bench;
mod entry;
mod manual;
mod print;
mod prompt;
mod ring;
mod session;
mod target;
mod top;
mod transfer;
mod words;

use std::ffi::OsString;
use std::io;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use cachegopher::client::Answer;
use cachegopher::client::Client;
use cachegopher::client::Settings;
use cachegopher::client::admin::AdminClient;
use cachegopher::client::admin::Asked;
use clap::Parser;
use clap::Subcommand;
use tokio::runtime::Runtime;

use crate::print::Format;
use crate::session::Session;
use crate::target::Target;

/// Talks to a CacheGopher cluster
#[derive(Parser)]
#[command(
    version,
    after_help = "Any other command is sent to a node: cachegopher-cli set greeting 'hello world'\n\
                                 Without a command there is a prompt, or lines are read from a pipe."
)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Answer with values as they are, also on a terminal
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Take the last word of the command from standard input
    #[arg(long, short = 'x')]
    stdin: bool,
    /// How long an answer may take, in ms
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    timeout_ms: u64,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Watch the nodes: requests, hits, memory, lag, events
    Top {
        /// How often the nodes are asked
        #[arg(long, default_value_t = 1_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..))]
        interval_ms: u64,
    },
    /// Draw who holds what
    Ring,
    /// Put a small load on the cluster and show how quickly it answers
    Bench(bench::Bench),
    /// Write all keys and values as lines of JSON
    Export(transfer::Export),
    /// Set the keys and values that `export` wrote
    Import(transfer::Import),
    /// Compare all copies of all keys, and say what differs; the exit code is 1 if something does
    Verify {
        /// How long it may take until nothing differs, in ms: there are always changes on their way
        #[arg(long, default_value_t = 5_000, value_name = "MS")]
        wait_ms: u64,
    },
    /// Take the node out of the cluster for good: all that it has moves to the others, then it ends
    Leave,
    /// Take a dead node out of the cluster for good: a process of that name that comes back is sent away
    Forget {
        /// Its name
        name: String,
    },
    #[command(external_subcommand)]
    Command(Vec<OsString>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => run(&runtime, arguments),
        Err(error) => Err(format!("runtime cannot be started: {error}")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("cachegopher-cli: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
fn run(runtime: &Runtime, arguments: Arguments) -> Result<bool, String> {
    let format = format(&arguments);
    let deadline = Duration::from_millis(arguments.timeout_ms);
    let addresses = arguments.target.addresses()?;
    let session = |nodes| Session::new(nodes, deadline);
    match arguments.action {
        Some(Action::Command(words)) => {
            let mut words: Vec<Vec<u8>> = words.into_iter().map(OsStringExt::into_vec).collect();
            if arguments.stdin {
                words.push(last_word()?);
            }
            one(runtime, &mut session(addresses), format, &words)
        }
        Some(Action::Verify { wait_ms }) => ask(Asked::Verify { wait_ms }, &arguments.target, format),
        Some(Action::Leave) => ask(Asked::Leave, &arguments.target, format),
        Some(Action::Forget { name }) => ask(Asked::Forget { name: &name }, &arguments.target, format),
        Some(action) => runtime.block_on(tool(action, addresses, deadline, format)),
        None if io::stdin().is_terminal() && !arguments.stdin => {
            prompt::run(runtime, &mut session(addresses), format).map(|()| true)
        }
        None => lines(runtime, &mut session(addresses), format),
    }
}

fn format(arguments: &Arguments) -> Format {
    match io::stdout().is_terminal() {
        _ if arguments.json => Format::Json,
        true if !arguments.raw => Format::Human { has_colour: has_colour() },
        _ => Format::Raw,
    }
}

/// Colours only where somebody looks who has not said otherwise: see no-color.org.
fn has_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn last_word() -> Result<Vec<u8>, String> {
    let mut word = Vec::new();
    io::stdin().lock().read_to_end(&mut word).map_err(|error| format!("standard input: {error}"))?;
    Ok(word)
}

/// One command. What a node refuses goes to standard error, so that it is not taken for a value.
fn one(runtime: &Runtime, session: &mut Session, format: Format, words: &[Vec<u8>]) -> Result<bool, String> {
    let answer = runtime.block_on(session.ask(words))?;
    let is_refused = matches!(answer, Answer::Error(_));
    let written = match is_refused && format != Format::Json {
        true => print::answer(&answer, format, &mut io::stderr().lock()),
        false => print::answer(&answer, format, &mut io::stdout().lock()),
    };
    written.map(|()| !is_refused).or_else(ended)
}

/// A command a line, answered in order; what is refused does not end it.
fn lines(runtime: &Runtime, session: &mut Session, format: Format) -> Result<bool, String> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut is_fine = true;
    for (number, line) in (1_u64..).zip(io::stdin().lock().split(b'\n')) {
        let words = line.map_err(|error| error.to_string()).and_then(|line| words::split(&line));
        let words = words.map_err(|reason| format!("line {number}: {reason}"))?;
        if words.is_empty() {
            continue;
        }
        let answer =
            runtime.block_on(session.ask(&words)).map_err(|reason| format!("line {number}: {reason}"))?;
        is_fine &= !matches!(answer, Answer::Error(_));
        if let Err(error) = print::answer(&answer, format, &mut out) {
            return ended(error);
        }
    }
    out.flush().map(|()| is_fine).or_else(ended)
}

/// Whoever reads has had enough, such as `head`: that is no failure.
fn ended(error: io::Error) -> Result<bool, String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(true),
        _ => Err(format!("standard output: {error}")),
    }
}

/// Asks the node's administrative port.
fn ask(asked: Asked<'_>, target: &Target, format: Format) -> Result<bool, String> {
    let done = AdminClient::new(&target.admin_address()?).ask(asked).map_err(|error| error.to_string())?;
    let text = if format == Format::Json { format!("{}\n", done.answer) } else { done.text };
    say(&text).map(|_| done.is_fine)
}

async fn tool(
    action: Action,
    addresses: Vec<String>,
    deadline: Duration,
    format: Format,
) -> Result<bool, String> {
    let mut settings = Settings { deadline, ..Settings::default() };
    if let Action::Bench(bench) = &action {
        settings.connections_max = bench.connections();
    }
    let client = Client::connect_with(addresses, settings).await.map_err(|error| error.to_string())?;
    match action {
        Action::Top { interval_ms } => {
            top::run(&client, Duration::from_millis(interval_ms)).await.map(|()| true)
        }
        Action::Ring => {
            let (nodes, ring) = (client.nodes(), client.ring());
            say(&match format {
                Format::Json => format!("{}\n", ring::json(&nodes, &ring)),
                Format::Human { .. } | Format::Raw => ring::draw(&nodes, &ring, has_colour()),
            })
        }
        Action::Bench(load) => {
            let findings = bench::run(&client, &load).await?;
            let text =
                if format == Format::Json { format!("{}\n", findings.json()) } else { findings.text() };
            say(&text).map(|_| findings.is_fine())
        }
        Action::Export(what) => {
            let count = transfer::export(&client, &what).await?;
            eprintln!("{count} keys exported");
            Ok(true)
        }
        Action::Import(what) => {
            let (count, skipped) = transfer::import(&client, &what).await?;
            match skipped {
                0 => eprintln!("{count} keys imported"),
                _ => eprintln!("{count} keys imported, {skipped} lines skipped"),
            }
            Ok(true)
        }
        Action::Command(_) | Action::Verify { .. } | Action::Leave | Action::Forget { .. } => Ok(true),
    }
}

fn say(text: &str) -> Result<bool, String> {
    io::stdout().lock().write_all(text.as_bytes()).map(|()| true).or_else(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tool_is_a_command_for_a_node_with_all_its_words() {
        let parsed =
            Arguments::parse_from(["cachegopher-cli", "--json", "-p", "7", "set", "k", "--json", "-x"]);
        let Some(Action::Command(words)) = parsed.action else { panic!("a command") };
        assert_eq!(words, ["set", "k", "--json", "-x"]);
        assert!(parsed.json && !parsed.stdin);
        assert_eq!(parsed.target.port, Some(7));
        assert!(matches!(Arguments::parse_from(["x", "ring"]).action, Some(Action::Ring)));
        assert!(matches!(Arguments::parse_from(["x", "RING"]).action, Some(Action::Command(_))));
    }
}
