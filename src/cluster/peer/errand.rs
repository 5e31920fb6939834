//! What a third node passes on from one node to another, and what comes back.

use bincode::Decode;
use bincode::Encode;
use bincode::de::Decoder;
use bincode::de::read::Reader;
use bincode::error::DecodeError;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;

/// The requests that may be passed on, by their numbers: what clients wait for.
const NUMBERS: [u8; 6] = [1, 6, 7, 8, 10, 16];

/// The way of a request that a third node passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Detour {
    /// Who could not send it to whom it is for. What somebody else passes on is not passed on again.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The last link from the one to the other, as numbered in its `Welcome`: what may still arrive on it is void.
    pub given_up: u64,
}

/// A request that is passed on: one that clients wait for.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Errand(Box<Request>);

impl Errand {
    /// A request to be passed on; none: it is not one of those.
    pub fn new(request: Request) -> Option<Self> {
        match request {
            Request::Forward { .. }
            | Request::Scan { .. }
            | Request::Flush { .. }
            | Request::Size { .. }
            | Request::Choose { .. }
            | Request::AwaitCopies { .. } => Some(Self(Box::new(request))),
            Request::Hello(_)
            | Request::Stream { .. }
            | Request::Pull { .. }
            | Request::TakeOver { .. }
            | Request::Record(_)
            | Request::AwaitLease { .. }
            | Request::Offer { .. }
            | Request::Remove { .. }
            | Request::Digest { .. }
            | Request::Survey { .. }
            | Request::Report { .. }
            | Request::Relay { .. }
            | Request::Ping => None,
        }
    }

    /// The request.
    pub fn into_request(self) -> Request {
        *self.0
    }

    /// The number that the answer names.
    pub fn id(&self) -> u64 {
        match &*self.0 {
            Request::Forward { id, .. }
            | Request::Scan { id, .. }
            | Request::Flush { id }
            | Request::Size { id }
            | Request::Choose { id }
            | Request::AwaitCopies { id, .. } => *id,
            Request::Hello(_)
            | Request::Stream { .. }
            | Request::Pull { .. }
            | Request::TakeOver { .. }
            | Request::Record(_)
            | Request::AwaitLease { .. }
            | Request::Offer { .. }
            | Request::Remove { .. }
            | Request::Digest { .. }
            | Request::Survey { .. }
            | Request::Report { .. }
            | Request::Relay { .. }
            | Request::Ping => 0,
        }
    }

    /// The same under another number.
    pub fn numbered(mut self, number: u64) -> Self {
        match &mut *self.0 {
            Request::Forward { id, .. }
            | Request::Scan { id, .. }
            | Request::Flush { id }
            | Request::Size { id }
            | Request::Choose { id }
            | Request::AwaitCopies { id, .. } => *id = number,
            Request::Hello(_)
            | Request::Stream { .. }
            | Request::Pull { .. }
            | Request::TakeOver { .. }
            | Request::Record(_)
            | Request::AwaitLease { .. }
            | Request::Offer { .. }
            | Request::Remove { .. }
            | Request::Digest { .. }
            | Request::Survey { .. }
            | Request::Report { .. }
            | Request::Relay { .. }
            | Request::Ping => {}
        }
        self
    }
}

impl<Context> Decode<Context> for Errand {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        // No request of a peer lets this call itself: what is passed on is not passed on again.
        let number = decoder.reader().peek_read(1).and_then(|next| next.first().copied());
        match number {
            Some(number) if NUMBERS.contains(&number) => Ok(Self(Box::new(Decode::decode(decoder)?))),
            Some(_) | None => Err(DecodeError::Other("a request that is not passed on")),
        }
    }
}

bincode::impl_borrow_decode!(Errand);

impl Response {
    /// The number of the request that it answers.
    pub fn id(&self) -> Option<u64> {
        match self {
            Response::Forwarded { id, .. }
            | Response::Scanned { id, .. }
            | Response::Sized { id, .. }
            | Response::LeaseOver { id, .. }
            | Response::Chosen { id, .. }
            | Response::Removed { id }
            | Response::Digested { id, .. }
            | Response::Surveyed { id, .. }
            | Response::Reported { id, .. }
            | Response::Copied { id, .. }
            | Response::Unreached { id, .. }
            | Response::Flushed { id, .. } => Some(*id),
            Response::Welcome(_) | Response::Refused(_) | Response::Applied { .. } | Response::Pong => None,
        }
    }

    /// The same as an answer to another request.
    pub fn numbered(mut self, number: u64) -> Self {
        match &mut self {
            Response::Forwarded { id, .. }
            | Response::Scanned { id, .. }
            | Response::Sized { id, .. }
            | Response::LeaseOver { id, .. }
            | Response::Chosen { id, .. }
            | Response::Removed { id }
            | Response::Digested { id, .. }
            | Response::Surveyed { id, .. }
            | Response::Reported { id, .. }
            | Response::Copied { id, .. }
            | Response::Unreached { id, .. }
            | Response::Flushed { id, .. } => *id = number,
            Response::Welcome(_) | Response::Refused(_) | Response::Applied { .. } | Response::Pong => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::cluster::peer::FrameError;
    use crate::cluster::peer::decode;
    use crate::cluster::peer::encode;

    fn relay(errand: Errand) -> Request {
        let detour = Detour { from: NodeId::from_raw(1), to: NodeId::from_raw(2), given_up: 3 };
        Request::Relay { detour, errand }
    }

    #[test]
    fn nothing_is_passed_on_twice_however_it_is_written() {
        let once = relay(Errand::new(Request::Size { id: 1 }).unwrap());
        assert_eq!(decode(&mut BytesMut::from(&encode(&once)[..])), Ok(Some(once.clone())));
        assert_eq!(Errand::new(once.clone()), None);
        let twice = relay(Errand(Box::new(once)));
        let read = decode::<Request>(&mut BytesMut::from(&encode(&twice)[..]));
        assert!(matches!(read, Err(FrameError::Malformed(_))));
    }

    #[test]
    fn what_may_be_passed_on_is_read_and_has_the_number_that_it_is_given() {
        let (position, partitions) = (crate::cluster::peer::ScanPosition::START, Default::default());
        let requests = [
            Request::Scan { id: 1, position, visits: None, expected: None },
            Request::Flush { id: 1 },
            Request::Size { id: 1 },
            Request::Choose { id: 1 },
            Request::AwaitCopies { id: 1, partitions, age_ms: 2, wanted: 3, wait_ms: 4 },
        ];
        for request in requests {
            let errand = Errand::new(request).unwrap().numbered(7);
            assert_eq!(errand.id(), 7);
            let sent = relay(errand);
            assert_eq!(decode(&mut BytesMut::from(&encode(&sent)[..])), Ok(Some(sent)));
        }
        assert_eq!(Errand::new(Request::Ping), None);
        assert_eq!(
            Response::Sized { id: 1, keys: 2, expiring: 3, partitions: Default::default() }.numbered(9).id(),
            Some(9)
        );
        assert_eq!(Response::Pong.numbered(9).id(), None);
    }
}
