//! The cluster as this node sees it, with what each node says of itself: for the page, and for scripts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use serde_json::json;

use crate::cluster::membership::NodeId;
use crate::cluster::report::Report;
use crate::cluster::report::SLOW_COMMANDS_TOLD;
use crate::cluster::report::SlowCommand;
use crate::cluster::ring::NodeIndex;
use crate::cluster::view::Member;
use crate::cluster::view::View;
use crate::command::printable;
use crate::node::context::Context;
use crate::node::hot;
use crate::node::inquiry;
use crate::node::report;
use crate::store::PARTITION_COUNT;

/// Hot keys that are told.
const HOT_KEYS_SHOWN: usize = 10;

/// Nodes by name, and the ring: runs of partitions with the same holders, which name nodes by their
/// place in that list.
pub async fn cluster(State(context): State<Arc<Context>>) -> Json<Value> {
    let view = context.current_view();
    let (own, reports) =
        tokio::join!(inquiry::report_here(&context, u64::MAX), inquiry::all_reports(&context));
    let slow = slow_of(&view, &own, &reports);
    let hot: Vec<Value> = hot::merge(
        std::iter::once(own.hot_keys).chain(reports.iter().map(|(_, report)| report.hot_keys.clone())),
        HOT_KEYS_SHOWN,
    )
    .iter()
    .map(|hot| json!({ "key": printable(&hot.key.0), "per_second": hot.per_second }))
    .collect();
    let mut figures: BTreeMap<NodeId, Value> =
        reports.into_iter().map(|(node, report)| (node, figures_of(&report.figures))).collect();
    figures.insert(view.me(), figures_of(&own.figures));
    let mut order: Vec<usize> = (0..view.members().len()).collect();
    order.sort_by_key(|index| &view.members()[*index].record.name);
    let nodes: Vec<Value> = order
        .iter()
        .map(|index| {
            let member = &view.members()[*index];
            node(&view, member, figures.remove(&member.identity.node))
        })
        .collect();
    let place = |index: &NodeIndex| order.iter().position(|member| *member == usize::from(*index));
    let arcs: Vec<Value> = view
        .arcs()
        .iter()
        .map(|arc| {
            let replicas: Vec<_> = arc.replicas.iter().map(place).collect();
            json!([arc.first.number(), arc.last.number(), arc.primary.as_ref().map(place), replicas])
        })
        .collect();
    Json(json!({
        "asked": context.settings.name,
        "cluster": context.settings.cluster,
        "at": context.clocks.wall().as_millis(),
        "view": format!("{:08x}", view.fingerprint()),
        "settled": view.is_settled(),
        "ready": *context.is_ready.borrow(),
        "partitions": PARTITION_COUNT,
        "nodes": nodes,
        "arcs": arcs,
        "hot": hot,
        "slow": slow,
    }))
}

/// Slow commands of all nodes, the latest first.
fn slow_of(view: &View, own: &Report, reports: &[(NodeId, Report)]) -> Vec<Value> {
    let others = reports.iter().map(|(node, report)| (view.name_of(*node), report));
    let of_all = std::iter::once((view.name_of(view.me()), own)).chain(others);
    let mut slow: Vec<(String, &SlowCommand)> =
        of_all.flat_map(|(name, report)| report.slow.iter().map(move |slow| (name.clone(), slow))).collect();
    slow.sort_by_key(|(_, slow)| std::cmp::Reverse((slow.at_secs, slow.id)));
    slow.truncate(SLOW_COMMANDS_TOLD);
    let said = |(node, slow): (String, &SlowCommand)| {
        json!({
            "node": node,
            "id": slow.id,
            "at": slow.at_secs * 1_000,
            "took_us": slow.took_micros,
            "words": slow.text(),
            "client": slow.client,
        })
    };
    slow.into_iter().map(said).collect()
}

fn node(view: &View, member: &Member, figures: Option<Value>) -> Value {
    let record = &member.record;
    let port = |port: u16| format!("{}:{port}", record.host);
    json!({
        "name": record.name,
        "state": report::state_of(member),
        "is_me": member.identity.node == view.me(),
        "id": member.identity.node.to_string(),
        "generation": member.identity.generation.to_string(),
        "client": port(record.client_port),
        "redirect": port(record.redirect_port),
        "peer": member.identity.addr.to_string(),
        "weight": record.weight,
        "primaries": view.primaries_of(member.identity.node).len(),
        "replicas": if member.is_up() { view.replica_count_of(member.identity.node) } else { 0 },
        "figures": figures,
    })
}

/// Lines of STATS as an object; what is a number there is one here.
fn figures_of(lines: &[String]) -> Value {
    let pair = |line: &String| {
        let (name, value) = line.split_once(' ')?;
        let is_number = value.len() < 16 && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse::<u64>().ok().filter(|_| is_number);
        Some((name.to_owned(), number.map_or_else(|| json!(value), |number| json!(number))))
    };
    Value::Object(lines.iter().filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_numbers_where_they_are_numbers_that_any_reader_can_hold() {
        let lines = ["keys 12", "name n1", "id 00ff", "generation 12345678901234567890"].map(str::to_owned);
        let said = figures_of(&lines);
        assert_eq!(said["keys"], json!(12));
        assert_eq!(said["name"], json!("n1"));
        assert_eq!(said["generation"], json!("12345678901234567890"));
    }
}
