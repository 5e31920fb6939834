//! A server that does no work: one thread, one read and one write per batch, fixed replies.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;

use memchr::memchr_iter;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;

#[derive(clap::Args)]
pub struct Settings {
    /// Where to listen
    #[arg(long)]
    address: SocketAddr,
    /// Bytes of the value that every GET is answered with
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
}

const LISTENER: Token = Token(0);

pub fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let mut value = format!("${}\r\n", settings.value_bytes).into_bytes();
    value.extend(std::iter::repeat_n(b'v', settings.value_bytes));
    value.extend_from_slice(b"\r\n");
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(settings.address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: HashMap<Token, TcpStream> = HashMap::new();
    let mut events = Events::with_capacity(1024);
    let mut next = 1;
    let (mut input, mut output) = (vec![0; 256 * 1024], Vec::new());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut client, _)) = listener.accept() {
                    client.set_nodelay(true)?;
                    poll.registry().register(&mut client, Token(next), Interest::READABLE)?;
                    clients.insert(Token(next), client);
                    next += 1;
                }
                continue;
            }
            let Some(client) = clients.get_mut(&event.token()) else { continue };
            if !answer(client, &mut input, &mut output, &value)? {
                clients.remove(&event.token());
            }
        }
    }
}

/// One read, one write. Requests that are cut in two are counted by their beginning.
fn answer(client: &mut TcpStream, input: &mut [u8], output: &mut Vec<u8>, value: &[u8]) -> io::Result<bool> {
    let read = match client.read(input) {
        Ok(0) | Err(_) => return Ok(false),
        Ok(read) => read,
    };
    output.clear();
    for start in memchr_iter(b'*', &input[..read]) {
        // `*2` is a GET, `*3` a SET; keys and values of the load hold no star.
        match input.get(start + 1) {
            Some(b'2') => output.extend_from_slice(value),
            _ => output.extend_from_slice(b"+OK\r\n"),
        }
    }
    client.write_all(output)?;
    Ok(true)
}
