use super::*;
use crate::command::Command;
use crate::command::Together;
use crate::command::parse;
use crate::store::ShardLimits;

const START: u64 = 1_000_000;

/// A shard in which commands run as they are written, at a time of the test's own.
struct Bench {
    shard: Shard,
    clock: Clock,
    tenure: Tenure,
    now: u64,
    changes: Vec<Change>,
}

impl Bench {
    fn new() -> Self {
        let limits = ShardLimits { entry_bytes_max: 64, ..ShardLimits::new(4 << 20) };
        Self {
            shard: Shard::new(limits, 1),
            clock: Clock::default(),
            tenure: Tenure::new(1),
            now: START,
            changes: Vec::new(),
        }
    }

    /// The reply in words: a value as it is, a number, `(nil)`, or an error behind its code.
    fn run(&mut self, line: &str) -> String {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let now = Timestamp::from_millis(self.now);
        let command = match parse(&words, now, 64) {
            Ok(Command::Key(command) | Command::AwaitLease { command, .. }) => command,
            Ok(other) => panic!("{line}: {other:?}"),
            Err(refusal) => return format!("ERR {refusal}"),
        };
        let partition = Partition::of(&command.key.0);
        let executed = execute(&command, partition, &mut self.shard, &mut self.clock, &mut self.tenure, now);
        self.changes = executed.changes;
        Self::shown(line, executed.reply)
    }

    fn shown(line: &str, reply: Reply<'_>) -> String {
        match reply {
            Reply::List(replies) | Reply::Line(replies) => {
                let shown: Vec<String> = replies.into_iter().map(|reply| Self::shown(line, reply)).collect();
                format!("[{}]", shown.join(" "))
            }
            Reply::Done => "OK".to_owned(),
            Reply::Absent => "(nil)".to_owned(),
            Reply::Value(value) => String::from_utf8(value.to_vec()).unwrap(),
            Reply::Bytes(value) if value.is_empty() => "(empty)".to_owned(),
            Reply::Bytes(value) => String::from_utf8(value).unwrap(),
            Reply::Integer(number) => number.to_string(),
            Reply::Deleted(number) => number.to_string(),
            Reply::Word(word) => word.to_owned(),
            Reply::Refused(refusal) => format!("ERR {refusal}"),
            other => panic!("{line}: {other:?}"),
        }
    }

    /// Commands and their replies in turn, in lines of `command => reply`. An exclamation mark before
    /// a command: it changes something. A number alone: so many milliseconds pass.
    fn play(script: &str) {
        let mut bench = Self::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Ok(millis) = line.parse::<u64>() {
                bench.now += millis;
                continue;
            }
            let (command, expected) = line.split_once(" => ").unwrap();
            let changes_something = command.starts_with('!');
            assert_eq!(bench.run(command.trim_start_matches('!')), expected, "{line}");
            assert_eq!(!bench.changes.is_empty(), changes_something, "{line}");
        }
    }
}

#[test]
fn set_keeps_its_conditions_and_answers_as_asked() {
    Bench::play(
        "SET k v XX => (nil)
         !SET k v NX => OK
         SET k w NX => (nil)
         SET k w NX GET => v
         !SET k w XX GET => v
         !GETSET k x => w
         SETNX k y => 0
         GET k => x
         !GETSET new y => (nil)
         !SETNX newer y => 1
         SET absent y XX GET => (nil)
         EXISTS absent => 0",
    );
}

#[test]
fn a_value_is_gone_at_its_deadline_and_not_before() {
    Bench::play(
        "!SET k v PX 100 => OK
         99
         GET k => v
         PTTL k => 1
         1
         GET k => (nil)
         TTL k => -2
         EXISTS k => 0
         !SETEX k 10 v => OK
         TTL k => 10
         400
         TTL k => 10
         200
         TTL k => 9
         !SET k v KEEPTTL => OK
         PTTL k => 9400
         !SET k v => OK
         TTL k => -1
         !SET k v PXAT 1 => OK
         GET k => (nil)",
    );
}

#[test]
fn an_expiry_is_changed_on_its_conditions() {
    Bench::play(
        "EXPIRE k 10 => 0
         !SET k v => OK
         EXPIRE k 10 XX => 0
         EXPIRE k 10 GT => 0
         EXPIRE k 10 XX LT => 0
         !EXPIRE k 10 LT => 1
         EXPIRE k 20 NX => 0
         EXPIRE k 20 LT => 0
         EXPIRE k 5 GT => 0
         !EXPIRE k 20 GT => 1
         !EXPIRE k 15 XX => 1
         EXPIRETIME k => 1015
         PEXPIRETIME k => 1015000
         !PERSIST k => 1
         PERSIST k => 0
         PERSIST absent => 0
         !EXPIRE k 30 NX => 1
         !EXPIRE k -1 => 1
         EXISTS k => 0
         !SET k v => OK
         !PEXPIREAT k 5 => 1
         GET k => (nil)",
    );
}

#[test]
fn getex_and_getdel_answer_with_the_value() {
    Bench::play(
        "GETEX k EX 10 => (nil)
         GETDEL k => (nil)
         !SET k v => OK
         GETEX k => v
         GETEX k PERSIST => v
         !GETEX k EX 10 => v
         TTL k => 10
         GETEX k => v
         TTL k => 10
         !GETEX k PERSIST => v
         TTL k => -1
         !GETEX k PXAT 1 => v
         EXISTS k => 0
         !SET k v => OK
         !GETDEL k => v
         GET k => (nil)",
    );
}

#[test]
fn whole_numbers_are_counted_with_and_never_overflow() {
    Bench::play(
        "!INCR k => 1
         !INCRBY k 41 => 42
         !DECR k => 41
         !DECRBY k 50 => -9
         !SET k 9223372036854775807 EX 10 => OK
         INCR k => ERR increment or decrement would overflow
         !DECR k => 9223372036854775806
         TTL k => 10
         !SET k -9223372036854775808 => OK
         DECR k => ERR increment or decrement would overflow
         !SET k 1.5 => OK
         INCR k => ERR value is not an integer or out of range
         !SET k 01 => OK
         INCR k => ERR value is not an integer or out of range
         GET k => 01",
    );
}

#[test]
fn decimal_numbers_are_counted_with_and_keep_their_expiry() {
    Bench::play(
        "!INCRBYFLOAT k 10.5 => 10.5
         !INCRBYFLOAT k 0.1 => 10.6
         !INCRBYFLOAT k -5 => 5.6
         !SET k 5.0e3 EX 10 => OK
         !INCRBYFLOAT k 2.0e2 => 5200
         TTL k => 10
         !SET k abc => OK
         INCRBYFLOAT k 1 => ERR value is not a valid float
         !SET k 1e308 => OK
         INCRBYFLOAT k 1.7e308 => ERR increment would produce NaN or Infinity",
    );
}

#[test]
fn parts_of_values_are_read_and_written() {
    Bench::play(
        "!APPEND k Hello => 5
         !APPEND k World => 10
         STRLEN k => 10
         STRLEN absent => 0
         GETRANGE k 0 3 => Hell
         GETRANGE k -3 -1 => rld
         GETRANGE k 0 -1 => HelloWorld
         SUBSTR k 8 100 => ld
         GETRANGE k 5 3 => (empty)
         GETRANGE k 20 30 => (empty)
         GETRANGE k -100 1 => He
         GETRANGE k -1 -5 => (empty)
         GETRANGE k -100 -50 => H
         GETRANGE absent 0 -1 => (empty)
         !SETRANGE k 5 Redis => 10
         GET k => HelloRedis
         !SETRANGE k 9 sss => 12
         !SETRANGE new 2 x => 3
         !SETEX k 10 v => OK
         !APPEND k w => 2
         !SETRANGE k 0 x => 2
         TTL k => 10",
    );
}

#[test]
fn an_empty_range_neither_makes_a_key_nor_changes_one() {
    let mut bench = Bench::new();
    assert_eq!(bench.run("SETRANGE k 5 "), "0");
    assert_eq!(bench.run("EXISTS k"), "0");
    bench.run("SET k v");
    assert_eq!(bench.run("SETRANGE k 5 "), "1");
    assert!(bench.changes.is_empty());
    assert_eq!(bench.run("APPEND new "), "0");
    assert_eq!(bench.run("EXISTS new"), "1");
}

#[test]
fn nothing_grows_beyond_the_largest_entry() {
    let mut bench = Bench::new();
    bench.run(&format!("SET k {}", "x".repeat(63)));
    for line in
        ["APPEND k x", "SETRANGE k 63 x", "SETRANGE k 4294967295 x", "SETRANGE k 9223372036854775807 x"]
    {
        assert!(bench.run(line).starts_with("ERR key and value have "), "{line}");
        assert!(bench.changes.is_empty());
    }
    assert_eq!(bench.run("STRLEN k"), "63");
    assert_eq!(bench.run("RENAME k {k}longer"), "ERR key and value have 72 bytes, the limit is 64");
    assert_eq!(bench.run("STRLEN k"), "63");
}

#[test]
fn keys_are_deleted_counted_and_named() {
    Bench::play(
        "DEL k => 0
         TYPE k => none
         TOUCH k => 0
         !SET k v => OK
         TYPE k => string
         TOUCH k => 1
         !DEL k => 1
         DEL k => 0
         OBJECT ENCODING k => (nil)
         !SET k 12 => OK
         OBJECT ENCODING k => int
         !SET k short => OK
         OBJECT ENCODING k => embstr
         !SET k 012345678901234567890123456789012345678901234 => OK
         OBJECT ENCODING k => raw
         MEMORY USAGE absent => (nil)
         MEMORY USAGE k SAMPLES 5 => 73",
    );
}

#[test]
fn a_renamed_key_takes_its_expiry_along() {
    Bench::play(
        "RENAME {k}a {k}b => ERR no such key
         !SET {k}a 1 EX 10 => OK
         !SET {k}b 2 => OK
         RENAMENX {k}a {k}b => 0
         !RENAME {k}a {k}b => OK
         GET {k}b => 1
         TTL {k}b => 10
         EXISTS {k}a => 0
         !RENAMENX {k}b {k}c => 1
         RENAME {k}c {k}c => OK
         GET {k}c => 1",
    );
    let mut bench = Bench::new();
    bench.run("SET {k}a 1");
    bench.run("RENAME {k}a {k}b");
    let changed: Vec<(&[u8], bool)> =
        bench.changes.iter().map(|change| (&change.key[..], change.content == Content::Deleted)).collect();
    assert_eq!(changed, [(&b"{k}b"[..], false), (b"{k}a", true)]);
    assert!(bench.changes[0].version < bench.changes[1].version);
}

#[test]
fn several_keys_are_set_at_once_or_not_at_all() {
    Bench::play(
        "!MSETNX {k}a 1 {k}b 2 => 1
         MSETNX {k}c 3 {k}b 4 => 0
         EXISTS {k}c => 0
         MSETNX {k}b 3 {k}d 4 => 0
         EXISTS {k}d => 0
         GET {k}b => 2
         !MSETNX {k}e 1 {k}e 2 => 1
         GET {k}e => 2",
    );
}

#[test]
fn a_change_is_what_the_other_copies_need_and_later_than_the_one_before() {
    let mut bench = Bench::new();
    bench.run("SET k v EX 10");
    let set = bench.changes.remove(0);
    let expires_at = Some(Timestamp::from_millis(START + 10_000));
    assert_eq!(set.content, Content::Value { bytes: Bytes::from_static(b"v"), expires_at });
    bench.run("APPEND k w");
    let append = bench.changes.remove(0);
    assert_eq!(append.content, Content::Value { bytes: Bytes::from_static(b"vw"), expires_at });
    bench.run("DEL k");
    let delete = bench.changes.remove(0);
    assert_eq!(delete.content, Content::Deleted);
    assert!(set.version < append.version && append.version < delete.version);
}

#[test]
fn a_value_that_fits_no_shard_is_refused_with_the_limit() {
    let limits = ShardLimits { entry_bytes_max: usize::MAX, ..ShardLimits::new(4 << 20) };
    let mut shard = Shard::new(limits, 1);
    let command = KeyCommand::set(Bytes::from_static(b"k"), vec![0; 8 << 20].into());
    let partition = Partition::of(b"k");
    let now = Timestamp::from_millis(START);
    let executed = execute(&command, partition, &mut shard, &mut Clock::default(), &mut Tenure::new(1), now);
    assert!(matches!(executed.reply, Reply::Refused(Refusal::NoMemory { .. })));
    assert!(executed.changes.is_empty());
}

#[test]
fn known_scripts_do_what_their_texts_say() {
    Bench::play(
        "!SET lock me PX 1000 => OK
         EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 lock you => 0
         EVALSHA 1cac51482acf5858da00f6d685d68f886cd6b6b2 1 lock you 5000 => 0
         !EVALSHA 1cac51482acf5858da00f6d685d68f886cd6b6b2 1 lock me 5000 => 1
         EVALSHA f5f7bd3a3aa4a63c507c1155c5ea1219b350d992 1 lock me => 5000
         EVALSHA f5f7bd3a3aa4a63c507c1155c5ea1219b350d992 1 lock you => 0
         !EVALSHA a4e8783852e6b949f9ef3a97212805108459a890 1 lock me 1000 0 => 1
         PTTL lock => 6000
         !EVALSHA a4e8783852e6b949f9ef3a97212805108459a890 1 lock me 1000 1 => 1
         PTTL lock => 1000
         EVALSHA a4e8783852e6b949f9ef3a97212805108459a890 1 lock you 1000 1 => 0
         EVALSHA 1cac51482acf5858da00f6d685d68f886cd6b6b2 1 lock me soon => ERR value is not an integer or out of range
         !EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 lock me => 1
         EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 lock me => 0
         !SET lock me => OK
         EVALSHA a4e8783852e6b949f9ef3a97212805108459a890 1 lock me 1000 0 => 0
         !EVALSHA 1cac51482acf5858da00f6d685d68f886cd6b6b2 1 lock me 0 => 1
         EXISTS lock => 0
         !SET v 1 => OK
         EVALSHA 782e993d12091daacc7a3164ddf5c4624fe56042 1 v 2 0 => 0
         !EVALSHA 782e993d12091daacc7a3164ddf5c4624fe56042 1 v 2 1 => OK
         !EVALSHA 782e993d12091daacc7a3164ddf5c4624fe56042 1 v 3 2 PX 50 => OK
         PTTL v => 50
         EVALSHA a08c9c69b7c07ae2485190873b90d128a23e502d 1 v 4 9 => (nil)
         !EVALSHA a08c9c69b7c07ae2485190873b90d128a23e502d 1 w 4 9 => OK
         EVALSHA a08c9c69b7c07ae2485190873b90d128a23e502d 1 x 4 0 => ERR invalid expire time in 'setex' command
         TTL w => 9
         EVALSHA f4a7da3e5d8ea3b46642af08427151cae0190400 1 n 5 => (nil)
         !EVALSHA 4d15273b16b10c15e1d9202cbe93c959ab7d250b 1 n 5 => 5
         !EVALSHA f4a7da3e5d8ea3b46642af08427151cae0190400 1 n -2 => 3",
    );
}

#[test]
fn counters_begin_with_an_expiry_and_keep_it() {
    Bench::play(
        "!EVALSHA 628bd136a573a06b346879695681af12ccef300f 1 a 60 2 => 2
         TTL a => 60
         1000
         !EVALSHA 628bd136a573a06b346879695681af12ccef300f 1 a 60 2 => 4
         TTL a => 59
         !EVALSHA 0f8a745c1b5efe281bd1299ea0d1b2994c6ae601 1 b 1 700 => 1
         !EVALSHA 0f8a745c1b5efe281bd1299ea0d1b2994c6ae601 1 b 1 900 => 2
         PTTL b => 700
         !EVALSHA a1de965f42e177aa339706bd580f049065eca79a 1 c 3 60 => [3 60000]
         1000
         !EVALSHA a1de965f42e177aa339706bd580f049065eca79a 1 c 3 60 => [6 59000]
         !PERSIST c => 1
         !EVALSHA a1de965f42e177aa339706bd580f049065eca79a 1 c 1 60 => [7 60000]
         !EVALSHA 3f424a504987d231baa2e19159bb5def8ad32f87 1 d 0 500 => [1 500]
         100
         !EVALSHA 3f424a504987d231baa2e19159bb5def8ad32f87 1 d 0 500 => [2 400]
         !EVALSHA 3f424a504987d231baa2e19159bb5def8ad32f87 1 d 1 500 => [3 500]
         !EVALSHA 895b92e1712734e1b464999be23953485475357b 1 e 500 => [1 500]
         100
         !EVALSHA 895b92e1712734e1b464999be23953485475357b 1 e 500 => [2 400]
         EVALSHA 6aeb97ed6086dcdeafdc6fda3999a0d0e38ec96a 1 e => [2 400]
         EVALSHA_RO 6aeb97ed6086dcdeafdc6fda3999a0d0e38ec96a 1 e => [2 400]
         400
         EVALSHA 6aeb97ed6086dcdeafdc6fda3999a0d0e38ec96a 1 e => [(nil) -2]
         !EVALSHA 895b92e1712734e1b464999be23953485475357b 1 e 500 => [1 500]",
    );
}

#[test]
fn several_keys_are_locked_all_or_none() {
    Bench::play(
        "!EVALSHA e5a322e2634ef59a516e8ea150cb085afafee684 2 {t}a {t}b me 1000 => 2
         EVALSHA e5a322e2634ef59a516e8ea150cb085afafee684 2 {t}b {t}c you 1000 => 0
         EXISTS {t}c => 0
         EVALSHA ce46f80993d5dac20dd066eb301a4e37994bdbed 2 {t}a {t}b you 5000 => 0
         !EVALSHA ce46f80993d5dac20dd066eb301a4e37994bdbed 2 {t}a {t}b me 5000 => 2
         PTTL {t}b => 5000
         !SET {t}b you => OK
         !EVALSHA 0f0f23b9048b36752b5be114f357ba083449f908 2 {t}a {t}b me => 1
         GET {t}b => you
         EVALSHA e5a322e2634ef59a516e8ea150cb085afafee684 2 a b me 1000 => ERR Keys in request don't hash to the same slot",
    );
}

#[test]
fn a_sliding_window_weighs_what_was_before() {
    let acquire = "EVALSHA e8ac2a60cb040b0dbb56815a1e9c6fd032ce62e7 2 {w}/-1 {w} 4 10 1";
    let state = "EVALSHA e7a0a27d4101baabb124af209bb0245197a359a1 2 {w}/-1 {w} 10";
    Bench::play(&format!(
        "EVALSHA e8ac2a60cb040b0dbb56815a1e9c6fd032ce62e7 2 {{w}}/-1 {{w}} 4 10 5 => (nil)
         !{acquire} => 1
         !{acquire} => 1
         !{acquire} => 1
         !{acquire} => 1
         {acquire} => (nil)
         {state} => [(nil) -2 4 20000]
         10001
         !{acquire} => 1
         {acquire} => (nil)
         {state} => [4 9999 1 19999]
         5000
         !{acquire} => 1
         !{acquire} => 1
         {acquire} => (nil)
         {state} => [4 4999 3 14999]"
    ));
}

#[test]
fn only_known_scripts_run_and_only_with_their_words() {
    let sha1 = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    Bench::play(&format!(
        "EVAL return 0 => ERR only scripts of well-known libraries run here, 63143b6f8007b98c53ca2149822777b3566f9241 is none of them
         EVALSHA {sha1} 0 => ERR No matching script. Please use EVAL.
         EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 0 => ERR the script takes 1 keys and 1 arguments
         EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 k => ERR the script takes 1 keys and 1 arguments
         EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 -1 k v => ERR Number of keys can't be negative
         EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 3 k v => ERR Number of keys can't be greater than number of args
         EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 x k v => ERR value is not an integer or out of range
         EVALSHA_RO c3f8721cbb97f72bc19e972846bd7aaf91901658 1 k v => ERR Write commands are not allowed from read-only scripts."
    ));
}

#[test]
fn a_lease_is_given_to_one_caller_and_ends_with_any_change_of_the_key() {
    Bench::play(
        "GETLEASE k => [LEASE 9e3779b97f4a7c16]
         GETLEASE k WAIT 100 => [BUSY]
         SETLEASE k 0000000000000000 v => 0
         SETLEASE k lease v => ERR invalid lease token
         SETLEASE k 9e3779b97f4a7c16 v EX 0 => ERR invalid expire time in 'setlease' command
         SETLEASE k 9e3779b97f4a7c16 v EX => ERR value is not an integer or out of range
         SETLEASE k 9e3779b97f4a7c16 v IN 60 => ERR syntax error
         !SETLEASE k 9e3779b97f4a7c16 v EX 60 => 1
         SETLEASE k 9e3779b97f4a7c16 w => 0
         GETLEASE k => [HIT v]
         TTL k => 60
         !DEL k => 1
         GETLEASE k => [LEASE 3c6ef372fe94f82b]
         !SET k newer => OK
         SETLEASE k 3c6ef372fe94f82b older => 0
         GET k => newer
         !DEL k => 1
         GETLEASE k => [LEASE daa66d2c7ddf7440]
         DEL k => 0
         SETLEASE k daa66d2c7ddf7440 deleted => 0
         GETLEASE k => [LEASE 78dde6e5fd29f055]
         9999
         GETLEASE k => [BUSY]
         1
         SETLEASE k 78dde6e5fd29f055 late => 0
         GETLEASE k => [LEASE 1715609f7c746c6a]
         !SETLEASE k 1715609f7c746c6a 0 v => 1
         TTL k => -1",
    );
}

#[test]
fn a_stale_value_is_answered_at_once_while_one_caller_fetches_it_anew() {
    Bench::play(
        "!SET k old EX 60 => OK
         GETLEASE k STALE 30 => [HIT old]
         30000
         GETLEASE k => [HIT old]
         GETLEASE k WAIT 9 STALE 30 => [LEASE 9e3779b97f4a7c16 old]
         GETLEASE k 9 30 => [STALE old]
         GETLEASE k STALE 29 => [HIT old]
         !SETLEASE k 9e3779b97f4a7c16 60 new => 1
         GETLEASE k STALE 30 => [HIT new]
         GETLEASE k STALE => ERR syntax error
         GETLEASE k STALE -1 => ERR value is out of range, must be positive
         GETLEASE k x y => ERR value is not an integer or out of range
         !SET k forever => OK
         GETLEASE k STALE 999999999 => [HIT forever]",
    );
}

#[test]
fn a_repeated_write_does_not_win_over_what_was_written_since() {
    let mut bench = Bench::new();
    let key = Bytes::from_static(b"k");
    let set = |value: &'static [u8]| KeyCommand::set(key.clone(), Bytes::from_static(value));
    let repeat = |bench: &mut Bench, command: KeyCommand, sent_at: u64| {
        let sent_at = Version::last_of(Timestamp::from_millis(sent_at));
        let (partition, now) = (Partition::of(&key), Timestamp::from_millis(bench.now));
        let command = command.repeated(sent_at);
        let executed =
            execute(&command, partition, &mut bench.shard, &mut bench.clock, &mut bench.tenure, now);
        (executed.reply == Reply::Done, executed.changes.len())
    };
    // It never ran: nobody has written since.
    assert_eq!(bench.run("SET k old"), "OK");
    bench.now += 10;
    assert_eq!(repeat(&mut bench, set(b"new"), START), (true, 1));
    assert_eq!(bench.run("GET k"), "new");
    // Somebody has written, deleted or flushed since.
    for (line, after) in [("SET k other", "other"), ("DEL k", "(nil)")] {
        bench.now += 10;
        bench.run(line);
        let sent_at = bench.now - 5;
        bench.now += 10;
        assert_eq!(repeat(&mut bench, set(b"undone"), sent_at), (true, 0));
        assert_eq!(bench.run("GET k"), after);
    }
    let flushed = bench.clock.next(Timestamp::from_millis(bench.now));
    bench.shard.flush(Partition::of(&key), flushed);
    let sent_at = bench.now - 5;
    assert_eq!(repeat(&mut bench, set(b"undone"), sent_at), (true, 0));
    // Its own changes do not stop the rest of a transaction.
    let both = Together::new(vec![set(b"first"), set(b"second")]);
    let both = KeyCommand { key: Blob(key.clone()), op: Op::Together(both) };
    let sent_at = bench.now;
    assert_eq!(repeat(&mut bench, both, sent_at), (false, 1));
    assert_eq!(bench.run("GET k"), "second");
}
