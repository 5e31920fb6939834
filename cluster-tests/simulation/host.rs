//! The machine of a node, and what its operator asks of it.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

use cachegopher::node::Ending;
use cachegopher::node::Node;
use cachegopher::node::settings::Settings;
use cachegopher::node::sim::Probe;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::sync::Notify;
use turmoil::net::TcpStream;

/// What an operator wants.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// The node stops, to come back.
    Stop,
    /// It leaves for good.
    Leave,
    /// It takes a dead one out for good.
    Forget(usize),
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    /// The node has handed over and ended.
    Stopped,
    /// It does not leave.
    Stays,
    /// It has ended, since the others do not want it.
    Removed,
    /// It has taken that one out; whether another node has confirmed that it knows.
    Forgotten(usize, bool),
}

/// Between the operator and the node.
#[derive(Default)]
pub struct Desk {
    pub probe: RefCell<Option<Probe>>,
    pub said: RefCell<Vec<Said>>,
    wishes: RefCell<Vec<Wish>>,
    has_wishes: Notify,
}

impl Desk {
    pub fn ask(&self, wish: Wish) {
        self.wishes.borrow_mut().push(wish);
        self.has_wishes.notify_one();
    }

    /// What was asked of a node that has ended is not asked of the next one.
    pub fn clear(&self) {
        *self.probe.borrow_mut() = None;
        self.wishes.borrow_mut().clear();
        self.said.borrow_mut().clear();
    }

    async fn next(&self) -> Wish {
        loop {
            if let Some(wish) = self.wishes.borrow_mut().pop() {
                return wish;
            }
            self.has_wishes.notified().await;
        }
    }
}

/// Runs a node for as long as it wants to.
pub async fn run(settings: Settings, desk: Rc<Desk>) -> turmoil::Result {
    let admin_port = settings.admin_port.expect("the node is asked there");
    let mut node = Node::start(settings).await?;
    *desk.probe.borrow_mut() = Some(node.probe());
    let mut ending = pin!(node.ending());
    let said = loop {
        tokio::select! {
            biased;
            ending = &mut ending => match ending {
                Ending::Left => {
                    node.stop().await;
                    break Said::Stopped;
                }
                Ending::Removed => break Said::Removed,
                // No run lasts nearly as long as a node may be apart from the others.
                Ending::Away(_) => return Err("it is said to have been away for too long".into()),
                Ending::ClockOff => return Err("its clock is said to be off".into()),
            },
            failure = node.failure() => return Err(failure.into()),
            wish = desk.next() => match wish {
                Wish::Stop => {
                    node.stop().await;
                    break Said::Stopped;
                }
                Wish::Leave | Wish::Forget(_) => {
                    let desk = Rc::clone(&desk);
                    tokio::task::spawn_local(async move { carry_out(wish, admin_port, &desk).await });
                }
            },
        }
    };
    desk.said.borrow_mut().push(said);
    std::future::pending().await
}

async fn carry_out(wish: Wish, admin_port: u16, desk: &Desk) {
    let said = match wish {
        Wish::Stop => return,
        Wish::Leave => match post(admin_port, "/leave").await {
            // It ends now.
            Ok(Some(_)) => return,
            Ok(None) | Err(_) => Said::Stays,
        },
        Wish::Forget(node) => match post(admin_port, &format!("/forget?name=n{node}")).await {
            Ok(Some(answer)) => Said::Forgotten(node, !answer.contains("\"told\":0")),
            Ok(None) | Err(_) => return,
        },
    };
    desk.said.borrow_mut().push(said);
}

/// Asks the node by its administrative port. What it answers, if it has done so.
async fn post(admin_port: u16, path: &str) -> std::io::Result<Option<String>> {
    let mut socket = TcpStream::connect(("127.0.0.1", admin_port)).await?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-cachegopher: simulation\r\ncontent-length: 0\r\n\
         connection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    let mut socket = BufReader::new(socket);
    socket.read_line(&mut answer).await?;
    // Of one that ends meanwhile the first line is enough.
    let _ = socket.read_to_string(&mut answer).await;
    Ok(answer.starts_with("HTTP/1.1 200 ").then_some(answer))
}
