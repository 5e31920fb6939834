use super::*;
use crate::command::ExpireCondition;
use crate::command::Expiry;
use crate::command::KeyCommand;
use crate::command::Many;
use crate::command::Op;
use crate::command::Set;
use crate::command::SetAnswer;
use crate::command::SetCondition;
use crate::command::client::Client;
use crate::command::client::ClientFilter;
use crate::command::client::ClientKind;
use crate::command::client::Replies;
use crate::command::server::Server;
use crate::store::Blob;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const ENTRY_BYTES_MAX: usize = 1_024;

fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn parsed(line: &str) -> Result<Command, Refusal> {
    parse(&words(line), NOW, ENTRY_BYTES_MAX)
}

fn op(line: &str) -> Op {
    match parsed(line) {
        Ok(Command::Key(KeyCommand { key, op })) => {
            assert_eq!(&key.0[..], b"k", "{line}");
            op
        }
        other => panic!("{line}: {other:?}"),
    }
}

fn at(millis: u64) -> Expiry {
    Expiry::At(Timestamp::from_millis(millis))
}

fn set(expiry: Expiry, condition: SetCondition, answer: SetAnswer) -> Op {
    Op::Set(Set { value: Blob(Bytes::from_static(b"v")), expiry, condition, answer })
}

#[test]
fn every_command_is_parsed_by_the_arity_that_the_table_says() {
    for verb in Verb::all() {
        let arity = usize::from(verb.arity().unsigned_abs());
        let too_few =
            [verb.name()].iter().chain(&vec!["1"; arity.saturating_sub(2)]).copied().collect::<Vec<_>>();
        if too_few.len() < arity {
            assert_eq!(parsed(&too_few.join(" ")), Err(verb.word_count()), "{verb:?}");
        }
        if verb.arity() > 0 {
            let too_many = format!("{}{}", verb.name(), " 1".repeat(arity));
            assert_eq!(parsed(&too_many), Err(verb.word_count()), "{verb:?}");
        }
    }
}

#[test]
fn the_options_of_set_come_in_any_order_and_case() {
    use SetAnswer::Done;
    use SetAnswer::Former;
    use SetCondition::Always;
    use SetCondition::IfAbsent;
    use SetCondition::IfPresent;
    for (line, expected) in [
        ("SET k v", set(Expiry::Never, Always, Done)),
        ("set k v ex 10", set(at(1_010_000), Always, Done)),
        ("SET k v PX 10 NX", set(at(1_000_010), IfAbsent, Done)),
        ("SET k v XX GET EXAT 5", set(at(5_000), IfPresent, Former)),
        ("SET k v GET PXAT 5 NX", set(at(5), IfAbsent, Former)),
        ("SET k v KEEPTTL XX", set(Expiry::Keep, IfPresent, Done)),
        ("SET k v NX NX", set(Expiry::Never, IfAbsent, Done)),
        ("SETNX k v", set(Expiry::Never, IfAbsent, SetAnswer::Number)),
        ("GETSET k v", set(Expiry::Never, Always, Former)),
        ("SETEX k 1 v", set(at(1_001_000), Always, Done)),
        ("PSETEX k 1 v", set(at(1_000_001), Always, Done)),
    ] {
        assert_eq!(op(line), expected, "{line}");
    }
}

#[test]
fn options_that_exclude_each_other_or_lack_their_number_are_a_syntax_error() {
    for line in [
        "SET k v NX XX",
        "SET k v XX NX",
        "SET k v EX 1 PX 1",
        "SET k v EX 1 KEEPTTL",
        "SET k v KEEPTTL PXAT 1",
        "SET k v KEEPTTL KEEPTTL",
        "SET k v EX",
        "SET k v what",
        "GETEX k EX 1 PERSIST",
        "GETEX k KEEPTTL",
        "GETEX k PX",
        "SCAN 0 MATCH",
        "SCAN 0 COUNT 0",
        "SCAN 0 what 1",
        "FLUSHALL what",
        "FLUSHALL ASYNC SYNC",
    ] {
        assert_eq!(parsed(line), Err(Invalid::Syntax.into()), "{line}");
    }
}

#[test]
fn an_expiry_becomes_absolute_and_one_that_cannot_be_told_is_refused() {
    let expire = |millis, condition| Op::Expire { at: Timestamp::from_millis(millis), condition };
    assert_eq!(op("EXPIRE k 10"), expire(1_010_000, ExpireCondition::Always));
    assert_eq!(op("PEXPIRE k -5000000 NX"), expire(0, ExpireCondition::IfNone));
    assert_eq!(op("EXPIREAT k 10 gt"), expire(10_000, ExpireCondition::IfGreater));
    assert_eq!(op("PEXPIREAT k 10 XX LT"), expire(10, ExpireCondition::IfSomeAndLess));
    assert_eq!(op("PEXPIREAT k 10 XX GT"), expire(10, ExpireCondition::IfGreater));
    assert_eq!(op("GETEX k EX 10"), Op::GetExpire(at(1_010_000)));
    assert_eq!(op("GETEX k"), Op::GetExpire(Expiry::Keep));
    assert_eq!(op("GETEX k PERSIST"), Op::GetExpire(Expiry::Never));
    for line in [
        "SET k v EX 0",
        "SET k v PX -1",
        "SET k v EX 9223372036854775807",
        "SET k v PX 9223372036854775807",
        "SETEX k 0 v",
        "PSETEX k -1 v",
        "GETEX k EXAT 0",
        "EXPIRE k 9223372036854775807",
        "PEXPIRE k 9223372036854775807",
        "EXPIREAT k 9223372036854775807",
    ] {
        let command = line.split(' ').next().unwrap().to_lowercase();
        assert_eq!(parsed(line), Err(Invalid::ExpireTime { command }.into()), "{line}");
    }
}

#[test]
fn conditions_of_expire_that_exclude_each_other_are_told_as_redis_does() {
    for line in ["EXPIRE k 1 NX XX", "EXPIRE k 1 NX GT", "EXPIRE k 1 LT NX"] {
        assert_eq!(parsed(line), Err(Invalid::ExpireIfNoneAndOther.into()));
    }
    assert_eq!(parsed("EXPIRE k 1 GT LT"), Err(Invalid::ExpireIfGreaterAndLess.into()));
    let option = Invalid::Option { option: "what".to_owned() };
    assert_eq!(parsed("EXPIRE k 1 what"), Err(option.into()));
}

#[test]
fn numbers_are_read_as_strictly_as_redis_reads_them() {
    for (text, number) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("", None),
        ("-", None),
        ("-0", None),
        ("+1", None),
        ("01", None),
        (" 1", None),
        ("1 ", None),
        ("1.0", None),
        ("1e3", None),
        ("1\u{e9}", None),
    ] {
        assert_eq!(parse_integer(text.as_bytes()), number, "{text}");
    }
    for line in ["INCRBY k x", "EXPIRE k 1.5", "GETRANGE k 0 x", "SETRANGE k x v", "SELECT x", "SET k v EX x"]
    {
        assert_eq!(parsed(line), Err(Invalid::NotInteger.into()), "{line}");
    }
    assert_eq!(parsed("INCRBYFLOAT k x"), Err(Invalid::NotFloat.into()));
    assert_eq!(parsed("INCRBYFLOAT k nan"), Err(Invalid::NotFloat.into()));
    for infinite in ["inf", "+Inf", "-infinity"] {
        assert_eq!(parsed(&format!("INCRBYFLOAT k {infinite}")), Err(Invalid::NotFinite.into()));
    }
    assert_eq!(parsed("DECRBY k -9223372036854775808"), Err(Invalid::DecrementOverflow.into()));
    assert_eq!(parsed("SETRANGE k -1 v"), Err(Invalid::Offset.into()));
    assert_eq!(op("DECRBY k 5"), Op::Add(-5));
}

#[test]
fn several_keys_are_cut_into_parts_and_a_single_one_is_not() {
    let key = |name: &'static str| Bytes::from_static(name.as_bytes());
    assert_eq!(op("DEL k"), Op::Delete);
    assert_eq!(op("EXISTS k"), Op::Exists);
    let many = |line: &str| match parsed(line) {
        Ok(Command::Many(many)) => many,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(many("UNLINK a b"), Many::Delete(vec![key("a"), key("b")]));
    assert_eq!(many("MGET a"), Many::Get(vec![key("a")]));
    assert_eq!(many("MSET a 1 b 2"), Many::Set(vec![(key("a"), key("1")), (key("b"), key("2"))]));
    assert_eq!(parsed("MSET a 1 b"), Err(Verb::find(b"MSET").unwrap().word_count()));
    assert_eq!(parsed("MSETNX a 1 b 2"), Err(Invalid::CrossSlot.into()));
    assert_eq!(parsed("RENAME a b"), Err(Invalid::CrossSlot.into()));
    assert!(matches!(parsed("MSETNX {a}1 1 {a}2 2"), Ok(Command::Key(_))));
    assert!(matches!(parsed("RENAMENX {a}1 {a}2"), Ok(Command::Key(_))));
}

#[test]
fn what_is_larger_than_an_entry_is_refused_before_it_is_sent_anywhere() {
    let long = "x".repeat(ENTRY_BYTES_MAX);
    for (line, bytes) in [
        (format!("GET {long}x"), 1_025),
        (format!("SET k {long}"), 1_025),
        (format!("MSET a 1 k {long}"), 1_025),
        (format!("APPEND k {long}"), 1_025),
        (format!("SETEX k 1 {long}"), 1_025),
        (format!("DEL a {long}x"), 1_025),
    ] {
        let refusal = Refusal::EntryTooLarge { bytes, bytes_max: ENTRY_BYTES_MAX };
        assert_eq!(parsed(&line), Err(refusal), "{}", &line[..12]);
    }
    assert!(parsed(&format!("GET {long}")).is_ok());
}

#[test]
fn parts_of_commands_that_do_not_exist_are_told_with_their_names() {
    for (line, command, name) in [
        ("CLIENT what 1", "CLIENT", "what"),
        ("OBJECT size k", "OBJECT", "size"),
        ("CONFIG x", "CONFIG", "x"),
    ] {
        let name = name.to_owned();
        assert_eq!(parsed(line), Err(Invalid::Subcommand { command, name }.into()));
    }
    let word_count = |command: &str| Refusal::Invalid(Invalid::WordCount { command: command.to_owned() });
    assert_eq!(parsed("CLIENT ID 1"), Err(word_count("client|id")));
    assert_eq!(parsed("OBJECT ENCODING"), Err(word_count("object|encoding")));
    assert_eq!(parsed("CONFIG SET a"), Err(word_count("config|set")));
    assert_eq!(parsed("CONFIG SET a 1 b"), Err(word_count("config|set")));
    assert_eq!(parsed("CONFIG REWRITE"), Err(Invalid::NoConfigFile.into()));
    assert_eq!(parsed("DEBUG SLEEP 1"), Err(Invalid::NoDebug.into()));
    assert_eq!(parsed("SHUTDOWN ABORT"), Err(Invalid::NoShutdown.into()));
    assert_eq!(parsed("SHUTDOWN NOW NOSAVE"), Ok(Command::Server(Server::Shutdown)));
    assert_eq!(parsed("SHUTDOWN later"), Err(Invalid::Syntax.into()));
    assert_eq!(parsed("CONFIG GET"), Err(word_count("config|get")));
    assert_eq!(parsed("PING a b"), Err(word_count("ping")));
}

#[test]
fn hello_refuses_what_it_does_not_speak() {
    assert_eq!(parsed("HELLO 4"), Err(Invalid::Version.into()));
    assert_eq!(parsed("HELLO x"), Err(Invalid::VersionNotInteger.into()));
    assert_eq!(parsed("HELLO 3 AUTH default x"), Err(Invalid::NoPassword.into()));
    let option = Invalid::HelloOption { option: "SETNAME".to_owned() };
    assert_eq!(parsed("HELLO 3 SETNAME"), Err(option.into()));
    assert!(matches!(parsed("HELLO 3 SETNAME me"), Ok(Command::Server(Server::Hello(_)))));
    assert_eq!(parsed("AUTH x"), Err(Invalid::NoPassword.into()));
    assert_eq!(parsed("SELECT 1"), Err(Invalid::Database.into()));
    assert_eq!(parsed("SELECT 0"), Ok(Command::Nothing));
    let words = [Bytes::from_static(b"CLIENT"), Bytes::from_static(b"SETNAME"), Bytes::from_static(b"a b")];
    assert_eq!(parse(&words, NOW, ENTRY_BYTES_MAX), Err(Invalid::ClientName { what: "Client names" }.into()));
    assert_eq!(parsed("CLIENT ID"), Ok(Command::Server(Server::Client(Client::Id))));
}

#[test]
fn an_unknown_word_is_repeated_shortened_and_printable() {
    let unknown = |name: &str| Err(Refusal::UnknownCommand { name: name.to_owned() });
    assert_eq!(parsed("LPUSH k v"), unknown("LPUSH"));
    assert_eq!(parse(&[Bytes::from_static(b"a\0\xFF")], NOW, 8), unknown(r"a\x00\xff"));
    assert_eq!(parsed(&"x".repeat(65)), unknown(&("x".repeat(64) + "...")));
    assert_eq!(parse(&[], NOW, 8), unknown(""));
}

#[test]
fn connections_are_meant_as_redis_documents_it() {
    let client = |line: &str| match parsed(line) {
        Ok(Command::Server(Server::Client(client))) => client,
        other => panic!("{line}: {other:?}"),
    };
    let all = ClientFilter::default;
    assert_eq!(client("CLIENT LIST"), Client::List(all()));
    assert_eq!(client("CLIENT LIST ID 1 3"), Client::List(ClientFilter { ids: vec![1, 3], ..all() }));
    let kind = Some(ClientKind::Other);
    assert_eq!(client("CLIENT LIST TYPE pubsub"), Client::List(ClientFilter { kind, ..all() }));
    assert_eq!(client("CLIENT KILL 1.2.3.4:5"), Client::KillAddress(Bytes::from_static(b"1.2.3.4:5")));
    let others = ClientFilter { skips_asking: true, ..all() };
    assert_eq!(client("CLIENT KILL USER default"), Client::Kill(others.clone()));
    assert_eq!(client("CLIENT KILL SKIPME no"), Client::Kill(all()));
    let remote = Some(Bytes::from_static(b"a:1"));
    let wanted = ClientFilter { ids: vec![7], remote, ..others };
    assert_eq!(client("CLIENT KILL ID 7 ADDR a:1"), Client::Kill(wanted));
    assert_eq!(client("CLIENT REPLY SKIP"), Client::Reply(Replies::NotTheNext));
    for (line, text) in [
        ("CLIENT KILL ID 0", "client-id should be greater than 0"),
        ("CLIENT KILL ID x", "client-id should be greater than 0"),
        ("CLIENT KILL TYPE x", "Unknown client type 'x'"),
        ("CLIENT KILL USER x", "No such user 'x'"),
        ("CLIENT KILL SKIPME maybe", "syntax error"),
        ("CLIENT KILL ID 1 ADDR", "syntax error"),
        ("CLIENT KILL", "wrong number of arguments for 'client|kill' command"),
        ("CLIENT LIST ID", "syntax error"),
        ("CLIENT LIST ID x", "Invalid client ID"),
        ("CLIENT REPLY maybe", "syntax error"),
        ("CLIENT SETINFO LIB x", "Unrecognized option 'LIB'"),
        ("CLIENT MAINT_NOTIFICATIONS ON", "unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."),
    ] {
        assert_eq!(parsed(line).unwrap_err().to_string(), text, "{line}");
    }
}

#[test]
fn what_has_a_bound_of_its_own_is_taken_up_to_it_and_refused_beyond() {
    const MIB: usize = 1 << 20;
    let parsed = |line: &str, bytes: usize| {
        let mut words = words(line);
        words.push(Bytes::from(vec![b'x'; bytes]));
        parse(&words, NOW, 2 * MIB)
    };
    let too_large = |bytes, bytes_max| Err(Refusal::EntryTooLarge { bytes, bytes_max });
    assert!(parsed("MSETNX k v {k}2", MIB - 6).is_ok());
    assert_eq!(parsed("MSETNX k v {k}2", MIB - 5), too_large(MIB + 1, MIB));
    let release = "EVALSHA ae3671744a5dbb24ea37ef607b8b10ac7856d43e 1 k";
    assert!(parsed(release, MIB - 1).is_ok());
    assert_eq!(parsed(release, MIB), too_large(MIB + 1, MIB));
    for line in ["KEYS", "SCAN 0 MATCH"] {
        assert!(parsed(line, 1_024).is_ok(), "{line}");
        assert_eq!(parsed(line, 1_025), too_large(1_025, 1_024), "{line}");
    }
    for line in ["CLIENT SETNAME", "CLIENT SETINFO LIB-NAME", "HELLO 3 SETNAME"] {
        assert!(parsed(line, 256).is_ok(), "{line}");
        let refused = parsed(line, 257).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(Invalid::ClientName { .. })), "{line}: {refused}");
    }
}
