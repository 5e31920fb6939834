//! What the parts of a request cost that are ours: reading it, carrying it out, writing the answer.
//!
//! ```text
//! cargo bench --bench costs [-- NAME]
//! ```
//!
//! Keys of 16 bytes, values of 64, a million of them in a shard, as in `scripts/bench.sh`. The keys of a
//! round are asked for in random order, so that the caches of the processor help no more than in a node.

#![allow(clippy::unwrap_used, reason = "nobody is there to handle it")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use cachegopher::cluster::membership::Generation;
use cachegopher::cluster::membership::Identity;
use cachegopher::cluster::membership::NodeId;
use cachegopher::cluster::outgoing::Outgoing;
use cachegopher::cluster::ownership::Claim;
use cachegopher::cluster::ownership::Ownership;
use cachegopher::cluster::ownership::Standing;
use cachegopher::cluster::record::Record;
use cachegopher::cluster::ring::Ring;
use cachegopher::cluster::ring::WEIGHT_ONE;
use cachegopher::cluster::serving::Serving;
use cachegopher::cluster::view::Liveness;
use cachegopher::cluster::view::Member;
use cachegopher::cluster::view::View;
use cachegopher::command::Plain;
use cachegopher::command::Tenure;
use cachegopher::protocol::resp;
use cachegopher::protocol::resp::RespDecoder;
use cachegopher::protocol::resp::RespLimits;
use cachegopher::protocol::resp::RespVersion;
use cachegopher::protocol::text;
use cachegopher::protocol::text::TextLimits;
use cachegopher::store::Partition;
use cachegopher::store::PartitionSet;
use cachegopher::store::Shard;
use cachegopher::store::ShardLimits;
use cachegopher::time::Clock;
use cachegopher::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const ITEMS: u32 = 1_000_000;
const VALUE: &[u8] = &[b'v'; 64];
/// Requests of a batch: a deep pipeline.
const BATCH: usize = 64;

fn key(number: u32) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    key[4..].copy_from_slice(format!("{number:012}").as_bytes());
    key
}

/// As many requests of a client as a batch has.
fn requests(name: &str, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..BATCH {
        let key = key(rng.random_range(0..ITEMS));
        let key = std::str::from_utf8(&key).unwrap();
        let value = std::str::from_utf8(VALUE).unwrap();
        let request = match name {
            "text" => format!("GET {key}\r\n"),
            "get" => format!("*2\r\n$3\r\nGET\r\n$16\r\n{key}\r\n"),
            "set" => format!("*3\r\n$3\r\nSET\r\n$16\r\n{key}\r\n$64\r\n{value}\r\n"),
            _ => format!("*3\r\n$6\r\nINCRBY\r\n$16\r\n{key}\r\n$1\r\n1\r\n"),
        };
        bytes.extend_from_slice(request.as_bytes());
    }
    bytes
}

fn reading(criterion: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut group = criterion.benchmark_group("read 64 requests");
    group.throughput(Throughput::Elements(BATCH as u64));
    for name in ["get", "set"] {
        let bytes = requests(name, &mut rng);
        group.bench_function(format!("plain {name}"), |bencher| {
            bencher.iter(|| {
                let mut rest = &bytes[..];
                while let Some((request, length)) = resp::plain(rest) {
                    black_box(request);
                    rest = &rest[length..];
                }
            });
        });
    }
    let bytes = requests("text", &mut rng);
    group.bench_function("plain text get", |bencher| {
        bencher.iter(|| {
            let mut rest = &bytes[..];
            while let Some((request, length)) = text::plain(TextLimits::default(), rest) {
                black_box(request);
                rest = &rest[length..];
            }
        });
    });
    let bytes = requests("incrby", &mut rng);
    group.bench_function("decoder", |bencher| {
        let mut decoder = RespDecoder::new(RespLimits::default());
        let input = || BytesMut::from(&bytes[..]);
        bencher.iter_batched_ref(
            input,
            |input| {
                while let Ok(Some(words)) = decoder.decode(input) {
                    black_box(words);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A shard that has all partitions, of a node that is alone.
fn serving() -> Serving {
    let addr = SocketAddr::from(([127, 0, 0, 1], 21_337));
    let identity = Identity { node: NodeId::of_name("n1"), generation: Generation::from_raw(1), addr };
    let record = Record {
        node: identity.node,
        generation: identity.generation,
        revision: 1,
        name: "n1".to_owned(),
        host: "127.0.0.1".to_owned(),
        client_port: 31_337,
        redirect_port: 32_337,
        weight: WEIGHT_ONE,
        is_leaving: false,
        is_retiring: false,
        synced: PartitionSet::full(),
    };
    let ring = Arc::new(Ring::new([(identity.node, WEIGHT_ONE)], 1));
    let claim = Claim { node: identity.node, standing: Standing::Live, synced: PartitionSet::full() };
    let ownership = Ownership::new(&ring, &[claim], 1);
    let member = Member { identity, liveness: Liveness::Alive, record: Arc::new(record) };
    let view = Arc::new(View::new(identity.node, ring, vec![member], ownership));
    let store = Shard::new(ShardLimits::new(1 << 30), 1);
    let mut serving = Serving::new(store, Clock::default(), Tenure::new(1), 0, 1, view);
    let mut out = Outgoing::new();
    for number in 0..ITEMS {
        let key = key(number);
        let set = Plain::Set { key: &key, value: VALUE };
        let place = (Partition::of(&key), serving.store().hash(&key));
        assert!(serving.run_plain(place, &set, NOW, &mut out, |_| {}));
    }
    serving
}

fn carrying_out(criterion: &mut Criterion) {
    let mut serving = serving();
    let mut rng = StdRng::seed_from_u64(2);
    let mut group = criterion.benchmark_group("carry out and answer 64 requests");
    group.throughput(Throughput::Elements(BATCH as u64));
    for name in ["get", "set"] {
        group.bench_function(name, |bencher| {
            let (mut reply_bytes, mut out) = (Vec::new(), Outgoing::new());
            let keys = || -> Vec<Bytes> {
                (0..BATCH).map(|_| Bytes::copy_from_slice(&key(rng.random_range(0..ITEMS)))).collect()
            };
            bencher.iter_batched_ref(
                keys,
                |keys| {
                    reply_bytes.clear();
                    for key in &keys[..] {
                        let request = match name {
                            "get" => Plain::Get { key },
                            _ => Plain::Set { key, value: VALUE },
                        };
                        let place = (Partition::of(key), serving.store().hash(key));
                        serving.run_plain(place, &request, NOW, &mut out, |reply| {
                            resp::encode(RespVersion::Two, reply, &mut reply_bytes);
                        });
                    }
                    black_box(reply_bytes.len());
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(costs, reading, carrying_out);
criterion_main!(costs);
