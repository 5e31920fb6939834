//! Keeps the rules of `src/STYLE.md` that can be read off the source: floors, imports, lengths and
//! docs. The compiler and clippy keep others; review keeps the rest.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use cachegopher::node::settings::RawSettings;
use clap::Args;

/// Lines of a file without its tests.
const LINES_MAX: usize = 500;

/// Floors from the lowest to the highest. Those on one level must not know each other.
const FLOORS: [&[&str]; 6] =
    [&["time"], &["store"], &["command"], &["protocol", "cluster"], &["node", "client"], &["bin"]];

/// What only the shell may name.
const SHELL_ONLY: [&str; 10] = [
    "tokio::",
    "ractor::",
    "tracing::",
    "std::fs",
    "std::thread",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant",
    "SystemTime",
    "std::env",
];

/// A source file, without its tests.
struct Source {
    path: String,
    code: Vec<(usize, String)>,
    opening: String,
}

impl Source {
    /// The folder or file directly under `src` that it belongs to.
    fn floor(&self) -> &str {
        let first = self.path.split('/').next().expect("a path has a first part");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn level(&self) -> Option<usize> {
        level(self.floor())
    }

    fn is_shell(&self) -> bool {
        self.level() >= level("node")
    }

    /// Its lines without comments.
    fn statements(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_code = |(_, line): &(usize, &str)| !line.starts_with("//");
        self.code.iter().map(|(number, line)| (*number, line.trim())).filter(is_code)
    }
}

fn level(floor: &str) -> Option<usize> {
    FLOORS.iter().position(|level| level.contains(&floor))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn paths(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// All sources. Files that only tests use are left out: their module is declared behind `cfg(test)`.
fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    paths(&root(), &mut all);
    all.sort();
    let texts: Vec<(PathBuf, String)> =
        all.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    let test_only: Vec<PathBuf> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_kept = |(path, _): &(PathBuf, String)| !test_only.contains(path);
    texts.into_iter().filter(is_kept).map(|(path, text)| source(&path, &text)).collect()
}

fn source(path: &Path, text: &str) -> Source {
    let path = path.strip_prefix(root()).unwrap().display().to_string();
    // Tests stand last, in a module with a body.
    let lines: Vec<&str> = text.lines().collect();
    let begins_tests =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    let end = lines.windows(2).position(begins_tests).unwrap_or(lines.len());
    let code = (1..).zip(lines[..end].iter().map(|line| (*line).to_owned())).collect();
    Source { path, code, opening: lines.first().copied().unwrap_or_default().to_owned() }
}

fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib") => path.parent().unwrap().to_owned(),
        Some(_) | None => path.with_extension(""),
    };
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let named = declared.filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'));
    named.map(|name| folder.join(format!("{name}.rs"))).collect()
}

fn assert_tidy(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The floors that a line names by path.
fn floors_named(line: &str) -> impl Iterator<Item = &str> {
    let paths = line.match_indices("crate::").filter(|(start, _)| {
        // Not the end of another word.
        !line[..*start].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    });
    let own = paths.map(|(start, _)| &line[start + "crate::".len()..]);
    let from_outside =
        line.match_indices("cachegopher::").map(|(start, _)| &line[start + "cachegopher::".len()..]);
    own.chain(from_outside)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
}

#[test]
fn every_arrow_between_floors_leads_down() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let Some(own) = source.level() else {
            faults.push(format!("src/{}: {} is no floor", source.path, source.floor()));
            continue;
        };
        for (number, line) in source.statements() {
            for named in floors_named(line).filter(|named| *named != source.floor()) {
                match level(named) {
                    Some(level) if level < own => {}
                    Some(_) => {
                        faults.push(format!("src/{}:{number}: {} names {named}", source.path, source.floor()))
                    }
                    None => {}
                }
            }
        }
    }
    assert_tidy(faults);
}

#[test]
fn only_the_shell_names_sockets_actors_threads_files_clocks_and_the_log() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.is_shell() && source.path != "lib.rs") {
        for (number, line) in source.statements() {
            for word in SHELL_ONLY.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("src/{}:{number}: {word}: {line}", source.path));
            }
        }
    }
    assert_tidy(faults);
}

#[test]
fn one_use_names_one_item() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.statements() {
            let is_own = line.starts_with("use crate::") || line.starts_with("use cachegopher::");
            if is_own && line.contains(['{', '*']) {
                faults.push(format!("src/{}:{number}: {line}", source.path));
            }
        }
    }
    assert_tidy(faults);
}

#[test]
fn no_file_is_longer_than_can_be_read_at_once() {
    let long = sources().into_iter().filter(|source| source.code.len() >= LINES_MAX);
    assert_tidy(long.map(|source| format!("src/{}: {} lines", source.path, source.code.len())).collect());
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let silent = sources().into_iter().filter(|source| !source.opening.starts_with("//! "));
    assert_tidy(silent.map(|source| format!("src/{}: {}", source.path, source.opening)).collect());
}

#[test]
fn nothing_outside_tests_panics_without_saying_why() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.statements() {
            for word in [".unwrap()", "panic!(", "todo!(", "unimplemented!("] {
                if line.contains(word) {
                    faults.push(format!("src/{}:{number}: {word}: {line}", source.path));
                }
            }
        }
    }
    assert_tidy(faults);
}

#[test]
fn no_unsafe_code_is_allowed_anywhere() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.statements() {
            if line.contains("unsafe {") || line.contains("allow(unsafe_code") {
                faults.push(format!("src/{}:{number}: {line}", source.path));
            }
        }
    }
    assert_tidy(faults);
}

const SETTINGS_HEAD: &str = "| setting | what it is | default |\n|---|---|---|\n";

/// The settings that README shows: those that most people change.
const MAIN_SETTINGS: [&str; 10] = [
    "name",
    "bind",
    "port",
    "join",
    "copies",
    "ack",
    "max-memory",
    "eviction",
    "detection",
    "failover-wait-max-ms",
];

/// Rows of a table, as the node itself explains its settings.
fn settings(is_shown: impl Fn(&str) -> bool) -> String {
    let command = RawSettings::augment_args(clap::Command::new("serve"));
    let mut rows = String::new();
    for argument in command.get_arguments() {
        let (name, help) = (argument.get_long().unwrap(), argument.get_help().unwrap().to_string());
        let variable = format!("CACHEGOPHER_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(argument.get_env().unwrap().to_str().unwrap(), variable);
        let (what, default) = match help.split_once(" [default: ") {
            Some((what, default)) => (what.to_owned(), format!("`{}`", default.strip_suffix(']').unwrap())),
            None => (help, "none".to_owned()),
        };
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        let values = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        if is_shown(name) {
            rows.push_str(&format!("| `{name}` | {what}{values} | {default} |\n"));
        }
    }
    rows
}

/// The file with the rows of its table of settings replaced.
fn with_settings(text: &str, rows: &str) -> String {
    let (before, table) = text.split_once(SETTINGS_HEAD).expect("there is a table of settings");
    let after: String = table.split_inclusive('\n').skip_while(|line| line.starts_with('|')).collect();
    format!("{before}{SETTINGS_HEAD}{rows}{after}")
}

#[test]
fn the_tables_of_settings_say_what_the_node_says() {
    let top = root().parent().unwrap().to_owned();
    let all = settings(|_| true);
    let main = settings(|name| MAIN_SETTINGS.contains(&name));
    assert_eq!(main.lines().count(), MAIN_SETTINGS.len());
    for (file, rows) in [("proto-spec/settings.md", all), ("README.md", main)] {
        let said = fs::read_to_string(top.join(file)).unwrap();
        let due = with_settings(&said, &rows);
        if std::env::var_os("UPDATE_SETTINGS").is_some() {
            fs::write(top.join(file), due).unwrap();
        } else {
            assert!(said == due, "{file}: write it anew: UPDATE_SETTINGS=1 cargo test --test tidy");
        }
    }
}

#[test]
fn these_rules_find_what_breaks_them() {
    let text =
        "use crate::node::Node;\n// crate::node\nlet now = Instant::now();\n#[cfg(test)]\nmod tests {\n}\n";
    let broken = source(&root().join("store/shard.rs"), text);
    assert_eq!((broken.floor(), broken.code.len()), ("store", 3));
    let named: Vec<&str> = broken.statements().flat_map(|(_, line)| floors_named(line)).collect();
    assert_eq!(named, ["node"]);
    assert!(!broken.is_shell() && level("node") > broken.level());
    assert_eq!(level("protocol"), level("cluster"));
}
