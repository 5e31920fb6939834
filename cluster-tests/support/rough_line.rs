//! A node's cable of which every packet passes through our hands: lost, late, out of order, twice, again seconds
//! later, or with a bit turned over. For kernels without `netem`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use rand::Rng;
use rand::RngExt;
use tokio::sync::oneshot;
use tun_rs::AsyncDevice;
use tun_rs::SyncDevice;

/// What happens to packets, each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// So many of a hundred never arrive.
    pub lost: u8,
    /// A packet is late by any time up to this: so packets overtake each other.
    pub late_max: Duration,
    /// So many of a hundred arrive twice.
    pub doubled: u8,
    /// So many of a hundred arrive again, after [`REPLAYED_AFTER`].
    pub replayed: u8,
    /// So many of a hundred have a bit turned over. In a datagram no checksum of the network tells; in TCP
    /// one does, and the packet counts as lost.
    pub corrupted: u8,
}

/// When what is replayed arrives once more.
pub const REPLAYED_AFTER: Duration = Duration::from_secs(2);

const ETHERNET_BYTES: usize = 14;
const IP_V4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;
const UDP_BYTES: usize = 8;
/// A frame, as no device here sends longer ones.
const FRAME_BYTES_MAX: usize = 2_048;

/// The cable, between a device of the node and one of the switch. It ends when this is dropped.
pub struct RoughLine {
    faults: Arc<Mutex<Faults>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RoughLine {
    /// Carries what these two send from one to the other.
    pub fn between(node: SyncDevice, switch: SyncDevice) -> Self {
        let faults = Arc::new(Mutex::new(Faults::default()));
        let (end, ended) = oneshot::channel();
        let carried = Arc::clone(&faults);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let [node, switch] = [node, switch].map(|device| AsyncDevice::new(device).unwrap());
                tokio::select! {
                    _ = ended => {}
                    () = carry(&node, &switch, &carried) => {}
                    () = carry(&switch, &node, &carried) => {}
                }
            });
        });
        Self { faults, end: Some(end), thread: Some(thread) }
    }

    /// From now on packets fare like this.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }
}

impl Drop for RoughLine {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // What it panicked with has been printed.
            let _ = thread.join();
        }
    }
}

async fn carry(from: &AsyncDevice, to: &AsyncDevice, faults: &Mutex<Faults>) {
    let mut under_way: BinaryHeap<Reverse<(Instant, Vec<u8>)>> = BinaryHeap::new();
    let mut frame = [0; FRAME_BYTES_MAX];
    loop {
        let next = under_way.peek().map(|Reverse((due, _))| *due);
        let due = async {
            match next {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            length = from.recv(&mut frame) => {
                // A device that is down has nothing.
                let Ok(length) = length else { continue };
                let now = Instant::now();
                let fates = fates(&frame[..length], *faults.lock().unwrap(), &mut rand::rng());
                under_way.extend(fates.into_iter().map(|(late, frame)| Reverse((now + late, frame))));
            }
            () = due => {
                if let Some(Reverse((_, frame))) = under_way.pop() {
                    // A device that is down takes nothing: the packet is lost.
                    let _ = to.send(&frame).await;
                }
            }
        }
    }
}

/// When a frame arrives, and as what.
fn fates(frame: &[u8], faults: Faults, chance: &mut impl Rng) -> Vec<(Duration, Vec<u8>)> {
    if frame.get(12..ETHERNET_BYTES) != Some(&IP_V4) {
        return vec![(Duration::ZERO, frame.to_vec())];
    }
    let copies = 1 + usize::from(happens(faults.doubled, chance));
    let mut arriving = Vec::new();
    for _ in 0..copies {
        if happens(faults.lost, chance) {
            continue;
        }
        let late = faults.late_max.mul_f64(chance.random_range(0.0..=1.0));
        let mut frame = frame.to_vec();
        if happens(faults.corrupted, chance) {
            corrupt(&mut frame, chance);
        }
        if happens(faults.replayed, chance) {
            arriving.push((late + REPLAYED_AFTER, frame.clone()));
        }
        arriving.push((late, frame));
    }
    arriving
}

fn happens(of_a_hundred: u8, chance: &mut impl Rng) -> bool {
    chance.random_range(0..100) < of_a_hundred
}

/// Turns one bit of what a packet carries over. A datagram has no checksum of the network then (RFC 768:
/// zero), so that it arrives all the same.
fn corrupt(frame: &mut [u8], chance: &mut impl Rng) {
    let ip = ETHERNET_BYTES;
    let carried = ip + usize::from(frame[ip] & 0x0f) * 4;
    let is_udp = frame[ip + 9] == UDP;
    let first = carried + UDP_BYTES;
    if first >= frame.len() {
        return;
    }
    let byte = chance.random_range(first..frame.len());
    frame[byte] ^= 1 << chance.random_range(0..8);
    if is_udp {
        frame[carried + 6..first].fill(0);
    }
}
