//! Commands that are carried out alone, behind all before them: what is about more than keys, or about
//! very many of them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::command;
use crate::command::Codec;
use crate::command::Command;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::server::Config;
use crate::command::server::Server;
use crate::node::attention;
use crate::node::cluster_query;
use crate::node::cluster_wide;
use crate::node::cluster_wide::Listing;
use crate::node::config;
use crate::node::connection::Connection;
use crate::node::flush;
use crate::node::gather;
use crate::node::info;
use crate::node::lease;
use crate::node::report;
use crate::node::wait;
use crate::protocol;
use crate::protocol::text;

impl Connection {
    /// Carries out what ends a batch.
    pub(super) async fn answer_alone(&mut self, codec: Codec, command: Command) -> io::Result<()> {
        let context = Arc::clone(&self.context);
        let access = self.session.access();
        let reply = match command {
            Command::Many(many) => {
                gather::run(&context, access, (codec, &mut self.acks), many, &mut self.output).await;
                return Ok(());
            }
            Command::AwaitLease { command, wait } => {
                let reply = lease::get(&context, codec, &mut self.acks, command, wait).await;
                self.output.extend_from_slice(&reply);
                return Ok(());
            }
            Command::Exec => return Box::pin(self.exec(codec)).await,
            Command::Watch { keys } => {
                self.watch(codec, keys).await;
                return Ok(());
            }
            Command::Keys { .. } if codec == Codec::Text => return self.list().await,
            Command::Keys { pattern } => {
                let listed = cluster_wide::keys(&context, access.scope, pattern.as_deref()).await;
                listed.map(|keys| Reply::List(keys.into_iter().map(bulk).collect()))
            }
            Command::Scan { cursor, pattern, count, is_none_of } => {
                let scanned = cluster_wide::scan(&context, access.scope, cursor, count).await;
                scanned.map(|(next, keys)| {
                    let is_wanted = |key: &Bytes| {
                        !is_none_of && pattern.as_ref().is_none_or(|pattern| command::matches(pattern, key))
                    };
                    let keys = keys.into_iter().filter(is_wanted).map(bulk).collect();
                    Reply::List(vec![Reply::Bytes(next.to_string().into()), Reply::List(keys)])
                })
            }
            Command::Size => {
                let size = cluster_wide::size(&context, access.scope).await;
                size.map(|size| Reply::Integer(i64::try_from(size.keys).unwrap_or(i64::MAX)))
            }
            Command::Flush => {
                self.acks.for_wait.add_all();
                flush::flush(&context, access.scope, self.acks.mode()).await.map(|()| Reply::Done)
            }
            Command::Cluster(asked) => Ok(cluster_query::answer(&context, asked).await),
            Command::Nodes => Ok(Reply::Lines(report::nodes(&context.current_view()))),
            Command::Ring => Ok(Reply::Lines(report::ring(&context.current_view()))),
            Command::Stats => Ok(Reply::Lines(report::stats(&context).await)),
            Command::Server(Server::Info { sections }) => {
                Ok(Reply::Bytes(info::info(&context, access.scope, &sections).await.into()))
            }
            Command::Server(Server::Config(Config::Set(pairs))) => {
                let set = config::set(&context, access.scope, &pairs).await;
                set.map(|()| Reply::Done).map_err(Refusal::Invalid)
            }
            Command::Server(Server::Config(Config::ResetStatistics)) => {
                info::reset(&context).await;
                Ok(Reply::Done)
            }
            Command::Server(Server::SlowLog(asked)) => Ok(attention::slow_log(&context, codec, &asked)),
            Command::Server(Server::HotKeys { count }) => {
                Ok(attention::hot_keys(&context, codec, access.scope, count).await)
            }
            Command::RandomKey => {
                let key = cluster_wide::any_key(&context, access.scope).await;
                key.map(|key| key.map_or(Reply::Absent, bulk))
            }
            Command::Server(Server::Wait(asked)) => {
                let count = wait::wait(&context, access.scope, &mut self.acks.for_wait, asked).await;
                Ok(Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
            }
            Command::Server(Server::Ack(ack)) => {
                self.acks.set_mode(ack);
                Ok(Reply::Done)
            }
            Command::Server(server) => {
                if server == Server::Reset {
                    self.acks.set_mode(context.settings.ack);
                }
                let reply = self.session.answer(server);
                // HELLO is answered in the protocol that it has chosen.
                protocol::encode(self.session.codec(), &reply, &mut self.output);
                return Ok(());
            }
            // Answered when it was read, within the batch, or by who called this.
            Command::Multi
            | Command::Discard
            | Command::Unwatch
            | Command::Key(_)
            | Command::Nothing
            | Command::Ping { .. }
            | Command::Echo { .. }
            | Command::Help
            | Command::Exit => return Ok(()),
        };
        protocol::encode(codec, &reply.unwrap_or_else(Reply::Refused), &mut self.output);
        Ok(())
    }

    /// Writes all keys of the cluster as they come.
    async fn list(&mut self) -> io::Result<()> {
        let scope = self.session.access().scope;
        // What is written cannot be taken back: better to wait until all agree who serves what. If they do
        // not, the end of the listing says so.
        let _ = cluster_wide::size(&self.context, scope).await;
        let mut listing = Listing::new(Arc::clone(&self.context), scope);
        let mut count = 0;
        while let Some(keys) = listing.next().await {
            for key in keys {
                text::encode_key_line(&key, &mut self.output);
                count += 1;
            }
            self.write().await?;
        }
        match listing.is_complete() {
            true => text::encode_end(count, &mut self.output),
            false => protocol::encode_refusal(Codec::Text, &Refusal::Incomplete { count }, &mut self.output),
        }
        Ok(())
    }

    /// Asks for the end of the node, which is the only answer: this connection ends with it.
    pub(super) async fn shut_down(&self) {
        tracing::info!(client = self.client().id, "a client asks for the end of the node");
        self.context.shutdown.send_replace(true);
        let mut hang_up = self.context.hang_up.subscribe();
        // The sender lives as long as the node.
        let _ = hang_up.wait_for(|now| now.is_stopping).await;
    }
}

fn bulk(key: Bytes) -> Reply<'static> {
    Reply::Bytes(key.into())
}
