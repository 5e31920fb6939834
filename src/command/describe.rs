//! What COMMAND answers: the command table as Redis clients read it.

use bytes::Bytes;

use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Verb;
use crate::command::server::About;

/// The answer to a question about commands.
pub fn describe(about: &About) -> Reply<'static> {
    match about {
        About::All => Reply::List(Verb::all().map(row).collect()),
        About::Some(names) => {
            let found = |name: &String| Verb::find(name.as_bytes()).map_or(Reply::Absent, row);
            Reply::List(names.iter().map(found).collect())
        }
        About::Count => Reply::Integer(Verb::all().len() as i64),
        About::Names => Reply::List(Verb::all().map(|verb| text(&verb.name().to_lowercase())).collect()),
        About::Documentation(names) => {
            let verbs: Vec<&Verb> = match names.is_empty() {
                true => Verb::all().collect(),
                false => names.iter().filter_map(|name| Verb::find(name.as_bytes())).collect(),
            };
            Reply::Map(verbs.into_iter().map(documentation).collect())
        }
        About::Keys(words) => keys(words).unwrap_or_else(Reply::Refused),
    }
}

fn text(text: &str) -> Reply<'static> {
    Reply::Bytes(text.as_bytes().to_vec())
}

/// As Redis 7: name, arity, flags, the positions of the keys, then categories, tips, key
/// specifications and parts, of which only the tips say something.
fn row(verb: &Verb) -> Reply<'static> {
    let keys = verb.keys();
    let empty = || Reply::List(Vec::new());
    Reply::List(vec![
        text(&verb.name().to_lowercase()),
        Reply::Integer(verb.arity().into()),
        Reply::List(verb.flags().map(Reply::Word).collect()),
        Reply::Integer(keys.first.into()),
        Reply::Integer(keys.last.into()),
        Reply::Integer(keys.step.into()),
        empty(),
        Reply::List(verb.tips().map(text).collect()),
        empty(),
        empty(),
    ])
}

fn documentation(verb: &Verb) -> (Reply<'static>, Reply<'static>) {
    let fields = [("summary", verb.summary()), ("since", verb.since()), ("group", verb.group())];
    let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
    (text(&verb.name().to_lowercase()), Reply::Map(fields))
}

fn keys(words: &[Bytes]) -> Result<Reply<'static>, Refusal> {
    let verb = words.first().and_then(|name| Verb::find(name)).ok_or(Invalid::NoCommand)?;
    if !verb.takes(words.len()) {
        return Err(Invalid::WordCountSpecified.into());
    }
    let keys: Vec<Reply<'static>> = verb.keys_in(words).map(|key| Reply::Bytes(key.to_vec())).collect();
    if keys.is_empty() { Err(Invalid::NoKeys.into()) } else { Ok(Reply::List(keys)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_request_are_found_and_mistakes_are_told_as_redis_does() {
        let ask = |words: &[&'static str]| {
            describe(&About::Keys(words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect()))
        };
        let list = Reply::List(vec![Reply::Bytes(b"a".to_vec()), Reply::Bytes(b"b".to_vec())]);
        assert_eq!(ask(&["mset", "a", "1", "b", "2"]), list);
        assert_eq!(ask(&["nothing"]), Reply::Refused(Invalid::NoCommand.into()));
        assert_eq!(ask(&["get"]), Reply::Refused(Invalid::WordCountSpecified.into()));
        assert_eq!(ask(&["ping"]), Reply::Refused(Invalid::NoKeys.into()));
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
}
