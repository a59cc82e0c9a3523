//! The part of the configuration that is about labels.

use std::collections::BTreeMap;

use protocol::message::MAX_LABELS;

use super::reader::{Reader, Section};
use super::{CommandLabel, period};
use crate::labels::{check_key, check_value};

/// Reads the static labels and those from commands.
pub(super) fn read(
    fixed: Option<Section<'_>>,
    commands: Vec<Section<'_>>,
    reader: &mut Reader<'_>,
) -> (BTreeMap<String, String>, Vec<CommandLabel>) {
    let mut labels = BTreeMap::new();
    for (key, span, value) in fixed
        .map(|section| section.entries(reader))
        .unwrap_or_default()
    {
        let name = format!("labels.{key}");
        match check_key(&key).and_then(|()| check_value(&value)) {
            Err(error) => reader.wrong(span, &name, error),
            Ok(()) if labels.len() == MAX_LABELS => reader.wrong(span, &name, TOO_MANY),
            Ok(()) => drop(labels.insert(key, value)),
        }
    }
    let mut chosen: Vec<CommandLabel> = Vec::new();
    for section in commands {
        let taken =
            |name: &str| labels.contains_key(name) || chosen.iter().any(|other| other.name == name);
        let full = labels.len() + chosen.len() >= MAX_LABELS;
        chosen.extend(command(section, taken, full, reader));
    }
    (labels, chosen)
}

const TOO_MANY: &str = "too many labels: expected at most 32 in all";

fn command(
    mut section: Section<'_>,
    taken: impl Fn(&str) -> bool,
    full: bool,
    reader: &mut Reader<'_>,
) -> Option<CommandLabel> {
    for (key, wanted) in [
        ("name", "the label's key"),
        ("command", "an array: the program and its arguments"),
        ("period", "how often to run it, for example 60s, 5m or 1h"),
    ] {
        if !section.has(key) {
            section.missing(reader, key, wanted);
        }
    }
    let name = section.parsed(reader, "name", |name| match check_key(name) {
        Err(error) => Err(error),
        Ok(()) if taken(name) => Err("this label is set twice"),
        Ok(()) if full => Err(TOO_MANY),
        Ok(()) => Ok(name.to_owned()),
    });
    let command = program(&mut section, reader);
    let period = section.parsed(reader, "period", period::parse);
    section.finish(reader);
    Some(CommandLabel {
        name: name?,
        command: command?,
        period: period?,
    })
}

fn program(section: &mut Section<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let command = section.texts(reader, "command")?;
    if command.first().is_some_and(|program| !program.is_empty()) {
        return Some(command);
    }
    section.missing(reader, "command", "the program and its arguments");
    None
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn problems(text: &str) -> Vec<String> {
        parse(text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn wrong_labels_are_named() {
        let long = "x".repeat(257);
        for (text, said) in [
            (
                "[labels]\n\"a b\" = \"x\"".to_owned(),
                "2: labels.a b: expected 1 to 64",
            ),
            (
                format!("[labels]\na = \"{long}\""),
                "2: labels.a: expected at most 256",
            ),
            (
                "[labels]\na = 1".to_owned(),
                "2: labels.a: expected a string, found an integer",
            ),
        ] {
            let found = problems(&text);
            assert!(
                found.len() == 1 && found[0].starts_with(said),
                "{found:?} / {said}"
            );
        }
    }

    #[test]
    fn wrong_command_labels_are_named() {
        let label = |name: &str, command: &str, period: &str, more: &str| {
            format!(
                "[[command_labels]]\nname = {name}\ncommand = {command}\nperiod = {period}\n{more}"
            )
        };
        for (text, said) in [
            (
                label("\"a b\"", "[\"x\"]", "\"5s\"", ""),
                "2: command_labels[1].name: expected 1",
            ),
            (
                label("\"a\"", "[]", "\"5s\"", ""),
                "1: command_labels[1].command: missing",
            ),
            (
                label("\"a\"", "\"x\"", "\"5s\"", ""),
                "3: command_labels[1].command: expected an",
            ),
            (
                label("\"a\"", "[1]", "\"5s\"", ""),
                "3: command_labels[1].command: expected a",
            ),
            (
                label("\"a\"", "[\"x\"]", "\"1s\"", ""),
                "4: command_labels[1].period: expected a",
            ),
            (
                label("\"a\"", "[\"x\"]", "\"5s\"", "z = 1"),
                "5: command_labels[1].z: unknown key",
            ),
        ] {
            let found = problems(&text);
            assert!(
                found.len() == 1 && found[0].starts_with(said),
                "{found:?} / {said}"
            );
        }
    }

    #[test]
    fn a_label_is_set_once() {
        let text = "[labels]\na = \"1\"\n[[command_labels]]\nname = \"a\"\ncommand = [\"x\"]\nperiod = \"5s\"\n";
        assert_eq!(
            problems(text),
            ["4: command_labels[1].name: this label is set twice"]
        );
    }

    #[test]
    fn there_are_at_most_32_labels() {
        let mut text = "[labels]\n".to_owned();
        for i in 0..32 {
            text += &format!("l{i} = \"x\"\n");
        }
        assert!(parse(&text).is_ok());
        let one = "[[command_labels]]\nname = \"a\"\ncommand = [\"x\"]\nperiod = \"5s\"\n";
        let found = problems(&format!("{text}{one}"));
        assert!(
            found.len() == 1 && found[0].contains("at most 32"),
            "{found:?}"
        );
        let found = problems(&format!("{text}l32 = \"x\"\n"));
        assert!(
            found.len() == 1 && found[0].contains("at most 32"),
            "{found:?}"
        );
    }
}
