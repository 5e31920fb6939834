//! Asks a node's administrative port.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use ureq::Agent;

/// How long a connection may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a node that has left may take to end.
const END_WAIT_MAX: Duration = Duration::from_secs(20);
const END_LOOK_PERIOD: Duration = Duration::from_millis(50);
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

/// What a node can be asked for there.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// That it leaves the cluster for good.
    Leave,
    /// That a dead node is no member any more.
    Forget {
        /// Its name.
        name: &'a str,
    },
    /// Whether all copies of all partitions are alike.
    Verify {
        /// How long it may take until nothing differs.
        wait_ms: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Done {
    /// The node's answer.
    pub answer: Value,
    /// What it says, for people.
    pub text: String,
    /// False: copies differ.
    pub is_fine: bool,
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

    /// Asks for something, and waits until it is done; the process of a node that leaves has ended then.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub fn ask(&self, asked: Asked<'_>) -> Result<Done, AdminError> {
        match asked {
            Asked::Leave => {
                let answer = self.post("/leave")?;
                self.wait_for_end()?;
                let name = answer["left"].as_str().unwrap_or("it");
                let text = format!("{name} has left the cluster, and its process has ended\n");
                Ok(Done { answer, text, is_fine: true })
            }
            Asked::Forget { name } => {
                // In a path only some bytes stand for themselves.
                let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let answer = self.post(&format!("/forget?name={encoded}"))?;
                let (told, others) = (&answer["told"], &answer["others"]);
                let text = format!("{name} is forgotten; {told} of {others} other nodes know it already\n");
                Ok(Done { answer, text, is_fine: true })
            }
            Asked::Verify { wait_ms } => {
                let answer = self.post(&format!("/verify?wait_ms={wait_ms}"))?;
                let is_fine = answer["is_clean"].as_bool().unwrap_or(false);
                Ok(Done { text: comparison(&answer), answer, is_fine })
            }
        }
    }

    fn wait_for_end(&self) -> Result<(), AdminError> {
        let deadline = Instant::now() + END_WAIT_MAX;
        while self.is_healthy() {
            if Instant::now() >= deadline {
                let reason = "the node has left the cluster, but its process does not end";
                return Err(AdminError::Refused(reason.to_owned()));
            }
            std::thread::sleep(END_LOOK_PERIOD);
        }
        Ok(())
    }

    /// Whether the node answers.
    pub fn is_healthy(&self) -> bool {
        let answer = self.agent.get(format!("http://{}/healthz", self.address)).call();
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

/// What a comparison of all copies has found, a line for each of the differences that are named.
fn comparison(found: &Value) -> String {
    let mut text = String::new();
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    for difference in list(&found["differences"]) {
        let [partition, key] = [&difference["partition"], &difference["key"]];
        text.push_str(&format!("partition {partition}, key {key}:"));
        for (node, version) in difference["copies"].as_object().into_iter().flatten() {
            match version.as_u64() {
                Some(version) => text.push_str(&format!(" {node} has version {version:x}")),
                None => text.push_str(&format!(" {node} lacks it")),
            }
        }
        text.push('\n');
    }
    for node in list(&found["unreachable"]) {
        text.push_str(&format!("{} does not answer\n", node.as_str().unwrap_or_default()));
    }
    text.push_str(&format!(
        "{} copies of {} partitions compared, {} values: {} keys differ, {} evicted on one side; {} copies \
         missing, {} partitions without a primary; after {} ms\n",
        found["copies"],
        found["partitions"],
        found["values"],
        found["different"],
        found["evicted"],
        found["copies_missing"],
        found["partitions_without_primary"],
        found["took_ms"],
    ));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_comparison_names_what_differs_and_who_has_what() {
        let found = json!({
            "is_clean": false, "partitions": 4_096, "copies": 8_191, "copies_missing": 1, "values": 7,
            "partitions_without_primary": 0, "unreachable": ["n3"], "evicted": 2, "different": 1,
            "differences": [{ "partition": 5, "key": "a b", "copies": { "n1": 26, "n2": null } }],
            "took_ms": 9,
        });
        let text = comparison(&found);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "partition 5, key \"a b\": n1 has version 1a n2 lacks it");
        assert_eq!(lines[1], "n3 does not answer");
        assert!(
            lines[2]
                .starts_with("8191 copies of 4096 partitions compared, 7 values: 1 keys differ, 2 evicted")
        );
        assert_eq!(lines.len(), 3);
    }
}
