//! The node's command line.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use cachegopher::client::admin::AdminClient;
use cachegopher::client::admin::Asked;
use cachegopher::node::Anew;
use cachegopher::node::Ending;
use cachegopher::node::Node;
use cachegopher::node::settings::LogControl;
use cachegopher::node::settings::LogFormat;
use cachegopher::node::settings::RawSettings;
use cachegopher::node::settings::Settings;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use sd_notify::NotifyState;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::error;
use tracing::warn;
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
    /// Compare all copies of all keys, and say what differs; the exit code is 1 if something does
    Verify {
        /// How long it may take until nothing differs, in ms: there are always changes on their way
        #[arg(long, default_value_t = 5_000, value_name = "MS")]
        wait_ms: u64,
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

/// Why a node does not join whose clock differs from all others.
const CLOCK_OFF: &str =
    "the clock of this node is more than a minute away from those of the cluster: see the log, and set it";
/// Why a node ends that the others do not want.
const REMOVED: &str = "this node was removed from the cluster, by `cachegopher forget` or since it has left: \
                       start it under another name";

fn main() -> ExitCode {
    let done = match Arguments::parse().action {
        Action::Serve(raw) => match raw.check().map_err(|error| error.to_string()).and_then(serve) {
            // Only if that fails does this return.
            Ok(Some(anew)) => Err(begin_anew(&anew)),
            Ok(None) => Ok(true),
            Err(reason) => Err(reason),
        },
        Action::Leave(admin) => ask(Asked::Leave, &admin),
        Action::Forget { name, admin } => ask(Asked::Forget { name: &name }, &admin),
        Action::Verify { wait_ms, admin } => ask(Asked::Verify { wait_ms }, &admin),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("cachegopher: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Asks the node whose administrative port is there, and says what came of it.
fn ask(asked: Asked<'_>, Admin { admin }: &Admin) -> Result<bool, String> {
    let done = AdminClient::new(admin).ask(asked).map_err(|error| error.to_string())?;
    print!("{}", done.text);
    Ok(done.is_fine)
}

/// Replaces this process by one of the same program with the same words, which so has the same process id,
/// and knows why it starts.
fn begin_anew(anew: &Anew) -> String {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| OsString::from("cachegopher"));
    // Under its own name, if it is still there.
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let (variable, value) = anew.variable();
    let error = Command::new(&program).arg0(name).args(words).env(variable, value).exec();
    format!("{} cannot be started again: {error}", program.display())
}

/// Runs a node until it ends. Some: it has to begin anew.
fn serve(mut settings: Settings) -> Result<Option<Anew>, String> {
    settings.anew = Anew::of_environment();
    if let Some(anew) = settings.anew {
        settings.join.insert(0, anew.to.to_string());
    }
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
        let ready = node.ready();
        tokio::spawn(async move {
            ready.await;
            tell_systemd(NotifyState::Ready);
        });
        let reason = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            () = asked => None,
            ending = ending => match ending {
                Ending::Left => None,
                Ending::ClockOff => Some(CLOCK_OFF.to_owned()),
                Ending::Removed => Some(REMOVED.to_owned()),
                Ending::Away(anew) => return Ok(Some(anew)),
            },
            failure = node.failure() => Some(failure.to_string()),
        };
        match reason {
            None => {
                tell_systemd(NotifyState::Stopping);
                node.stop().await;
                Ok(None)
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

/// Does nothing where the process was not started by systemd with `Type=notify`.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd cannot be told");
    }
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
