//! Plain requests, carried out where they lie in the input.

use bytes::Buf;

use crate::command::Codec;
use crate::command::Plain;
use crate::node::at_once;
use crate::node::at_once::AtOnce;
use crate::node::connection::Connection;
use crate::node::connection::batch::Batch;
use crate::node::context::Counters;
use crate::protocol::resp;
use crate::protocol::text;
use crate::protocol::text::TextLimits;
use crate::time::Moment;

/// Bytes of replies to plain requests that are written together, a single reply apart.
pub(super) const PLAIN_REPLIES_BYTES_MAX: usize = 128 * 1024;

impl Connection {
    /// Carries out the plain requests at the start of the input, until there are as many replies as are
    /// written together. Returns those among which one has to be carried out otherwise.
    pub(super) fn run_plain(&mut self, now: Moment) -> Option<Batch> {
        let is_between = self.text.is_between_lines() && self.resp.is_between_requests();
        if !is_between || !self.session.takes_plain() {
            return None;
        }
        let (limits, resp_codec) = (self.context.settings.text, self.session.codec());
        let (mut used, mut count) = (0, 0);
        let mut batch = None;
        while batch.is_none() && self.output.len() < PLAIN_REPLIES_BYTES_MAX {
            let Some((codec, request, bytes)) = plain(limits, resp_codec, &self.input[used..]) else { break };
            used += bytes;
            if used == self.input.len() {
                count += 1;
                // The only one: straight into the output.
                let start = self.output.len();
                if at_once::run_one(&self.context, now, codec, &request, &mut self.acks, &mut self.output) {
                    self.session.answers_plain(codec, &request, Some(&self.output[start..]));
                } else {
                    self.session.answers_plain(codec, &request, None);
                    batch.get_or_insert_with(|| Batch::new(codec)).add_plain(&request, None);
                }
                continue;
            }
            let mut requests = AtOnce::new(codec, request);
            while !requests.is_full()
                && let Some((its, request, bytes)) = plain(limits, resp_codec, &self.input[used..])
                && its == codec
            {
                requests.push(request);
                used += bytes;
            }
            count += requests.len();
            let done = requests.run(&self.context, now, &mut self.acks);
            for (request, reply) in done.iter() {
                self.session.answers_plain(codec, request, reply);
            }
            if done.are_all() {
                done.write(&mut self.output);
            } else {
                let rest = batch.get_or_insert_with(|| Batch::new(codec));
                done.iter().for_each(|(request, reply)| rest.add_plain(request, reply));
            }
        }
        self.input.advance(used);
        Counters::add(&self.context.counters.commands, count);
        batch
    }
}

/// The plain request at the start of the input that no limit stands against, and its length.
fn plain(limits: TextLimits, resp_codec: Codec, input: &[u8]) -> Option<(Codec, Plain<'_>, usize)> {
    let (codec, (request, bytes)) = match input.first()? {
        b'*' => (resp_codec, resp::plain(input)?),
        _ => (Codec::Text, text::plain(limits, input)?),
    };
    (request.bytes() <= limits.entry_bytes_max).then_some((codec, request, bytes))
}
