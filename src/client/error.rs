//! What can go wrong with a call, by what the caller can do about it.

use crate::command::Refusal;

/// Why a call has no result. Each variant says what has happened to the data and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No node could do it within the deadline, and no node has done it: nothing has changed. *Try again
    /// later*, with a longer deadline, or treat it as a miss; if it stays, look at the cluster.
    #[error("no node could do it within the deadline, nothing has changed: {reason}")]
    Unavailable {
        /// What the last node that was tried said or did.
        reason: String,
    },
    /// It was sent, and no answer came: it may have been done or not. *Repeat it if doing it twice does
    /// no harm*; otherwise read first. Reads never end so, and writes that may be repeated only when all
    /// repetitions within the deadline remained without an answer.
    #[error("it may have been done or not: {reason}")]
    Unknown {
        /// What happened to the last node that was tried.
        reason: String,
    },
    /// The node understood and refused; nothing has changed, but for calls about many keys, of which
    /// some may have been done. *Do not repeat it*: change the request.
    #[error("refused: {text}")]
    Refused {
        /// The first word of the refusal, such as `ERR` or `OOM`.
        code: String,
        /// All of it.
        text: String,
    },
    /// The value is not of the type that was asked for, or a value cannot be encoded. *Ask for the type
    /// that was stored*, or store it anew.
    #[error("value of another type: {reason}")]
    Type {
        /// What does not fit.
        reason: String,
    },
    /// The client was given settings, or no address, with which it cannot work. *Change them.*
    #[error("settings: {reason}")]
    Settings {
        /// Which, and what they must be.
        reason: String,
    },
    /// What answered does not speak as a node does. *Check the address and the version*; a write may
    /// have been done.
    #[error("not the answer of a node: {reason}")]
    Protocol {
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Whether the call may have changed something.
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Protocol { .. } => true,
            Self::Unavailable { .. } | Self::Refused { .. } | Self::Type { .. } | Self::Settings { .. } => {
                false
            }
        }
    }

    /// Whether the same call may succeed a little later.
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Unknown { .. } => true,
            Self::Refused { .. } | Self::Type { .. } | Self::Settings { .. } | Self::Protocol { .. } => false,
        }
    }

    pub(super) fn protocol(reason: impl ToString) -> Self {
        Self::Protocol { reason: reason.to_string() }
    }
}

/// What an error reply means for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It has not run and may succeed a little later, or at another node.
    Later,
    /// It may have run: the node that had it was lost.
    Lost,
    /// It will always be refused.
    Never,
}

/// Codes of refusals of what has not run, and would at another time or place. A redirect port says MOVED:
/// it may be among the addresses that the application gave.
const LATER: [&str; 3] = ["CLUSTERDOWN", "TRYAGAIN", "MOVED"];
/// How a node refuses a connection, not a request.
const CONNECTIONS_REFUSED: &str = "ERR max number of clients";

/// What an error reply means, by its first word, as `proto-spec/resp.md` lists them.
pub(super) fn meaning(text: &str) -> Meaning {
    let code = text.split(' ').next().unwrap_or_default();
    if LATER.contains(&code) || text.starts_with(CONNECTIONS_REFUSED) {
        return Meaning::Later;
    }
    match text.strip_prefix("ERR ").is_some_and(|text| text == Refusal::Unknown.to_string()) {
        true => Meaning::Lost,
        false => Meaning::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Reply;
    use crate::protocol::resp;
    use crate::protocol::resp::RespVersion;

    fn said(refusal: Refusal) -> Meaning {
        let mut wire = Vec::new();
        resp::encode(RespVersion::Two, &Reply::Refused(refusal), &mut wire);
        meaning(std::str::from_utf8(&wire[1..wire.len() - 2]).unwrap())
    }

    #[test]
    fn a_refusal_is_understood_as_the_node_meant_it() {
        assert_eq!(said(Refusal::Unknown), Meaning::Lost);
        assert_eq!(said(Refusal::NoPrimary { partition: 1, waited_ms: 2 }), Meaning::Later);
        assert_eq!(said(Refusal::TooManyWaiting { waiting: 3 }), Meaning::Later);
        assert_eq!(said(Refusal::Incomplete { count: 1 }), Meaning::Later);
        assert_eq!(said(Refusal::TooManyConnections), Meaning::Later);
        assert_eq!(said(Refusal::Moved { slot: 1, address: "h:1".into() }), Meaning::Later);
        assert_eq!(said(Refusal::EntryTooLarge { bytes: 2, bytes_max: 1 }), Meaning::Never);
        assert_eq!(said(Refusal::NoMemory { bytes: 2, bytes_max: 1 }), Meaning::Never);
        assert_eq!(meaning(""), Meaning::Never);
    }
}
