//! What the commands are called and how they are written: the command table, and the specification,
//! which a test keeps equal to it.

use std::collections::BTreeMap;

use cachegopher::command::Verb;

const SPECIFICATION: &str = include_str!("../../../proto-spec/commands.md");

/// How a command is written, such as `GET key`.
pub fn usage(verb: &Verb) -> &'static str {
    let heading = format!("\n### {}\n", verb.name());
    let section = SPECIFICATION.find(&heading).map(|start| &SPECIFICATION[start + heading.len()..]);
    let block = section.and_then(|section| section.split_once("```\n"));
    block.and_then(|(_, block)| block.lines().next()).unwrap_or_default()
}

/// All commands, a line per group; or one of them.
pub fn help(name: Option<&str>) -> String {
    match name.map(|name| Verb::find(name.as_bytes()).ok_or(name)) {
        Some(Ok(verb)) => {
            format!("{}\n  {}\n  group {}, since {}", usage(verb), verb.summary(), verb.group(), verb.since())
        }
        Some(Err(name)) => format!("there is no command {name}"),
        None => {
            let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            Verb::all().for_each(|verb| groups.entry(verb.group()).or_default().push(verb.name()));
            let group = |(group, names): (&str, Vec<&str>)| format!("{group}:\n  {}\n", names.join(" "));
            let groups: String = groups.into_iter().map(group).collect();
            format!("{groups}\nhelp COMMAND  how it is written\nexit          leave (also Ctrl-D)")
        }
    }
}

/// The commands that begin with this, in any case.
pub fn beginning_with(start: &str) -> impl Iterator<Item = &'static Verb> {
    let start = start.to_ascii_uppercase();
    Verb::all().filter(move |verb| verb.name().starts_with(&start))
}

/// What is still to be typed behind a line that names a command: the rest of its usage.
pub fn hint(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    let verb = Verb::find(words.next()?.as_bytes())?;
    let (typed, ends_with_blank) = (1 + words.count(), line.ends_with(' '));
    let rest: Vec<&str> = parts(usage(verb)).into_iter().skip(typed).collect();
    (!rest.is_empty()).then(|| format!("{}{}", if ends_with_blank { "" } else { " " }, rest.join(" ")))
}

/// The words of a usage; what stands in brackets is one.
fn parts(usage: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (position, letter) in usage.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                parts.push(&usage[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(&usage[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_how_it_is_written() {
        for verb in Verb::all() {
            assert!(usage(verb).starts_with(verb.name()), "{verb:?}: {:?}", usage(verb));
            assert!(help(Some(verb.name())).contains(verb.summary()));
            assert!(help(None).contains(verb.name()));
        }
        assert!(help(Some("nothing")).contains("no command nothing"));
    }

    #[test]
    fn what_is_still_to_be_typed_is_hinted_at() {
        assert_eq!(hint("get").as_deref(), Some(" key"));
        assert_eq!(hint("get ").as_deref(), Some("key"));
        assert_eq!(hint("SETEX k 5").as_deref(), Some(" value"));
        assert!(hint("set k v ").unwrap().starts_with("[NX | XX]"));
        assert_eq!(hint("get k"), None);
        assert_eq!(hint("nothing "), None);
        assert_eq!(hint(""), None);
    }

    #[test]
    fn commands_are_completed_in_any_case() {
        let names: Vec<&str> = beginning_with("getr").map(Verb::name).collect();
        assert_eq!(names, ["GETRANGE"]);
        assert!(beginning_with("").count() > 60);
    }
}
