//! The node's command line.

use std::process::ExitCode;

use cachegopher::node::Node;
use cachegopher::node::settings::LogControl;
use cachegopher::node::settings::LogFormat;
use cachegopher::node::settings::RawSettings;
use cachegopher::node::settings::Settings;
use clap::Parser;
use clap::Subcommand;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::error;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A distributed in-memory key-value cache that puts availability before consistency
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run a node
    Serve(RawSettings),
}

fn main() -> ExitCode {
    let Action::Serve(raw) = Arguments::parse().action;
    match raw.check().map_err(|error| error.to_string()).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("cachegopher: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut settings: Settings) -> Result<(), String> {
    settings.log_control = start_log(&settings)?;
    cachegopher::node::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime cannot be started: {error}"))?;
    let result = runtime.block_on(async {
        let failed = |error: std::io::Error| format!("signals cannot be received: {error}");
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut node = Node::start(settings).await.map_err(|error| error.to_string())?;
        let asked = node.shutdown_asked();
        let reason = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            () = asked => None,
            failure = node.failure() => Some(failure.to_string()),
        };
        match reason {
            None => {
                node.stop().await;
                Ok(())
            }
            Some(reason) => {
                error!(reason, "node ends");
                Err(reason)
            }
        }
    });
    // What is still under way ends with the process.
    runtime.shutdown_background();
    result
}

fn start_log(settings: &Settings) -> Result<LogControl, String> {
    let filter = filter(&settings.log)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => {
            let log = log.with_ansi(false).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Ok(control(move |filter| handle.reload(filter)))
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Ok(control(move |filter| handle.reload(filter)))
        }
    }
}

fn control<E: std::fmt::Display>(
    reload: impl Fn(EnvFilter) -> Result<(), E> + Send + Sync + 'static,
) -> LogControl {
    LogControl::new(move |text| reload(filter(text)?).map_err(|error| error.to_string()))
}

fn filter(text: &str) -> Result<EnvFilter, String> {
    // The actor library's own spans say nothing that ours do not.
    EnvFilter::try_new(format!("ractor=off,{text}"))
        .map_err(|error| format!("log is {text:?}, but must be a filter: {error}"))
}
