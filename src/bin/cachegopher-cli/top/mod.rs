//! `top`: the nodes of a cluster on a full screen, live.
//!
//! A task asks all nodes at once, each over a connection of its own, and hands what they said to the
//! loop that draws. A node that does not answer in time is shown as silent and keeps nobody waiting.

mod draw;
mod figures;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use cachegopher::client::Client;
use cachegopher::client::text::TextConnection;
use ratatui::crossterm::event;
use ratatui::crossterm::event::Event;
use ratatui::crossterm::event::KeyCode;
use ratatui::crossterm::event::KeyEventKind;
use ratatui::crossterm::event::KeyModifiers;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::top::figures::Board;
use crate::top::figures::Look;
use crate::top::figures::Stats;

/// How long a node may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(800);
/// How often it is looked whether a key was pressed.
const KEY_PERIOD: Duration = Duration::from_millis(50);

/// Shows the nodes until it is told to stop.
pub async fn run(client: &Client, interval: Duration) -> Result<(), String> {
    if !std::io::stdout().is_terminal() {
        return Err("top needs a terminal; for scripts there are --json ring and STATS".to_owned());
    }
    let (looks, looked) = mpsc::channel(1);
    let looking = tokio::spawn(look_on(client.clone(), interval, looks));
    let result = tokio::task::spawn_blocking(|| show(looked)).await;
    looking.abort();
    result.map_err(|error| error.to_string())?.map_err(|error| format!("terminal: {error}"))
}

fn show(mut looked: mpsc::Receiver<Look>) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let mut board = Board::default();
    let mut shown = || -> std::io::Result<()> {
        loop {
            while let Ok(look) = looked.try_recv() {
                board.take(look);
            }
            terminal.draw(|frame| draw::draw(&board, frame))?;
            if event::poll(KEY_PERIOD)? && is_end(&event::read()?) {
                return Ok(());
            }
        }
    };
    let result = shown();
    ratatui::restore();
    result
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

async fn look_on(client: Client, interval: Duration, looks: mpsc::Sender<Look>) {
    let start = Instant::now();
    let mut connections: HashMap<String, TextConnection> = HashMap::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let nodes = client.nodes();
        let asked: Vec<_> = nodes
            .iter()
            .map(|node| {
                let (address, connection) = (node.address.clone(), connections.remove(&node.address));
                tokio::spawn(async move {
                    let answer = timeout(ANSWER_WAIT_MAX, ask(&address, connection)).await;
                    (address, answer.ok().flatten())
                })
            })
            .collect();
        let mut look = Look { ring: client.ring(), at: start.elapsed(), clock: clock(), ..Look::default() };
        for answer in asked {
            if let Ok((address, Some((said, connection)))) = answer.await {
                let name = said.stats.get("name").cloned().unwrap_or_default();
                look.slow.extend(said.slow.iter().filter_map(|line| figures::slow(&name, line)));
                // Each of them says it of the whole cluster.
                look.hot = said.hot;
                look.stats.insert(address.clone(), said.stats);
                connections.insert(address, connection);
            }
        }
        look.nodes = nodes;
        if looks.send(look).await.is_err() {
            return;
        }
    }
}

/// What a node says.
struct Said {
    stats: Stats,
    hot: Vec<String>,
    slow: Vec<String>,
}

/// What a node says, on the connection from before where it still works.
async fn ask(address: &str, connection: Option<TextConnection>) -> Option<(Said, TextConnection)> {
    if let Some(mut connection) = connection
        && let Some(said) = said(&mut connection).await
    {
        return Some((said, connection));
    }
    let mut connection = TextConnection::connect(address).await.ok()?;
    let said = said(&mut connection).await?;
    Some((said, connection))
}

async fn said(connection: &mut TextConnection) -> Option<Said> {
    let lines = connection.list("STATS").await.ok()?;
    let pair = |line: &String| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let stats = lines.iter().filter_map(pair).collect();
    let hot = connection.list("HOTKEYS").await.ok()?;
    Some(Said { stats, hot, slow: connection.list("SLOWLOG").await.ok()? })
}

/// The time of day, in UTC.
fn clock() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
