//! A node as a real process.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use cachegopher::client::admin::AdminClient;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::LONG;
use super::client::Client;
use super::eventually;
use super::ports::Ports;
use super::ports::REDIRECT_OFFSET;

/// How a node is started, again and again.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub cluster: String,
    /// Where clients reach it.
    pub client: SocketAddr,
    /// Where other nodes reach it.
    pub peer: SocketAddr,
    pub join: Vec<SocketAddr>,
    /// The network namespace that it runs in, if not in this one.
    pub namespace: Option<String>,
    /// How many files it may open, if that is less than usual.
    pub files_max: Option<u32>,
    /// Where systemd would be told how it is.
    pub notify_socket: Option<PathBuf>,
    pub more: Vec<String>,
}

impl Plan {
    /// A node on loopback.
    pub fn on_loopback(name: &str, cluster: &str, ports: &Ports, join: Vec<SocketAddr>) -> Self {
        let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            name: name.to_owned(),
            cluster: cluster.to_owned(),
            client: at(ports.client),
            peer: at(ports.peer),
            join,
            namespace: None,
            files_max: None,
            notify_socket: None,
            more: Vec::new(),
        }
    }
}

/// A node that was started, and may have ended since.
#[derive(Debug)]
pub struct Node {
    pub plan: Plan,
    log: PathBuf,
    process: Option<Child>,
}

impl Node {
    /// Starts a node, without waiting for anything.
    pub fn start(plan: Plan) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = format!("{}-{}-{number}-{}.log", plan.cluster, std::process::id(), plan.name);
        let mut node =
            Self { plan, log: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file), process: None };
        node.start_again();
        node
    }

    /// Starts it with the same name and ports.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.plan.name);
        let plan = &self.plan;
        let binary =
            std::env::var("CACHEGOPHER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_cachegopher").to_owned());
        let mut command = match &plan.namespace {
            None if plan.files_max.is_some() => {
                let mut command = Command::new("sh");
                let limit = plan.files_max.unwrap_or_default();
                command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\""), &binary]);
                command
            }
            // It replaces itself with the node, which so has the process id that we know.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, &binary]);
                command
            }
            None => Command::new(binary),
        };
        // Nothing from outside: these are the default settings.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CACHEGOPHER_")) {
            command.env_remove(name);
        }
        if let Some(socket) = &plan.notify_socket {
            command.env("NOTIFY_SOCKET", socket);
        }
        command.args(["serve", "--name", &plan.name, "--cluster", &plan.cluster]);
        match &plan.namespace {
            Some(_) => {
                let host = plan.peer.ip().to_string();
                command.args(["--bind", "0.0.0.0", "--admin-bind", "0.0.0.0", "--announce-host", &host])
            }
            None => command.args(["--bind", &plan.peer.ip().to_string()]),
        };
        command.args(["--port", &plan.client.port().to_string()]);
        command.args(["--peer-port", &plan.peer.port().to_string()]);
        let join: Vec<String> = plan.join.iter().map(ToString::to_string).collect();
        if !join.is_empty() {
            command.args(["--join", &join.join(",")]);
        }
        // However slow the machine is, a request is to be answered; how long it took is printed. Figures
        // are those of the defaults.
        if std::env::var_os("FAILOVER_ROUNDS").is_none() {
            command.args(["--failover-wait-max-ms", &LONG.as_millis().to_string()]);
        }
        command.args(&plan.more);
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// Where it is administered.
    pub fn admin_address(&self) -> SocketAddr {
        SocketAddr::new(self.plan.client.ip(), self.plan.client.port() - 1_000)
    }

    /// Asks there, as the command line does it.
    pub async fn admin(&self, path_and_query: &str) -> Result<serde_json::Value, String> {
        let address = self.admin_address().to_string();
        let asked = path_and_query.to_owned();
        // It must not hold up the clients of the test.
        let answer = tokio::task::spawn_blocking(move || AdminClient::new(&address).post(&asked)).await;
        answer.unwrap().map_err(|error| error.to_string())
    }

    /// All copies are alike, at the latest when a split must have healed.
    pub async fn assert_alike(&self) {
        let found = self.admin("/verify?wait_ms=60000").await.unwrap();
        assert_eq!(found["is_clean"], true, "{found}");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the node runs").id()
    }

    /// Whether it was started and not ended by the test.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.id()).unwrap());
        nix::sys::signal::kill(id, signal).unwrap();
    }

    /// `kill -9`, without waiting for its end.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// `kill -STOP`; returns when none of its threads runs any more.
    pub async fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.id());
        eventually(LONG, async || {
            for task in std::fs::read_dir(&tasks).map_err(|error| error.to_string())? {
                let stat = task.map_err(|error| error.to_string())?.path().join("stat");
                let stat = std::fs::read_to_string(stat).map_err(|error| error.to_string())?;
                let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest).trim_start();
                if !state.starts_with('T') {
                    return Err(format!("a thread is in state {state}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Waits until the process has ended, and says how.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let process = self.process.as_mut().expect("the node runs");
        let mut status = None;
        eventually(LONG, async || {
            status = process.try_wait().map_err(|error| error.to_string())?;
            status.map(drop).ok_or_else(|| "the process has not ended".to_owned())
        })
        .await;
        self.process = None;
        status.expect("it has ended")
    }

    /// A new connection.
    pub async fn connect(&self) -> Client {
        Client::connect(self.plan.client).await
    }

    /// Where cluster-aware clients reach it.
    pub fn redirect(&self) -> SocketAddr {
        SocketAddr::new(self.plan.client.ip(), self.plan.client.port() + REDIRECT_OFFSET)
    }

    /// Its figures; none while it does not answer.
    pub async fn stats(&self) -> Option<BTreeMap<String, String>> {
        let mut client = Client::try_connect(self.plan.client).await.ok()?;
        let lines = client.try_list("STATS").await.ok()?;
        let pair =
            |line: String| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(lines.into_iter().filter_map(pair).collect())
    }

    /// One of its figures.
    pub async fn figure(&self, name: &str) -> u64 {
        let stats = self.stats().await.unwrap_or_else(|| panic!("{} does not answer", self.plan.name));
        stats[name].parse().unwrap()
    }

    /// Waits until one of its figures has this value.
    pub async fn comes_to(&self, figure: &str, value: u64) {
        eventually(LONG, async || match self.figure(figure).await {
            found if found == value => Ok(()),
            found => Err(format!("{}: {figure} is {found}, not {value}", self.plan.name)),
        })
        .await;
    }

    /// Processor time that it has used, in seconds.
    pub fn processor_time(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // Behind the name, which may hold anything: state is field 3, utime 14, stime 15.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
        // The kernel has counted in hundredths towards programs for as long as there is Linux.
        (ticks(14) + ticks(15)) / 100.0
    }

    /// All that it has logged, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.plan.name, self.log());
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}
