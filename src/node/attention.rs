//! What wants attention: slow commands, and the keys that are asked for most. As SLOWLOG and HOTKEYS
//! say it.

use std::sync::Arc;

use crate::cluster::report::HotKey;
use crate::cluster::report::SlowCommand;
use crate::command::Codec;
use crate::command::Reply;
use crate::command::printable;
use crate::command::server::SlowLog;
use crate::node::context::Context;
use crate::node::hot;
use crate::node::inquiry;
use crate::node::redirect::Scope;

/// Answers about the slow log of this node.
pub fn slow_log(context: &Context, codec: Codec, asked: &SlowLog) -> Reply<'static> {
    let log = &context.slow_log;
    match asked {
        SlowLog::Latest { count } => {
            let latest = log.latest(count.unwrap_or(usize::MAX));
            match codec {
                Codec::Text => Reply::Lines(latest.iter().map(line).collect()),
                Codec::Resp2 | Codec::Resp3 => Reply::List(latest.into_iter().map(entry).collect()),
            }
        }
        SlowLog::Count => integer(log.count() as u64),
        SlowLog::Clear => {
            log.clear();
            Reply::Done
        }
    }
}

/// As Redis has it: number, time, microseconds, words, client, name.
fn entry(slow: SlowCommand) -> Reply<'static> {
    Reply::List(vec![
        integer(slow.id),
        integer(slow.at_secs),
        integer(slow.took_micros),
        Reply::List(slow.words.iter().map(|word| Reply::Bytes(word.0.to_vec())).collect()),
        Reply::Bytes(slow.client.into()),
        Reply::Bytes(slow.name.0.into()),
    ])
}

fn line(slow: &SlowCommand) -> String {
    format!(
        "{} at={} took_us={} client={} {}",
        slow.id,
        slow.at_secs,
        slow.took_micros,
        slow.client,
        slow.text()
    )
}

/// Answers which keys are asked for most: of all nodes, or of this one where that is the scope.
pub async fn hot_keys(context: &Arc<Context>, codec: Codec, scope: Scope, count: usize) -> Reply<'static> {
    let mut lists = vec![context.hot_keys.top(count)];
    if scope == Scope::Cluster {
        let reports = inquiry::all_reports(context).await;
        lists.extend(reports.into_iter().map(|(_, report)| report.hot_keys));
    }
    let keys = hot::merge(lists, count);
    match codec {
        Codec::Text => Reply::Lines(
            keys.iter()
                .map(|HotKey { key, per_second }| format!("{per_second} {}", printable(&key.0)))
                .collect(),
        ),
        Codec::Resp2 | Codec::Resp3 => {
            let pair = |HotKey { key, per_second }| (Reply::Bytes(key.0.into()), integer(per_second));
            Reply::Map(keys.into_iter().map(pair).collect())
        }
    }
}

fn integer(number: u64) -> Reply<'static> {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
