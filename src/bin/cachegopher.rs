//! The node's command line.

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use cachegopher::client::admin::AdminClient;
use cachegopher::node::Ending;
use cachegopher::node::Node;
use cachegopher::node::settings::LogControl;
use cachegopher::node::settings::LogFormat;
use cachegopher::node::settings::RawSettings;
use cachegopher::node::settings::Settings;
use clap::Args;
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
    Serve(Box<RawSettings>),
    /// Take a running node out of the cluster for good: all that it has moves to the others, then it ends
    Leave(Admin),
    /// Take a dead node out of the cluster for good: a process of that name that comes back is sent away
    Forget {
        /// Its name
        name: String,
        #[command(flatten)]
        admin: Admin,
    },
}

#[derive(Args)]
struct Admin {
    /// Administrative port of a node
    #[arg(long, env = "CACHEGOPHER_ADMIN", default_value = "127.0.0.1:30337", value_name = "HOST:PORT")]
    admin: String,
}

/// Why a node ends that the others do not want.
const REMOVED: &str = "this node was removed from the cluster, by `cachegopher forget` or since it has left: \
                       start it under another name";
/// How long a node that has left may take to end.
const END_WAIT_MAX: Duration = Duration::from_secs(20);
const END_LOOK_PERIOD: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let done = match Arguments::parse().action {
        Action::Serve(raw) => raw.check().map_err(|error| error.to_string()).and_then(serve),
        Action::Leave(Admin { admin }) => leave(&admin),
        Action::Forget { name, admin: Admin { admin } } => forget(&name, &admin),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("cachegopher: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn leave(admin: &str) -> Result<(), String> {
    let node = AdminClient::new(admin);
    let answer = node.post("/leave").map_err(|error| error.to_string())?;
    let deadline = Instant::now() + END_WAIT_MAX;
    while node.is_healthy() {
        if Instant::now() >= deadline {
            return Err("the node has left the cluster, but its process does not end".to_owned());
        }
        std::thread::sleep(END_LOOK_PERIOD);
    }
    println!("{} has left the cluster, and its process has ended", answer["left"].as_str().unwrap_or("it"));
    Ok(())
}

fn forget(name: &str, admin: &str) -> Result<(), String> {
    // In a path only some bytes stand for themselves.
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = AdminClient::new(admin).post(&format!("/forget?name={encoded}"));
    let answer = answer.map_err(|error| error.to_string())?;
    println!("{name} is forgotten; {} of {} other nodes know it already", answer["told"], answer["others"]);
    Ok(())
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
        let (asked, ending) = (node.shutdown_asked(), node.ending());
        let reason = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            () = asked => None,
            ending = ending => match ending {
                Ending::Left => None,
                Ending::Removed => Some(REMOVED.to_owned()),
            },
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
