//! `export` and `import`: all keys and values of a cluster as lines of JSON.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;
use cachegopher::client::Client;
use cachegopher::client::Error;
use cachegopher::client::SetOptions;
use cachegopher::client::TimeToLive;
use clap::Args;
use futures_util::StreamExt;
use futures_util::TryStreamExt;
use futures_util::stream;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::entry::Entry;

/// Entries that are read or written together.
const BATCH: usize = 512;
/// Single calls that are under way together.
const CALLS_MAX: usize = 16;

/// What is exported, and where to.
#[derive(Args, Debug)]
pub struct Export {
    /// Only keys that match, with *, ? and [a-z]
    #[arg(long, default_value = "*")]
    pattern: String,
    /// Write to this file instead of standard output
    #[arg(long, short)]
    file: Option<PathBuf>,
}

/// What is imported.
#[derive(Args, Debug)]
pub struct Import {
    /// Read this file instead of standard input
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// Skip lines that are no entries instead of stopping at the first
    #[arg(long)]
    skip_invalid: bool,
}

/// Writes a line per key, and returns how many there were.
pub async fn export(client: &Client, export: &Export) -> Result<u64, String> {
    let mut out: Box<dyn Write> = match &export.file {
        Some(file) => Box::new(io::BufWriter::new(File::create(file).map_err(|error| at(file, error))?)),
        None => Box::new(io::BufWriter::new(io::stdout().lock())),
    };
    // More keys may come and go meanwhile.
    let bar = bar(client.size().await.map_err(say)?, "{pos} of about {len} keys");
    let mut count = 0;
    let mut batches = std::pin::pin!(client.keys_like(&export.pattern).try_chunks(BATCH));
    while let Some(keys) = batches.next().await {
        let keys = keys.map_err(|error| say(error.1))?;
        for entry in entries(client, &keys).await.map_err(say)? {
            writeln!(out, "{}", entry.to_line()?).map_err(|error| error.to_string())?;
            count += 1;
        }
        bar.inc(keys.len() as u64);
    }
    out.flush().map_err(|error| error.to_string())?;
    bar.finish_and_clear();
    Ok(count)
}

/// Those of the keys that are still there.
async fn entries(client: &Client, keys: &[Bytes]) -> Result<Vec<Entry>, Error> {
    let values = client.get_many(keys).await?;
    let there = keys.iter().zip(values).filter_map(|(key, value)| Some((key, value?)));
    let read = there.map(|(key, value)| async move {
        let left = match client.time_to_live(key).await? {
            TimeToLive::Left(left) => Some(left),
            TimeToLive::Absent | TimeToLive::Forever => None,
        };
        Ok(Entry { key: key.to_vec(), value: value.to_vec(), left })
    });
    stream::iter(read).buffered(CALLS_MAX).try_collect().await
}

/// Sets a key per line, and returns how many there were, and how many lines were skipped.
pub async fn import(client: &Client, import: &Import) -> Result<(u64, u64), String> {
    let (input, bytes): (Box<dyn BufRead>, u64) = match &import.file {
        Some(file) => {
            let open = || Ok((File::open(file)?, std::fs::metadata(file)?.len()));
            let (input, bytes) = open().map_err(|error| at(file, error))?;
            (Box::new(io::BufReader::new(input)), bytes)
        }
        None => (Box::new(io::stdin().lock()), 0),
    };
    let bar = match bytes {
        0 => ProgressBar::new_spinner(),
        bytes => bar(bytes, "{bytes} of {total_bytes}"),
    };
    let (mut count, mut skipped) = (0, 0);
    let mut batch = Vec::with_capacity(BATCH);
    for (number, line) in (1_u64..).zip(input.lines()) {
        let line = line.map_err(|error| format!("line {number}: {error}"))?;
        bar.inc(line.len() as u64 + 1);
        match Entry::parse(&line) {
            _ if line.trim().is_empty() => {}
            Ok(entry) => batch.push(entry),
            Err(_) if import.skip_invalid => skipped += 1,
            Err(reason) => {
                set(client, &batch).await.map_err(say)?;
                return Err(format!(
                    "line {number} is no entry: {reason}; the {} before it are set",
                    count + batch.len() as u64
                ));
            }
        }
        if batch.len() == BATCH {
            set(client, &batch).await.map_err(say)?;
            count += batch.len() as u64;
            batch.clear();
        }
    }
    set(client, &batch).await.map_err(say)?;
    bar.finish_and_clear();
    Ok((count + batch.len() as u64, skipped))
}

async fn set(client: &Client, entries: &[Entry]) -> Result<(), Error> {
    let lasting = entries.iter().filter(|entry| entry.left.is_none());
    let lasting: Vec<(&[u8], &[u8])> = lasting.map(|entry| (&entry.key[..], &entry.value[..])).collect();
    client.set_many(&lasting).await?;
    let expiring = entries.iter().filter_map(|entry| Some((entry, entry.left?)));
    let set = expiring
        .map(|(entry, left)| client.set_with(&entry.key, &entry.value, SetOptions::new().expire_in(left)));
    stream::iter(set).buffer_unordered(CALLS_MAX).try_for_each(|_| async { Ok(()) }).await
}

/// A bar on standard error, which is not there where nobody looks.
pub fn bar(length: u64, figures: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {figures}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

fn at(file: &Path, error: io::Error) -> String {
    format!("{}: {error}", file.display())
}

fn say(error: Error) -> String {
    error.to_string()
}
