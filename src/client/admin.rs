//! Asks a node's administrative port.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// How long a connection may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Marks what no page in a browser could have sent, see `node::admin`.
const ASKING_HEADER: &str = "x-cachegopher";

/// Why there is no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The node did not do it, and says why.
    #[error("{0}")]
    Refused(String),
    /// Nobody answers there. It is unknown whether what was asked for is done.
    #[error("{address}: {reason}")]
    NoAnswer {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

/// The administrative port of one node.
#[derive(Clone, Debug)]
pub struct AdminClient {
    address: String,
    agent: Agent,
}

impl AdminClient {
    /// The port at `host:port`. Nothing is connected yet.
    pub fn new(address: &str) -> Self {
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT_WAIT_MAX))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        Self { address: address.to_owned(), agent }
    }

    /// Asks for something that changes the cluster or takes long, such as `/leave`. Waits for as long
    /// as it takes.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub fn post(&self, path_and_query: &str) -> Result<Value, AdminError> {
        let no_answer = |error: ureq::Error| AdminError::NoAnswer {
            address: self.address.clone(),
            reason: error.to_string(),
        };
        let url = format!("http://{}{path_and_query}", self.address);
        let mut response = self.agent.post(url).header(ASKING_HEADER, "1").send_empty().map_err(no_answer)?;
        let is_done = response.status().is_success();
        let answer: Value = response.body_mut().read_json().map_err(no_answer)?;
        match is_done {
            true => Ok(answer),
            false => Err(AdminError::Refused(answer["error"].as_str().unwrap_or("refused").to_owned())),
        }
    }

    /// Whether the node answers.
    pub fn is_healthy(&self) -> bool {
        let answer = self.agent.get(format!("http://{}/healthz", self.address)).call();
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}
