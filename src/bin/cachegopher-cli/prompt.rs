//! The prompt: a line in, an answer out, with history, completion, and a hint at what is still to be typed.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;

use cachegopher::command::Verb;
use rustyline::CompletionType;
use rustyline::Config;
use rustyline::Editor;
use rustyline::Helper;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use tokio::runtime::Runtime;

use crate::manual;
use crate::print;
use crate::print::Format;
use crate::session::Session;
use crate::words;

/// Lines that are remembered.
const HISTORY_LINES_MAX: usize = 2_000;
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Takes commands until the end.
pub fn run(runtime: &Runtime, session: &mut Session, format: Format) -> Result<(), String> {
    runtime.block_on(session.learn_nodes())?;
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES_MAX)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(|error| error.to_string())?
        .build();
    let mut editor: Editor<Typing, DefaultHistory> =
        Editor::with_config(config).map_err(|error| error.to_string())?;
    editor.set_helper(Some(Typing));
    let history = history();
    if let Some(file) = &history {
        // There is none at the first start.
        let _ = editor.load_history(file);
    }
    println!("help lists the commands, Tab completes them, Ctrl-D leaves.");
    let result = loop {
        match editor.readline(&format!("{}> ", session.node())) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                // A line that is not remembered can still be carried out.
                let _ = editor.add_history_entry(&line);
                if !carry_out(runtime, session, format, &line) {
                    break Ok(());
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    if let Some(file) = &history {
        editor.save_history(file).map_err(|error| format!("history {}: {error}", file.display()))?;
    }
    result
}

/// Carries out a line, and says whether another one follows.
fn carry_out(runtime: &Runtime, session: &mut Session, format: Format, line: &str) -> bool {
    let words = match words::split(line.as_bytes()) {
        Ok(words) => words,
        Err(reason) => {
            println!("{reason}");
            return true;
        }
    };
    let name = words.first().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase());
    match name.as_deref() {
        Some("exit" | "quit") => return false,
        Some("help" | "?") => {
            let about = words.get(1).map(|name| String::from_utf8_lossy(name));
            println!("{}", manual::help(about.as_deref()));
            return true;
        }
        Some(_) | None => {}
    }
    match runtime.block_on(session.ask(&words)) {
        Ok(answer) => {
            let mut out = std::io::stdout().lock();
            print::answer(&answer, format, &mut out).and_then(|()| out.flush()).is_ok()
        }
        Err(reason) => {
            println!("{reason}");
            true
        }
    }
}

/// Where typed lines are kept.
fn history() -> Option<PathBuf> {
    let named = std::env::var_os("CACHEGOPHER_HISTORY").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cachegopher_history")))
}

/// What helps while a line is typed.
struct Typing;

impl Completer for Typing {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let start = before.rfind(' ').map_or(0, |blank| blank + 1);
        let is_name = start == 0 || before[..start].trim().eq_ignore_ascii_case("help");
        if !is_name {
            return Ok((start, Vec::new()));
        }
        let word = &before[start..];
        // As it was begun: small letters stay small.
        let is_small = word.starts_with(|letter: char| letter.is_ascii_lowercase());
        let name =
            |verb: &'static Verb| if is_small { verb.name().to_lowercase() } else { verb.name().to_owned() };
        Ok((start, manual::beginning_with(word).map(name).collect()))
    }
}

impl Hinter for Typing {
    type Hint = String;

    fn hint(&self, line: &str, position: usize, _context: &rustyline::Context<'_>) -> Option<String> {
        (position == line.len()).then(|| manual::hint(line)).flatten()
    }
}

impl Highlighter for Typing {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("{DIM}{hint}{PLAIN}"))
    }
}

impl Validator for Typing {}

impl Helper for Typing {}
