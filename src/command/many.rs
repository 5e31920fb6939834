//! Commands about several keys, which may live on several nodes: cut into one command per key, whose
//! encoded replies are gathered. Each part is atomic, the whole is not; parts on one key keep their order.

use bytes::Bytes;

use crate::command::KeyCommand;
use crate::command::Op;
use crate::command::parse::check_one_slot;

/// Several keys and what is to be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Many {
    /// The values of keys.
    Get(Vec<Bytes>),
    /// Gives keys values.
    Set(Vec<(Bytes, Bytes)>),
    /// Deletes keys, and says how many there were.
    Delete(Vec<Bytes>),
    /// How many of the keys are there; one named twice counts twice.
    Exists(Vec<Bytes>),
    /// As [`Many::Exists`], and they count as used.
    Touch(Vec<Bytes>),
}

/// How the replies of the parts become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// All of them, in order.
    List,
    /// Their sum.
    Sum,
    /// Done, if all are.
    AllDone,
}

impl Many {
    /// How many parts it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Get(keys) | Self::Delete(keys) | Self::Exists(keys) | Self::Touch(keys) => keys.len(),
            Self::Set(pairs) => pairs.len(),
        }
    }

    /// Whether it has no parts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all its keys are of one slot.
    pub fn is_of_one_slot(&self) -> bool {
        match self {
            Self::Get(keys) | Self::Delete(keys) | Self::Exists(keys) | Self::Touch(keys) => {
                check_one_slot(keys.iter()).is_ok()
            }
            Self::Set(pairs) => check_one_slot(pairs.iter().map(|(key, _)| key)).is_ok(),
        }
    }

    /// How the replies of the parts become one.
    pub const fn gather(&self) -> Gather {
        match self {
            Self::Get(_) => Gather::List,
            Self::Set(_) => Gather::AllDone,
            Self::Delete(_) | Self::Exists(_) | Self::Touch(_) => Gather::Sum,
        }
    }

    /// The commands that it consists of, in order.
    pub fn parts(self) -> Vec<KeyCommand> {
        let each =
            |keys: Vec<Bytes>, op: Op| keys.into_iter().map(|key| KeyCommand::new(key, op.clone())).collect();
        match self {
            Self::Get(keys) => each(keys, Op::Get),
            Self::Set(pairs) => pairs.into_iter().map(|(key, value)| KeyCommand::set(key, value)).collect(),
            Self::Delete(keys) => each(keys, Op::Delete),
            Self::Exists(keys) => each(keys, Op::Exists),
            Self::Touch(keys) => each(keys, Op::Touch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_in_the_order_of_the_keys() {
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let get = Many::Get(vec![b.clone(), a.clone(), b.clone()]);
        assert_eq!((get.len(), get.gather()), (3, Gather::List));
        let keys: Vec<Bytes> = get.parts().into_iter().map(|part| part.key.0).collect();
        assert_eq!(keys, [b.clone(), a.clone(), b.clone()]);
        let set = Many::Set(vec![(a.clone(), b.clone()), (a.clone(), a.clone())]);
        assert_eq!(set.gather(), Gather::AllDone);
        assert_eq!(set.parts(), [KeyCommand::set(a.clone(), b), KeyCommand::set(a.clone(), a)]);
    }
}
