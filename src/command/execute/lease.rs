//! Commands about leases.

use bytes::Bytes;

use crate::command::Expiry;
use crate::command::Reply;
use crate::command::SetLease;
use crate::command::execute::Answer;
use crate::command::execute::Run;

impl Run<'_> {
    /// The value; where there is none, or one that expires within so many milliseconds, a lease too for
    /// one caller.
    pub(super) fn get_lease(&mut self, key: &Bytes, stale_millis: u64) -> Answer {
        let stale_from = self.now.as_millis().saturating_add(stale_millis);
        let former = self.former(key);
        let is_fresh = former.as_ref().is_some_and(|former| {
            stale_millis == 0 || former.expires_at.is_none_or(|at| at.as_millis() > stale_from)
        });
        // It counts as read, found or not.
        self.read(key);
        let value = former.map(|former| Reply::Bytes(former.value.into()));
        let lease = if is_fresh { None } else { self.tenure.leases.give(key, self.now) };
        let token = lease.map(|token| Reply::Bytes(format!("{token:016x}").into()));
        Ok(Reply::Line(match (value, token) {
            (Some(value), None) => vec![Reply::Word(if is_fresh { "HIT" } else { "STALE" }), value],
            (None, None) => vec![Reply::Word("BUSY")],
            (value, Some(token)) => [Reply::Word("LEASE"), token].into_iter().chain(value).collect(),
        }))
    }

    /// Whether the token was valid, and so the value is set.
    pub(super) fn set_lease(&mut self, key: &Bytes, set: &SetLease) -> Answer {
        if !self.tenure.leases.is_valid(key, set.token, self.now) {
            return Ok(Reply::Integer(0));
        }
        let expires_at = match set.expiry {
            Expiry::At(at) => Some(at),
            Expiry::Never | Expiry::Keep => None,
        };
        self.write(key, set.value.0.clone(), expires_at)?;
        Ok(Reply::Integer(1))
    }
}
