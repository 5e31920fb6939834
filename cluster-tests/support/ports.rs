//! Ports for nodes, each pair given out once on this machine.
//!
//! They lie below those that the kernel gives to outgoing connections, so none is taken while its
//! node is down. A number is ours while we hold the abstract socket that is named after it; the kernel
//! frees it with the process, however that ends.

use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;

const COUNT: u16 = 1_000;
const CLIENT_FIRST: u16 = 21_000;
const PEER_FIRST: u16 = 23_000;
/// As the node has it: where cluster-aware clients are served.
pub const REDIRECT_OFFSET: u16 = 1_000;
/// As the node has it: where it is administered.
const ADMIN_OFFSET: u16 = 1_000;

/// The ports of a node, ours until this is dropped.
#[derive(Debug)]
pub struct Ports {
    pub client: u16,
    pub peer: u16,
    _claim: UnixListener,
}

impl Ports {
    /// Ports that nobody uses.
    pub fn allocate() -> Self {
        let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
        let numbers = (0..COUNT).map(|step| (start + step) % COUNT);
        numbers.into_iter().find_map(Self::claim).expect("free ports")
    }

    fn claim(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("cachegopher-test-{number}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        let (client, peer) = (CLIENT_FIRST + number, PEER_FIRST + number);
        for port in [client, client + REDIRECT_OFFSET, client - ADMIN_OFFSET, peer] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        }
        UdpSocket::bind((Ipv4Addr::LOCALHOST, peer)).ok()?;
        Some(Self { client, peer, _claim: claim })
    }
}
