//! How answers are shown: to people, to scripts, and as JSON.

use std::io;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cachegopher::client::Answer;
use serde_json::Value;
use serde_json::json;

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With types and quotes.
    Human {
        /// Errors in red.
        has_colour: bool,
    },
    /// Values as they are, a line end behind each.
    Raw,
    /// A JSON value per answer and line. What is no UTF-8 becomes `{"base64": …}`.
    Json,
}

const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Writes an answer and a line end.
pub fn answer(answer: &Answer, format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Human { has_colour } => {
            let mut text = Vec::new();
            human(answer, 0, has_colour, &mut text);
            out.write_all(&text)?;
        }
        Format::Raw => raw(answer, out)?,
        Format::Json => write!(out, "{}", json(answer))?,
    }
    out.write_all(b"\n")
}

fn human(answer: &Answer, indent: usize, has_colour: bool, out: &mut Vec<u8>) {
    match answer {
        Answer::Word(word) => out.extend_from_slice(word.as_bytes()),
        Answer::Error(text) => {
            let (red, plain) = if has_colour { (RED, PLAIN) } else { ("", "") };
            out.extend_from_slice(format!("{red}(error) {text}{plain}").as_bytes());
        }
        Answer::Integer(number) => out.extend_from_slice(format!("(integer) {number}").as_bytes()),
        Answer::Value(value) => out.extend_from_slice(quoted(value).as_bytes()),
        Answer::Text(text) => out.extend_from_slice(text.trim_ascii_end()),
        Answer::Absent => out.extend_from_slice(b"(nil)"),
        Answer::List(answers) if answers.is_empty() => out.extend_from_slice(b"(empty list)"),
        Answer::Map(pairs) if pairs.is_empty() => out.extend_from_slice(b"(empty map)"),
        Answer::List(answers) => {
            let width = answers.len().to_string().len();
            for (number, answer) in (1..).zip(answers) {
                start_line(number, indent, out);
                out.extend_from_slice(format!("{number:>width$}) ").as_bytes());
                human(answer, indent + width + 2, has_colour, out);
            }
        }
        Answer::Map(pairs) => {
            for (number, (name, value)) in (1..).zip(pairs) {
                start_line(number, indent, out);
                human(name, indent, has_colour, out);
                out.extend_from_slice(b" => ");
                human(value, indent + 4, has_colour, out);
            }
        }
    }
}

/// Every line but the first is indented; that one stands where its list begins.
fn start_line(number: usize, indent: usize, out: &mut Vec<u8>) {
    if number > 1 {
        out.push(b'\n');
        out.resize(out.len() + indent, b' ');
    }
}

fn raw(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    match answer {
        Answer::Word(text) => out.write_all(text.as_bytes()),
        Answer::Error(text) => write!(out, "(error) {text}"),
        Answer::Integer(number) => write!(out, "{number}"),
        Answer::Value(value) => out.write_all(value),
        Answer::Text(text) => out.write_all(text.trim_ascii_end()),
        Answer::Absent => Ok(()),
        Answer::List(answers) => {
            for (number, answer) in answers.iter().enumerate() {
                out.write_all(if number > 0 { b"\n" } else { b"" })?;
                raw(answer, out)?;
            }
            Ok(())
        }
        Answer::Map(pairs) => {
            for (number, (name, value)) in pairs.iter().enumerate() {
                out.write_all(if number > 0 { b"\n" } else { b"" })?;
                raw(name, out)?;
                out.write_all(b"\n")?;
                raw(value, out)?;
            }
            Ok(())
        }
    }
}

/// An answer as JSON.
pub fn json(answer: &Answer) -> Value {
    match answer {
        Answer::Word(text) => json!(text),
        Answer::Error(text) => json!({ "error": text }),
        Answer::Integer(number) => json!(number),
        Answer::Value(bytes) | Answer::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
        },
        Answer::Absent => Value::Null,
        Answer::List(answers) => answers.iter().map(json).collect(),
        Answer::Map(pairs) => {
            let name = |answer: &Answer| match json(answer) {
                Value::String(name) => name,
                other => other.to_string(),
            };
            Value::Object(pairs.iter().map(|(key, value)| (name(key), json(value))).collect())
        }
    }
}

/// Bytes in double quotes, so that they can be typed again.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                letter if letter.is_control() => {
                    letter.to_string().bytes().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
                }
                letter => text.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer_: &Answer, format: Format) -> String {
        let mut out = Vec::new();
        answer(answer_, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn value(bytes: &'static [u8]) -> Answer {
        Answer::Value(bytes.into())
    }

    fn nested() -> Answer {
        let pair = (Answer::Word("name".to_owned()), Answer::List(vec![value(b"a"), Answer::Absent]));
        Answer::List(vec![Answer::Integer(7), Answer::Map(vec![pair]), value(b"b")])
    }

    #[test]
    fn people_see_types_scripts_see_values_and_machines_see_json() {
        let human = Format::Human { has_colour: false };
        assert_eq!(shown(&value(b"it's \"x\"\n\xFF\0"), human), "\"it's \\\"x\\\"\\n\\xff\\x00\"\n");
        assert_eq!(shown(&Answer::Absent, human), "(nil)\n");
        assert_eq!(
            shown(&nested(), human),
            "1) (integer) 7\n2) name => 1) \"a\"\n          2) (nil)\n3) \"b\"\n"
                .replace("          ", "       ")
        );
        assert_eq!(shown(&nested(), Format::Raw), "7\nname\na\n\nb\n");
        assert_eq!(shown(&nested(), Format::Json), "[7,{\"name\":[\"a\",null]},\"b\"]\n");
        assert_eq!(shown(&value(b"\xFF"), Format::Json), "{\"base64\":\"/w==\"}\n");
        let error = Answer::Error("ERR no".to_owned());
        assert_eq!(shown(&error, Format::Json), "{\"error\":\"ERR no\"}\n");
        assert_eq!(shown(&error, Format::Human { has_colour: true }), "\x1b[31m(error) ERR no\x1b[0m\n");
    }

    #[test]
    fn what_people_see_of_a_value_can_be_typed_again() {
        let bytes: Vec<u8> = (0..=255).collect();
        let typed = crate::words::split(quoted(&bytes).as_bytes()).unwrap();
        assert_eq!(typed, [bytes]);
    }
}
