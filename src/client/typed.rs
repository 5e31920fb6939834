//! Values of any type that serde knows, as bytes by bincode.

use bincode::config::Configuration;
use bincode::config::Limit;
use bincode::config::LittleEndian;
use bincode::config::Varint;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::client::Error;
use crate::client::SetOptions;

/// Bytes that a decoded value may claim: more than any entry has.
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

const CONFIGURATION: Configuration<LittleEndian, Varint, Limit<VALUE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();

impl Client {
    /// Gives a key a value of any type that serde knows. The bytes are those of bincode 2 in its standard
    /// configuration: they do not describe themselves, so whoever reads them must name the same type, and
    /// a type whose fields change should come with a new prefix of its keys.
    ///
    /// # Errors
    ///
    /// As [`Client::set`]; [`Error::Type`] if the value cannot be encoded.
    ///
    /// ```
    /// # mod a_node { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster-tests/support/example.rs")); }
    /// # a_node::example(async |address| {
    /// # let client = cachegopher::client::Client::connect([address]).await?;
    /// #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    /// struct Session {
    ///     user: String,
    ///     visits: u32,
    /// }
    ///
    /// let session = Session { user: "ada".to_owned(), visits: 3 };
    /// client.set_as("session:1", &session).await?;
    /// assert_eq!(client.get_as::<Session>("session:1").await?, Some(session));
    /// # Ok(()) });
    /// ```
    pub async fn set_as<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), Error> {
        self.set(key, encode(value)?).await
    }

    /// The same on a condition or for a time: see [`Client::set_with`].
    ///
    /// # Errors
    ///
    /// As [`Client::set_with`]; [`Error::Type`] if the value cannot be encoded.
    pub async fn set_as_with<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        options: SetOptions,
    ) -> Result<bool, Error> {
        self.set_with(key, encode(value)?, options).await
    }

    /// The value of a key that was set by [`Client::set_as`].
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; [`Error::Type`] if its bytes are not those of such a value.
    pub async fn get_as<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, Error> {
        self.get(key).await?.map(|bytes| decode(&bytes)).transpose()
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    bincode::serde::encode_to_vec(value, CONFIGURATION)
        .map_err(|error| Error::Type { reason: error.to_string() })
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let decoded = bincode::serde::decode_from_slice(bytes, CONFIGURATION);
    match decoded.map_err(|error| Error::Type { reason: error.to_string() })? {
        (value, used) if used == bytes.len() => Ok(value),
        (_, used) => Err(Error::Type { reason: format!("{} bytes are left over", bytes.len() - used) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_one_of_another_type_is_refused() {
        let value = ("ada".to_owned(), Some(7_u64), vec![1.5_f32]);
        let bytes = encode(&value).unwrap();
        assert_eq!(decode::<(String, Option<u64>, Vec<f32>)>(&bytes), Ok(value));
        assert!(matches!(decode::<String>(&bytes), Err(Error::Type { .. })));
        assert!(matches!(decode::<Vec<u64>>(&[255; 9]), Err(Error::Type { .. })));
    }
}
