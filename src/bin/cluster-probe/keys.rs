//! The demo's keys: setting, reading and deleting them, a batch of lines at a time.

use std::io;
use std::time::Instant;

use cachegopher::client::text::TextConnection;

use crate::nodes;
use crate::nodes::NodeAddress;

/// Lines that are sent before their replies are read.
const BATCH: usize = 200;

/// The name of one of the demo's keys.
pub fn key(number: usize) -> String {
    format!("demo:{number:05}")
}

/// The value of one of the demo's keys.
pub fn value(number: usize) -> String {
    format!("gopher {number} was here")
}

/// Sets the keys and prints how many and how long it took.
pub async fn load(nodes: &[NodeAddress], count: usize) -> Result<(), String> {
    let start = Instant::now();
    let lines: Vec<String> =
        (0..count).map(|number| format!("SET {} {}", key(number), value(number))).collect();
    let replies = ask_all(nodes, &lines).await?;
    if let Some(reply) = replies.iter().find(|reply| *reply != "OK") {
        return Err(format!("SET was answered with {reply:?}"));
    }
    println!("loaded {count}");
    println!("milliseconds {}", start.elapsed().as_millis());
    Ok(())
}

/// Prints how many keys have the right value, have none, have another one, or were answered with an
/// error.
pub async fn readable(nodes: &[NodeAddress], count: usize) -> Result<(), String> {
    let lines: Vec<String> = (0..count).map(|number| format!("GET {}", key(number))).collect();
    let replies = ask_all(nodes, &lines).await?;
    let (mut right, mut missing, mut failed) = (0, 0, 0);
    for (number, reply) in replies.iter().enumerate() {
        match reply.as_str() {
            reply if reply == value(number) => right += 1,
            "ERROR: Key not found" => missing += 1,
            reply if reply.starts_with("ERROR: ") => failed += 1,
            _ => {}
        }
    }
    println!("readable {right}");
    println!("missing {missing}");
    println!("wrong {}", count - right - missing - failed);
    println!("failed {failed}");
    Ok(())
}

/// Deletes the keys and prints how many there were.
pub async fn delete(nodes: &[NodeAddress], count: usize) -> Result<(), String> {
    let lines: Vec<String> = (0..count).map(|number| format!("DELETE {}", key(number))).collect();
    let replies = ask_all(nodes, &lines).await?;
    println!("deleted {}", replies.iter().filter(|reply| *reply == "OK").count());
    Ok(())
}

/// Sends lines that are answered with one line each, spread over the nodes, and returns the replies
/// in their order.
pub async fn ask_all(nodes: &[NodeAddress], lines: &[String]) -> Result<Vec<String>, String> {
    let share = lines.len().div_ceil(nodes.len().max(1)).max(1);
    let tasks: Vec<_> = lines
        .chunks(share)
        .zip(nodes)
        .map(|(lines, node)| (node, tokio::spawn(ask_one(node.client.clone(), lines.to_vec()))))
        .collect();
    let mut replies = Vec::with_capacity(lines.len());
    for (node, task) in tasks {
        let answer = task.await.map_err(|error| error.to_string())?;
        replies.extend(answer.map_err(|error| format!("{}: {error}", node.name))?);
    }
    Ok(replies)
}

async fn ask_one(client: String, lines: Vec<String>) -> io::Result<Vec<String>> {
    let mut connection = TextConnection::connect(client).await?;
    let mut replies = Vec::with_capacity(lines.len());
    for batch in lines.chunks(BATCH) {
        connection.send(batch.join("\n")).await?;
        for _ in batch {
            replies.push(connection.receive().await?);
        }
    }
    nodes::close(connection).await;
    Ok(replies)
}
