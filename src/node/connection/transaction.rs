//! EXEC and WATCH: what a transaction needs of the shards.

use std::io;

use bytes::Bytes;

use crate::command;
use crate::command::Codec;
use crate::command::Command;
use crate::command::KeyCommand;
use crate::command::Mark;
use crate::command::Op;
use crate::command::Plan;
use crate::command::Planned;
use crate::command::Refusal;
use crate::command::Step;
use crate::command::server::Server;
use crate::command::server::Wait;
use crate::node::connection::Connection;
use crate::node::gather;
use crate::node::redirect;
use crate::node::redirect::Scope;
use crate::protocol;
use crate::protocol::resp;
use crate::protocol::resp::RespVersion;

/// What came of the commands of one partition.
enum Part {
    /// Their replies.
    Done(Vec<Bytes>),
    /// None was carried out: a watched key has changed.
    Aborted,
    /// None was carried out, or nobody knows: this error says which.
    Failed(Bytes),
}

impl Part {
    fn of(reply: Bytes) -> Self {
        match resp::elements_of(&reply) {
            Some(replies) => Self::Done(replies),
            None if resp::is_error(&reply) => Self::Failed(reply),
            None => Self::Aborted,
        }
    }

    /// Whether it is certain that nothing was carried out. Only then is that the reply to all of a
    /// transaction: clients take an error in place of the list for that.
    fn has_not_run(&self) -> bool {
        match self {
            Self::Done(_) => false,
            Self::Aborted => true,
            Self::Failed(error) => error.starts_with(b"-CLUSTERDOWN"),
        }
    }
}

impl Connection {
    /// Watches keys from now on.
    pub(super) async fn watch(&mut self, codec: Codec, keys: Vec<Bytes>) {
        let keys = match self.session.transaction().unwatched(keys) {
            Ok(keys) => keys,
            Err(refusal) => return protocol::encode_refusal(codec, &refusal, &mut self.output),
        };
        let marks = keys.iter().map(|key| KeyCommand::new(key.clone(), Op::Mark)).collect();
        let replies = gather::run_all(&self.context, codec, &mut self.acks, marks).await;
        let mut watched = Vec::with_capacity(keys.len());
        for (key, reply) in keys.into_iter().zip(replies) {
            match resp::bulk_of(&reply) {
                Some(was) => watched.push(Mark { key, was }),
                None => return self.output.extend_from_slice(&reply),
            }
        }
        self.session.transaction().watch(watched);
        protocol::encode(codec, &command::Reply::Done, &mut self.output);
    }

    /// Carries out what was kept since MULTI.
    pub(super) async fn exec(&mut self, codec: Codec) -> io::Result<()> {
        let (requests, watched) = self.session.transaction().take();
        if self.session.access().scope == Scope::Node
            && let Err(refusal) = redirect::one_slot(&requests)
        {
            protocol::encode_refusal(codec, &refusal, &mut self.output);
            return Ok(());
        }
        let (now, entry_bytes_max) = (self.context.clocks.wall(), self.context.settings.text.entry_bytes_max);
        requests.iter().flat_map(|words| command::verb_of(words)).for_each(|verb| self.session.calls(verb));
        let commands = requests.iter().map(|words| command::parse(words, now, entry_bytes_max)).collect();
        drop(requests);
        let mut plan = match Plan::new(commands, watched) {
            Ok(plan) => plan,
            Err(refusal) => {
                protocol::encode_refusal(codec, &refusal, &mut self.output);
                return Ok(());
            }
        };
        let is_one_part = plan.is_one_part();
        let checks = std::mem::take(&mut plan.checks);
        for reply in gather::run_all(&self.context, codec, &mut self.acks, checks).await {
            if !self.go_on(codec, &Part::of(reply)) {
                return Ok(());
            }
        }
        let start = self.output.len();
        resp::array_header(plan.len, &mut self.output);
        for step in plan.steps {
            let Step { mut parts, items, last } = step;
            if self.session.access().keeps_places {
                parts = parts.into_iter().map(KeyCommand::aside).collect();
            }
            let replies = gather::run_all(&self.context, codec, &mut self.acks, parts).await;
            let parts: Vec<Part> = replies.into_iter().map(Part::of).collect();
            if let [part] = &parts[..]
                && is_one_part
                && part.has_not_run()
            {
                self.output.truncate(start);
                self.go_on(codec, part);
                return Ok(());
            }
            for item in items {
                self.answer_planned(codec, &parts, item);
            }
            if let Some(command) = last {
                // A transaction waits for nobody.
                let command = match command {
                    Command::Server(Server::Wait(wait)) => {
                        Command::Server(Server::Wait(Wait { is_at_once: true, ..wait }))
                    }
                    command => command,
                };
                self.answer_alone(codec, command).await?;
            }
        }
        Ok(())
    }

    /// Whether a part that decides about the whole transaction lets it go on; if not, that is its reply.
    fn go_on(&mut self, codec: Codec, part: &Part) -> bool {
        match part {
            Part::Done(_) => return true,
            Part::Failed(error) => self.output.extend_from_slice(error),
            Part::Aborted => {
                let version = if codec == Codec::Resp3 { RespVersion::Three } else { RespVersion::Two };
                resp::null_list(version, &mut self.output);
            }
        }
        false
    }

    fn answer_planned(&mut self, codec: Codec, parts: &[Part], item: Planned) {
        let mut aborted = Vec::new();
        protocol::encode_refusal(codec, &Refusal::PartAborted, &mut aborted);
        let aborted = Bytes::from(aborted);
        let reply = |(part, command): (usize, usize)| match parts.get(part) {
            Some(Part::Done(replies)) => replies.get(command).cloned().unwrap_or_default(),
            Some(Part::Failed(error)) => error.clone(),
            Some(Part::Aborted) | None => aborted.clone(),
        };
        match item {
            Planned::Ready(ready) => protocol::encode(codec, &ready, &mut self.output),
            Planned::One(place) => self.output.extend_from_slice(&reply(place)),
            Planned::Gathered(how, places) => {
                let replies: Vec<Bytes> = places.into_iter().map(reply).collect();
                gather::gather(codec, how, &replies, &mut self.output);
            }
        }
    }
}
