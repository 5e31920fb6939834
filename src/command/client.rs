//! What a client asks of connections: its own and the others of its node.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

/// About connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// The number of this one.
    Id,
    /// What is known of this one.
    Info,
    /// What is known of all that match.
    List(ClientFilter),
    /// What this one is called.
    Name,
    /// What to call this one; empty: nothing any more.
    SetName(Bytes),
    /// The library that uses this one.
    SetLibrary(Bytes),
    /// The version of that library.
    SetLibraryVersion(Bytes),
    /// Ends all that match, and says how many.
    Kill(ClientFilter),
    /// Ends the one with this address.
    KillAddress(Bytes),
    /// Which replies this one wants.
    Reply(Replies),
    /// Whether what this one reads does not count as used.
    NoTouch(bool),
}

/// Which replies a connection wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// All.
    #[default]
    All,
    /// None, until it says otherwise.
    None,
    /// All but the next.
    NotTheNext,
}

/// What a connection is to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// An ordinary one: there is no other here, where nodes talk to each other on another port.
    Normal,
    /// What exists in Redis only.
    Other,
}

/// Which connections are meant; nothing said: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFilter {
    /// Those with these numbers.
    pub ids: Vec<u64>,
    /// Those of this kind.
    pub kind: Option<ClientKind>,
    /// The one from this address.
    pub remote: Option<Bytes>,
    /// Those that came to this address.
    pub local: Option<Bytes>,
    /// Those that are at least so old.
    pub age_min: Option<Duration>,
    /// Not the one that asks.
    pub skips_asking: bool,
}

/// A connection, as far as a [`ClientFilter`] looks at it.
#[derive(Clone, Copy, Debug)]
pub struct ClientTraits {
    /// Its number.
    pub id: u64,
    /// Where it comes from.
    pub remote: Option<SocketAddr>,
    /// Where it came to.
    pub local: Option<SocketAddr>,
    /// How long it is there.
    pub age: Duration,
    /// Whether it is the one that asks.
    pub is_asking: bool,
}

impl ClientFilter {
    /// Whether a connection is meant.
    pub fn matches(&self, client: &ClientTraits) -> bool {
        let is_at = |wanted: &Option<Bytes>, address: Option<SocketAddr>| {
            wanted.as_ref().is_none_or(|wanted| address.is_some_and(|address| is_text_of(wanted, address)))
        };
        (self.ids.is_empty() || self.ids.contains(&client.id))
            && self.kind.is_none_or(|kind| kind == ClientKind::Normal)
            && is_at(&self.remote, client.remote)
            && is_at(&self.local, client.local)
            && self.age_min.is_none_or(|age_min| client.age >= age_min)
            && !(self.skips_asking && client.is_asking)
    }
}

/// Whether this is how the address is written.
pub fn is_text_of(text: &[u8], address: SocketAddr) -> bool {
    address.to_string().as_bytes() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_means_those_that_have_all_that_it_names() {
        let client = ClientTraits {
            id: 7,
            remote: Some(([127, 0, 0, 1], 5_000).into()),
            local: Some(([127, 0, 0, 1], 31_337).into()),
            age: Duration::from_secs(5),
            is_asking: true,
        };
        let is_meant = |filter: ClientFilter| filter.matches(&client);
        let all = ClientFilter::default;
        assert!(is_meant(all()));
        assert!(is_meant(ClientFilter { ids: vec![3, 7], kind: Some(ClientKind::Normal), ..all() }));
        assert!(!is_meant(ClientFilter { ids: vec![3], ..all() }));
        assert!(!is_meant(ClientFilter { kind: Some(ClientKind::Other), ..all() }));
        assert!(!is_meant(ClientFilter { skips_asking: true, ..all() }));
        assert!(is_meant(ClientFilter { remote: Some(Bytes::from_static(b"127.0.0.1:5000")), ..all() }));
        assert!(!is_meant(ClientFilter { remote: Some(Bytes::from_static(b"127.0.0.1:500")), ..all() }));
        assert!(!is_meant(ClientFilter { local: Some(Bytes::from_static(b"127.0.0.1:5000")), ..all() }));
        assert!(is_meant(ClientFilter { age_min: Some(Duration::from_secs(5)), ..all() }));
        assert!(!is_meant(ClientFilter { age_min: Some(Duration::from_secs(6)), ..all() }));
    }
}
