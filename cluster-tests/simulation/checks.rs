//! What must hold: always, and in the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachegopher::cluster::view::Member;
use cachegopher::cluster::view::View;
use cachegopher::node::sim::Probe;
use cachegopher::store::Partition;

use crate::client;
use crate::faults::Faults;
use crate::faults::Standing;
use crate::model::Copy;
use crate::run::Cluster;

/// How long after a change connected nodes may disagree.
const AGREE_WITHIN: Duration = Duration::from_secs(2);
/// The same for a node that is alone: who hears nobody doubts itself first, and waits longer.
const ALONE_WITHIN: Duration = Duration::from_secs(5);
/// How long a hand-over may be under way: then it is taken back.
const MOVE_WITHIN: Duration = Duration::from_millis(700);
/// Bytes beyond the bound of a queue: what one message brings at once.
const SLACK_BYTES: usize = 1 << 20;
/// Commands that may wait: a client has one under way.
const WAITING_MAX: usize = 16;

/// What must hold whatever happens.
pub fn always(cluster: &Cluster, faults: &mut Faults) -> Result<(), String> {
    queues(cluster)?;
    ownership(cluster, faults)
}

fn queues(cluster: &Cluster) -> Result<(), String> {
    for host in &cluster.hosts {
        let Some(probe) = host.desk.probe.borrow().clone() else { continue };
        let (bytes, commands) = (probe.waiting_bytes_max(), probe.waiting_commands());
        if bytes > Probe::WAITING_BYTES_MAX + SLACK_BYTES {
            return Err(format!("{} has {bytes} bytes waiting for one peer", host.name));
        }
        if commands > WAITING_MAX {
            return Err(format!("{} has {commands} commands waiting", host.name));
        }
    }
    Ok(())
}

/// Nodes that see each other have one primary for each partition that any of them has.
fn ownership(cluster: &Cluster, faults: &mut Faults) -> Result<(), String> {
    let before = std::mem::take(&mut faults.moving);
    if !faults.is_fair() || cluster.now() < faults.changed + AGREE_WITHIN {
        return Ok(());
    }
    for group in groups(cluster, faults) {
        if group.len() == 1 && cluster.now() < faults.changed + ALONE_WITHIN {
            continue;
        }
        let views: Vec<(usize, Arc<View>)> =
            group.iter().filter_map(|n| Some((*n, view(cluster, *n)?))).collect();
        for partition in Partition::all() {
            let serves = |(_, view): &&(usize, Arc<View>)| view.is_primary(partition);
            let primaries: Vec<usize> = views.iter().filter(serves).map(|(node, _)| *node).collect();
            let has = |(_, view): &&(usize, Arc<View>)| {
                view.member(view.me()).is_some_and(|me| me.record.synced.contains(partition))
            };
            let holders: Vec<usize> = views.iter().filter(has).map(|(node, _)| *node).collect();
            let giver = views.iter().find(|(_, view)| is_moving(view, partition)).map(|(node, _)| *node);
            if let Some(giver) = giver.filter(|_| primaries.is_empty()) {
                let since = before.get(&(giver, partition)).copied().unwrap_or(cluster.now());
                faults.moving.insert((giver, partition), since);
                if cluster.now() < since + MOVE_WITHIN {
                    continue;
                }
            }
            if primaries.len() > 1 || (primaries.is_empty() && !holders.is_empty()) {
                let seen: Vec<String> =
                    views.iter().map(|(node, view)| describe(*node, view, partition)).collect();
                return Err(format!(
                    "at {} ms: partition {partition} has the primaries {primaries:?} and the holders {holders:?} among {group:?}: {}",
                    cluster.now().as_millis(),
                    seen.join("; ")
                ));
            }
        }
    }
    Ok(())
}

/// Whether a node has handed a partition over to one that has not said yet that it serves it: between
/// the two moments nobody does.
fn is_moving(view: &View, partition: Partition) -> bool {
    let successor = view.primary(partition).and_then(|primary| view.member(primary));
    view.has_copy(partition)
        && successor.is_some_and(|successor| {
            successor.identity.node != view.me() && !successor.record.synced.contains(partition)
        })
}

/// How a node sees a partition.
fn describe(node: usize, view: &View, partition: Partition) -> String {
    let name = |node| view.member(node).map_or("?", |member| member.record.name.as_str());
    let has = |member: &Member| if member.record.synced.contains(partition) { " synced" } else { "" };
    let is_old = |member: &Member| if member.is_current() { "" } else { " of old" };
    let member = |index| {
        let member = &view.members()[usize::from(index)];
        let liveness = member.liveness.name();
        format!("{} {liveness}{}{}", member.record.name, has(member), is_old(member))
    };
    let list: Vec<String> = view.ring().preference(partition).map(member).collect();
    format!(
        "n{node} sees {} as primary of [{}]",
        view.primary(partition).map_or("nobody", name),
        list.join(", ")
    )
}

fn view(cluster: &Cluster, node: usize) -> Option<Arc<View>> {
    Some(cluster.hosts[node].desk.probe.borrow().as_ref()?.view())
}

fn any_view(cluster: &Cluster) -> Option<Arc<View>> {
    (0..cluster.hosts.len()).find_map(|node| view(cluster, node))
}

/// Sets of running nodes each of which reaches all others of its set and nobody else.
fn groups(cluster: &Cluster, faults: &Faults) -> Vec<Vec<usize>> {
    let is_there = |node: &usize| {
        let machine = &faults.machines[*node];
        machine.standing == Standing::Up && !machine.is_paused
    };
    let running: Vec<usize> = (0..cluster.hosts.len()).filter(is_there).collect();
    let reaches = |node: usize| -> Vec<usize> {
        running.iter().copied().filter(|other| !faults.is_cut(node, *other)).collect()
    };
    let mut groups: Vec<Vec<usize>> = running.iter().map(|node| reaches(*node)).collect();
    groups.retain(|group| group.iter().all(|node| reaches(*node) == *group));
    groups.dedup();
    groups
}

/// The running nodes that know that one is removed with all its lives.
pub fn who_have_removed(cluster: &Cluster, node: usize) -> Vec<usize> {
    let id = cluster.hosts[node].id;
    let has = |other: &usize| {
        let probe = cluster.hosts[*other].desk.probe.borrow();
        *other != node && probe.as_ref().is_some_and(|probe| probe.has_removed(id))
    };
    (0..cluster.hosts.len()).filter(has).collect()
}

/// All is in its place, and all copies are equal.
pub fn settled(cluster: &Cluster, faults: &Faults) -> Result<(), String> {
    let mut views = Vec::new();
    let lasting = faults.lasting();
    for node in &lasting {
        let (name, machine) = (&cluster.hosts[*node].name, &faults.machines[*node]);
        if machine.standing != Standing::Up {
            return Err(format!("{name} does not run"));
        }
        if let Some(other) = who_have_removed(cluster, *node).first() {
            return Err(format!("{name} runs, though n{other} has removed it"));
        }
        let Some(view) = view(cluster, *node) else { return Err(format!("{name} has not started")) };
        if !view.is_settled() || view.members().len() != lasting.len() {
            return Err(format!("{name} is not settled"));
        }
        views.push(view);
    }
    if views.iter().any(|view| view.fingerprint() != views[0].fingerprint()) {
        return Err("the views differ".to_owned());
    }
    if cluster.shared.is_scarce {
        // What each of them has evicted, nobody knows here.
        return Ok(());
    }
    let model = cluster.shared.model.borrow();
    for partition in Partition::all() {
        let roles = views[0].roles(partition);
        let holders = roles.holders.iter().map(|index| views[0].members()[usize::from(*index)].identity.node);
        let copies = holders.map(|node| (node, model.copies.get(&node).and_then(|all| all.get(&partition))));
        let copies: Vec<_> = copies.map(|(node, copy)| (node, copy.cloned().unwrap_or_default())).collect();
        if let Some((key, a, b)) = copies.windows(2).find_map(|pair| difference(&pair[0].1, &pair[1].1)) {
            let name =
                |place: usize| &cluster.hosts.iter().find(|host| host.id == copies[place].0).unwrap().name;
            let names: Vec<&String> = (0..copies.len()).map(name).collect();
            return Err(format!(
                "copies of partition {partition} on {names:?} differ at {key:?}: {a:?} and {b:?}"
            ));
        }
    }
    Ok(())
}

fn difference(a: &Copy, b: &Copy) -> Option<(Bytes, u64, u64)> {
    let keys = a.keys.keys().chain(b.keys.keys());
    let version = |copy: &Copy, key: &Bytes| copy.keys.get(key).map_or(0, |version| version.as_raw());
    keys.map(|key| (key.clone(), version(a, key), version(b, key))).find(|(_, a, b)| a != b)
}

/// Nothing that was promised is missing, nothing that was deleted is back.
pub fn promises(cluster: &Cluster) -> Result<(), String> {
    if cluster.shared.is_scarce {
        return Ok(());
    }
    let model = cluster.shared.model.borrow();
    for key in (0..cluster.shared.keys).map(client::key) {
        let due = model.due(&key);
        let partition = Partition::of(&key);
        let primary = any_view(cluster).and_then(|view| view.primary(partition));
        let copy =
            primary.and_then(|node| model.copies.get(&node)?.get(&partition)).cloned().unwrap_or_default();
        if copy.knows(&key) < due {
            let made =
                model.made.get(&key).and_then(|all| all.iter().find(|made| made.change.version == due));
            // Of a flush nothing needs to be left where there is nothing of the key either: all copies are
            // equal by now.
            if made.is_none() && !copy.keys.contains_key(&key) {
                continue;
            }
            return Err(format!(
                "{key:?} is at version {:?}, but {due:?} was acknowledged: {made:?}",
                copy.knows(&key)
            ));
        }
    }
    Ok(())
}

/// Clients read what the copies have.
pub fn read(cluster: &Cluster) -> Result<(), String> {
    let model = cluster.shared.model.borrow();
    for (node, key, value) in cluster.shared.read.borrow().iter() {
        if cluster.shared.is_scarce {
            match value {
                Some(value) if !model.may_be_read(key, value) => {
                    return Err(format!("{key:?} is read at n{node} as {value:?}, which was deleted"));
                }
                Some(_) | None => continue,
            }
        }
        let partition = Partition::of(key);
        let primary = any_view(cluster).and_then(|view| view.primary(partition));
        let copy =
            primary.and_then(|node| model.copies.get(&node)?.get(&partition)).cloned().unwrap_or_default();
        let version = copy.keys.get(key).copied();
        if !model.is_value_at(key, version, value.as_ref()) {
            return Err(format!("{key:?} is read at n{node} as {value:?}, but should be as of {version:?}"));
        }
    }
    Ok(())
}
