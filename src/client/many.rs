//! Calls about many keys, and listings.
//!
//! Keys are grouped by the node that is primary for them, and each group is cut into pieces of a bounded
//! size, several of which are under way at a time. Each piece is a call of its own with its own deadline.

use std::collections::HashMap;
use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::TryStreamExt;
use futures_util::stream;

use crate::client::Answer;
use crate::client::Client;
use crate::client::Error;
use crate::client::api::integer;
use crate::client::api::unexpected;
use crate::client::api::value;
use crate::client::request::Effect;
use crate::client::request::Request;
use crate::store::Partition;

/// Keys in one piece.
const PIECE_KEYS_MAX: usize = 512;
/// Bytes of keys and values in one piece, a single key apart.
const PIECE_BYTES_MAX: usize = 1024 * 1024;
/// Pieces of one call that are under way at a time.
const PIECES_MAX: usize = 8;
/// About so many keys are looked at in one step of a listing.
const STEP_KEYS: &[u8] = b"1000";

/// Which of the arguments are in one piece.
type Piece = Vec<usize>;

impl Client {
    /// The values of many keys, in their order.
    ///
    /// # Errors
    ///
    /// That of the first piece that failed: see [`Error`].
    ///
    /// ```
    /// # mod a_node { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster-tests/support/example.rs")); }
    /// # a_node::example(async |address| {
    /// # let client = cachegopher::client::Client::connect([address]).await?;
    /// client.set_many(&[("red", "apple"), ("yellow", "banana")]).await?;
    /// let values = client.get_many(&["yellow", "blue"]).await?;
    /// assert_eq!(values[0].as_deref(), Some(&b"banana"[..]));
    /// assert_eq!(values[1], None);
    /// assert_eq!(client.delete_many(&["red", "yellow", "blue"]).await?, 2);
    /// # Ok(()) });
    /// ```
    pub async fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Bytes>>, Error> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let answers = self.pieces(Effect::Read, b"MGET", &keys, |key| vec![keys[key]]).await?;
        let mut values = vec![None; keys.len()];
        for (piece, answer) in answers {
            match answer {
                Answer::List(answers) if answers.len() == piece.len() => {
                    for (key, answer) in piece.into_iter().zip(answers) {
                        values[key] = value(answer)?;
                    }
                }
                other => return Err(unexpected(other)),
            }
        }
        Ok(values)
    }

    /// Gives many keys values, which do not expire. Each key is set atomically, the whole is not: after
    /// an error some may be set. Of a key named twice the last value stays.
    ///
    /// # Errors
    ///
    /// That of the first piece that failed: see [`Error`].
    pub async fn set_many(&self, pairs: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Result<(), Error> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).collect();
        // Pieces are not carried out in order.
        let last: HashMap<&[u8], &[u8]> = pairs.iter().copied().collect();
        let pairs: Vec<(&[u8], &[u8])> = last.into_iter().collect();
        let keys: Vec<&[u8]> = pairs.iter().map(|(key, _)| *key).collect();
        let words = |pair: usize| vec![pairs[pair].0, pairs[pair].1];
        self.pieces(Effect::Repeatable, b"MSET", &keys, words).await.map(drop)
    }

    /// Deletes many keys, and says how many were there. Where a piece had to be repeated because a node
    /// was lost, there may have been more.
    ///
    /// # Errors
    ///
    /// That of the first piece that failed; then some keys may be deleted: see [`Error`].
    pub async fn delete_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<u64, Error> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let answers = self.pieces(Effect::Repeatable, b"DEL", &keys, |key| vec![keys[key]]).await?;
        answers.into_iter().map(|(_, answer)| integer(answer).map(i64::unsigned_abs)).sum()
    }

    /// All keys of the cluster, as they are found. While partitions change hands a key may come twice, or
    /// not at all; otherwise all keys come once that are there all the time.
    ///
    /// ```
    /// # mod a_node { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster-tests/support/example.rs")); }
    /// # a_node::example(async |address| {
    /// # let client = cachegopher::client::Client::connect([address]).await?;
    /// use futures_util::TryStreamExt;
    ///
    /// client.set_many(&[("fruit:1", "apple"), ("fruit:2", "pear"), ("color:1", "red")]).await?;
    /// let mut keys = std::pin::pin!(client.keys_like("fruit:*"));
    /// let mut count = 0;
    /// while let Some(key) = keys.try_next().await? {
    ///     println!("{}", String::from_utf8_lossy(&key));
    ///     count += 1;
    /// }
    /// assert_eq!(count, 2);
    /// # Ok(()) });
    /// ```
    pub fn keys(&self) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        self.keys_like("*")
    }

    /// Those keys that match a pattern with `*`, `?` and `[a-z]`, as in Redis.
    pub fn keys_like(&self, pattern: &str) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        let (client, pattern) = (self.clone(), pattern.to_owned());
        let start = (Some(Bytes::from_static(b"0")), VecDeque::new());
        stream::try_unfold(start, move |(mut cursor, mut keys)| {
            let (client, pattern) = (client.clone(), pattern.clone());
            async move {
                loop {
                    if let Some(key) = keys.pop_front() {
                        return Ok(Some((key, (cursor, keys))));
                    }
                    let Some(at) = cursor else { return Ok(None) };
                    (cursor, keys) = client.step(&at, &pattern).await?;
                }
            }
        })
    }

    /// Some keys, and where to go on.
    async fn step(&self, cursor: &[u8], pattern: &str) -> Result<(Option<Bytes>, VecDeque<Bytes>), Error> {
        let words = [b"SCAN", cursor, b"MATCH", pattern.as_bytes(), b"COUNT", STEP_KEYS];
        let Answer::List(parts) = self.run(&Request::new(Effect::Read, None, &words)).await? else {
            return Err(Error::protocol("SCAN is not answered by a list"));
        };
        let parts: [Answer; 2] = parts.try_into().map_err(|parts| unexpected(Answer::List(parts)))?;
        match parts {
            [Answer::Value(next), Answer::List(keys)] => {
                let keys: Result<_, _> = keys.into_iter().filter_map(|key| value(key).transpose()).collect();
                Ok(((next != "0").then_some(next), keys?))
            }
            other => Err(unexpected(Answer::List(other.into()))),
        }
    }

    /// Carries out a command about many keys piece by piece.
    async fn pieces<'a>(
        &self,
        effect: Effect,
        command: &'static [u8],
        keys: &[&'a [u8]],
        words: impl Fn(usize) -> Vec<&'a [u8]>,
    ) -> Result<Vec<(Piece, Answer)>, Error> {
        let bytes = |key: usize| words(key).iter().map(|word| word.len()).sum();
        let requests: Vec<(Piece, Request)> = cut(self.groups(keys), bytes)
            .into_iter()
            .map(|piece| {
                let words: Vec<&[u8]> =
                    std::iter::once(command).chain(piece.iter().flat_map(|key| words(*key))).collect();
                let request = Request::new(effect, piece.first().map(|key| keys[*key]), &words);
                (piece, request)
            })
            .collect();
        let runs = requests.into_iter().map(|(piece, request)| async move {
            let answer = self.run(&request).await?;
            Ok((piece, answer))
        });
        stream::iter(runs).buffer_unordered(PIECES_MAX).try_collect().await
    }

    /// The positions of the keys, by the node that is primary for them.
    fn groups(&self, keys: &[&[u8]]) -> Vec<Piece> {
        let known = self.known();
        let mut groups: HashMap<Option<usize>, Piece> = HashMap::new();
        for (position, key) in keys.iter().enumerate() {
            let primary = known.map.holders(Partition::of(key)).first().copied();
            groups.entry(primary).or_default().push(position);
        }
        groups.into_values().collect()
    }
}

/// Cuts groups into pieces of a bounded size.
fn cut(groups: Vec<Piece>, bytes_of: impl Fn(usize) -> usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for group in groups {
        let mut bytes = 0;
        let mut piece = Piece::new();
        for key in group {
            let more = bytes_of(key);
            if !piece.is_empty() && (piece.len() == PIECE_KEYS_MAX || bytes + more > PIECE_BYTES_MAX) {
                pieces.push(std::mem::take(&mut piece));
                bytes = 0;
            }
            bytes += more;
            piece.push(key);
        }
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_lose_no_key() {
        let pieces = cut(vec![(0..1_200).collect(), vec![1_200]], |_| 10);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [512, 512, 176, 1]);
        assert_eq!(pieces.concat(), (0..=1_200).collect::<Vec<_>>());
        let large =
            cut(
                vec![(0..5).collect()],
                |key| if key == 2 { 2 * PIECE_BYTES_MAX } else { PIECE_BYTES_MAX / 2 },
            );
        assert_eq!(large, [vec![0, 1], vec![2], vec![3, 4]]);
        assert!(cut(Vec::new(), |_| 0).is_empty());
    }
}
