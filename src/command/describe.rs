//! What COMMAND answers: the command table as Redis clients read it.

use bytes::Bytes;

use crate::command::Invalid;
use crate::command::KeyPositions;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Verb;
use crate::command::help;
use crate::command::matches;
use crate::command::server::About;
use crate::command::server::NameFilter;

/// The answer to a question about commands.
pub fn describe(about: &About) -> Reply<'static> {
    match about {
        About::All => Reply::List(Verb::all().map(row).collect()),
        About::Some(names) => {
            let found = |name: &String| Verb::find(name.as_bytes()).map_or(Reply::Absent, row);
            Reply::List(names.iter().map(found).collect())
        }
        About::Count => Reply::Integer(Verb::all().len() as i64),
        About::Names(filter) => {
            let named = Verb::all().filter(|verb| is_meant(verb, filter));
            Reply::List(named.map(|verb| text(&verb.name().to_lowercase())).collect())
        }
        About::Documentation(names) => {
            let verbs: Vec<&Verb> = match names.is_empty() {
                true => Verb::all().collect(),
                false => names.iter().filter_map(|name| Verb::find(name.as_bytes())).collect(),
            };
            Reply::Map(verbs.into_iter().map(documentation).collect())
        }
        About::Keys(words) => match found_keys(words) {
            Ok((_, keys)) => Reply::List(keys.into_iter().map(|key| Reply::Bytes(key.to_vec())).collect()),
            Err(refusal) => Reply::Refused(refusal),
        },
        About::KeysAndFlags(words) => match found_keys(words) {
            Ok((verb, keys)) => Reply::List(keys_and_flags(verb, keys)),
            Err(refusal) => Reply::Refused(refusal),
        },
        About::Parts(command) => Reply::List(parts(command).map(Reply::Word).collect()),
    }
}

fn text(text: &str) -> Reply<'static> {
    Reply::Bytes(text.as_bytes().to_vec())
}

fn words(words: &[&'static str]) -> Reply<'static> {
    Reply::List(words.iter().copied().map(Reply::Word).collect())
}

fn is_meant(verb: &Verb, filter: &NameFilter) -> bool {
    match filter {
        NameFilter::All => true,
        NameFilter::Module => false,
        NameFilter::Category(category) => categories(verb).any(|of| of[1..] == **category),
        NameFilter::Pattern(pattern) => matches(pattern, verb.name().to_ascii_lowercase().as_bytes()),
    }
}

/// As Redis 7: name, arity, flags, the positions of the keys, categories, tips, what
/// is known of the keys, parts (none are described).
fn row(verb: &Verb) -> Reply<'static> {
    let keys = verb.keys();
    let specifications: Vec<Reply<'static>> = specifications(verb).into_iter().map(specification).collect();
    Reply::List(vec![
        text(&verb.name().to_lowercase()),
        Reply::Integer(verb.arity().into()),
        Reply::List(verb.flags().map(Reply::Word).collect()),
        Reply::Integer(keys.first.into()),
        Reply::Integer(keys.last.into()),
        Reply::Integer(keys.step.into()),
        Reply::List(categories(verb).map(Reply::Word).collect()),
        Reply::List(verb.tips().map(text).collect()),
        Reply::List(specifications),
        Reply::List(Vec::new()),
    ])
}

/// The categories of Redis' access lists that a command is in.
fn categories(verb: &Verb) -> impl Iterator<Item = &'static str> {
    let has = |flag: &str| verb.flags().any(|of| of == flag);
    let of_group = match verb.group() {
        "string" => Some("@string"),
        "generic" => Some("@keyspace"),
        "connection" => Some("@connection"),
        "scripting" => Some("@scripting"),
        "transactions" => Some("@transaction"),
        _ => None,
    };
    let is_dangerous = has("admin")
        || matches!(verb.name(), "KEYS" | "FLUSHALL" | "FLUSHDB" | "FLUSH" | "INFO" | "COMMAND" | "CLIENT");
    let all = [
        has("readonly").then_some("@read"),
        has("write").then_some("@write"),
        of_group,
        has("admin").then_some("@admin"),
        is_dangerous.then_some("@dangerous"),
        Some(if has("fast") { "@fast" } else { "@slow" }),
    ];
    all.into_iter().flatten()
}

/// Keys of a request, and what is done with them.
struct Specification {
    keys: KeyPositions,
    flags: &'static [&'static str],
}

/// Keys that the same is done with together; those of RENAME one by one.
fn specifications(verb: &Verb) -> Vec<Specification> {
    let one = |first: i8, flags| Specification { keys: KeyPositions { first, last: first, step: 1 }, flags };
    let all = |flags| vec![Specification { keys: verb.keys(), flags }];
    if verb.keys().first == 0 {
        return Vec::new();
    }
    match verb.name() {
        "RENAME" => vec![one(1, &["RW", "access", "delete"]), one(2, &["OW", "update"])],
        "RENAMENX" => vec![one(1, &["RW", "access", "delete"]), one(2, &["OW", "insert"])],
        "DEL" | "UNLINK" | "DELETE" => all(&["RM", "delete"]),
        "GETDEL" => all(&["RW", "access", "delete"]),
        "SET" | "SETEX" | "PSETEX" | "MSET" => all(&["OW", "update"]),
        "SETNX" | "MSETNX" => all(&["OW", "insert"]),
        "APPEND" => all(&["RW", "insert"]),
        "SETRANGE" | "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" | "PERSIST" => all(&["RW", "update"]),
        "GET" | "MGET" | "GETRANGE" | "SUBSTR" | "TTL" | "PTTL" | "EXPIRETIME" | "PEXPIRETIME" => {
            all(&["RO", "access"])
        }
        _ if verb.flags().any(|flag| flag == "readonly") => all(&["RO"]),
        _ => all(&["RW", "access", "update"]),
    }
}

/// Where keys are, counted from the first of them.
fn specification(specification: Specification) -> Reply<'static> {
    let Specification { keys, flags } = specification;
    let number = |name, number: i8| (text(name), Reply::Integer(number.into()));
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    let begin =
        vec![(text("type"), text("index")), (text("spec"), Reply::Map(vec![number("index", keys.first)]))];
    let range = vec![number("lastkey", last), number("keystep", keys.step), number("limit", 0)];
    let find = vec![(text("type"), text("range")), (text("spec"), Reply::Map(range))];
    Reply::Map(vec![
        (text("flags"), words(flags)),
        (text("begin_search"), Reply::Map(begin)),
        (text("find_keys"), Reply::Map(find)),
    ])
}

fn documentation(verb: &Verb) -> (Reply<'static>, Reply<'static>) {
    let fields = [("summary", verb.summary()), ("since", verb.since()), ("group", verb.group())];
    let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
    (text(&verb.name().to_lowercase()), Reply::Map(fields))
}

fn found_keys(words: &[Bytes]) -> Result<(&'static Verb, Vec<&Bytes>), Refusal> {
    let verb = words.first().and_then(|name| Verb::find(name)).ok_or(Invalid::NoCommand)?;
    if verb.keys().first == 0 && verb.flags().all(|flag| flag != "movablekeys") {
        return Err(Invalid::NoKeys.into());
    }
    if !verb.takes(words.len()) {
        return Err(Invalid::WordCountSpecified.into());
    }
    let keys: Vec<&Bytes> = verb.keys_in(words).collect();
    if keys.is_empty() { Err(Invalid::NoKeys.into()) } else { Ok((verb, keys)) }
}

fn keys_and_flags(verb: &Verb, keys: Vec<&Bytes>) -> Vec<Reply<'static>> {
    let specifications = specifications(verb);
    let with_flags = |(index, key): (usize, &Bytes)| {
        let of_key = specifications.get(index).or(specifications.last());
        Reply::List(vec![
            Reply::Bytes(key.to_vec()),
            words(of_key.map_or(&["RW", "access", "update"], |of_key| of_key.flags)),
        ])
    };
    keys.into_iter().enumerate().map(with_flags).collect()
}

/// As `<command> HELP` says it.
fn parts(command: &str) -> impl Iterator<Item = &'static str> {
    help::parts(command).iter().copied().chain(["HELP", "    Print this help."])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(words: &[&'static str], about: fn(Vec<Bytes>) -> About) -> Reply<'static> {
        describe(&about(words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect()))
    }

    #[test]
    fn the_keys_of_a_request_are_found_and_mistakes_are_told_as_redis_does() {
        let ask = |words: &[&'static str]| keys_of(words, About::Keys);
        let list = Reply::List(vec![Reply::Bytes(b"a".to_vec()), Reply::Bytes(b"b".to_vec())]);
        assert_eq!(ask(&["mset", "a", "1", "b", "2"]), list);
        assert_eq!(ask(&["nothing"]), Reply::Refused(Invalid::NoCommand.into()));
        assert_eq!(ask(&["get"]), Reply::Refused(Invalid::WordCountSpecified.into()));
        assert_eq!(ask(&["ping"]), Reply::Refused(Invalid::NoKeys.into()));
    }

    #[test]
    fn each_key_of_a_request_comes_with_what_is_done_with_it() {
        let with = |key: &str, flags: &[&'static str]| Reply::List(vec![text(key), words(flags)]);
        let ask = |words: &[&'static str]| keys_of(words, About::KeysAndFlags);
        let (ow, rw) = (&["OW", "update"][..], &["RW", "access", "delete"][..]);
        assert_eq!(ask(&["mset", "a", "1", "b", "2"]), Reply::List(vec![with("a", ow), with("b", ow)]));
        assert_eq!(ask(&["rename", "a", "b"]), Reply::List(vec![with("a", rw), with("b", ow)]));
        assert_eq!(ask(&["get", "a"]), Reply::List(vec![with("a", &["RO", "access"])]));
    }

    #[test]
    fn every_command_is_described_and_one_that_does_not_exist_is_absent() {
        let count = Verb::all().len();
        let Reply::List(rows) = describe(&About::All) else { panic!("a list") };
        let Reply::Map(documented) = describe(&About::Documentation(Vec::new())) else { panic!("a map") };
        assert_eq!((rows.len(), documented.len()), (count, count));
        let some = About::Some(vec!["nothing".to_owned(), "GET".to_owned()]);
        assert_eq!(describe(&some), Reply::List(vec![Reply::Absent, rows[0].clone()]));
    }

    #[test]
    fn a_command_about_all_keys_says_whom_to_ask_and_others_say_nothing() {
        let tips = |name: &str| {
            let Reply::List(rows) = describe(&About::Some(vec![name.to_owned()])) else { panic!("a list") };
            let Reply::List(row) = rows.into_iter().next().unwrap() else { panic!("a row") };
            row[7].clone()
        };
        let told = ["request_policy:all_shards", "response_policy:agg_sum"].map(text);
        assert_eq!(tips("DBSIZE"), Reply::List(told.into()));
        assert_eq!(tips("GET"), Reply::List(Vec::new()));
    }

    #[test]
    fn commands_are_listed_by_pattern_and_by_category() {
        let names = |filter| match describe(&About::Names(filter)) {
            Reply::List(names) => names,
            other => panic!("{other:?}"),
        };
        assert_eq!(names(NameFilter::All).len(), Verb::all().len());
        assert_eq!(names(NameFilter::Module), []);
        assert_eq!(names(NameFilter::Pattern(Bytes::from_static(b"g?t"))), [text("get")]);
        let strings = names(NameFilter::Category("string".to_owned()));
        assert!(strings.contains(&text("get")) && !strings.contains(&text("del")));
        assert_eq!(names(NameFilter::Category("nothing".to_owned())), []);
    }

    #[test]
    fn the_parts_of_a_command_end_with_the_one_that_lists_them() {
        for command in ["CLIENT", "CONFIG", "COMMAND", "OBJECT", "MEMORY"] {
            let lines: Vec<&str> = parts(command).collect();
            assert!(lines.len() > 4 && lines[0].starts_with(command), "{lines:?}");
            assert_eq!(lines.last(), Some(&"    Print this help."));
        }
    }
}
