//! Walks a TOML document and collects everything that is wrong with it.

use std::borrow::Cow;
use std::fmt::Display;

use toml_span::Span;
use toml_span::value::{Table, Value, ValueInner};

use super::Problem;

/// The document's text, and what was found to be wrong so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

/// A table of the document, with the keys that were not asked for yet.
pub(super) struct Section<'t> {
    name: String,
    span: Span,
    table: Table<'t>,
    asked: Vec<&'static str>,
}

impl<'t> Reader<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: Vec::new(),
        }
    }

    /// The root table, if the text is TOML at all.
    pub(super) fn document(&mut self) -> Option<Section<'t>> {
        match toml_span::parse(self.text) {
            Ok(mut value) => match value.take() {
                ValueInner::Table(table) => Some(Section::new(String::new(), value.span, table)),
                _ => None,
            },
            Err(error) => {
                self.wrong(error.span, "", &error);
                None
            }
        }
    }

    /// Notes a problem.
    pub(super) fn wrong(&mut self, span: Span, key: &str, text: impl Display) {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        self.problems.push(Problem {
            line,
            key: key.to_owned(),
            text: text.to_string(),
        });
    }

    /// `config`, if nothing was wrong.
    pub(super) fn finish<T>(mut self, config: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(config);
        }
        self.problems.sort_by_key(|problem| problem.line);
        Err(self.problems)
    }
}

impl<'t> Section<'t> {
    const fn new(name: String, span: Span, table: Table<'t>) -> Self {
        Self {
            name,
            span,
            table,
            asked: Vec::new(),
        }
    }

    /// A key of this section as people are told about it.
    pub(super) fn key(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.asked.push(key);
        self.table.remove(key)
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let mut value = self.take(key)?;
        let span = value.span;
        let text = text(&mut value, &self.key(key), reader)?;
        parse(&text)
            .map_err(|error| reader.wrong(span, &self.key(key), error))
            .ok()
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        let mut value = self.take(key)?;
        let wanted = format!("a number from {least} to {most}");
        let wrong = match value.take() {
            ValueInner::Integer(number) => match u32::try_from(number) {
                Ok(number) if (least..=most).contains(&number) => return Some(number),
                _ => format!("expected {wanted}"),
            },
            other => expected(&wanted, &other),
        };
        reader.wrong(value.span, &self.key(key), wrong);
        None
    }

    /// A list of texts.
    pub(super) fn texts(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Vec<String>> {
        let mut value = self.take(key)?;
        let name = self.key(key);
        match value.take() {
            ValueInner::Array(list) => list
                .into_iter()
                .map(|mut item| text(&mut item, &name, reader).map(Cow::into_owned))
                .collect(),
            other => {
                reader.wrong(value.span, &name, expected("an array of strings", &other));
                None
            }
        }
    }

    /// A table within this one.
    pub(super) fn section(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Section<'t>> {
        let value = self.take(key)?;
        section(value, self.key(key), reader)
    }

    /// An array of tables within this one; they are counted from 1.
    pub(super) fn sections(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Vec<Section<'t>> {
        let Some(mut value) = self.take(key) else {
            return Vec::new();
        };
        let name = self.key(key);
        match value.take() {
            ValueInner::Array(list) => list
                .into_iter()
                .zip(1..)
                .filter_map(|(item, i)| section(item, format!("{name}[{i}]"), reader))
                .collect(),
            other => {
                reader.wrong(value.span, &name, expected("an array of tables", &other));
                Vec::new()
            }
        }
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, reader: &mut Reader<'_>, key: &str, wanted: &str) {
        reader.wrong(
            self.span,
            &self.key(key),
            format!("missing; expected {wanted}"),
        );
    }

    /// Whether the section has the key, asked for or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// All entries of a table whose keys the user chooses, as texts.
    pub(super) fn entries(self, reader: &mut Reader<'_>) -> Vec<(String, Span, String)> {
        let mut entries = Vec::new();
        for (key, mut value) in self.table {
            let name = format!("{}.{}", self.name, key.name);
            if let Some(text) = text(&mut value, &name, reader) {
                entries.push((key.name.into_owned(), key.span, text.into_owned()));
            }
        }
        entries
    }

    /// Complains about keys that nobody asked for.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        let known = self.asked.join(", ");
        for key in self.table.keys() {
            let text = format!("unknown key; expected {known}");
            reader.wrong(key.span, &self.key(&key.name), text);
        }
    }
}

fn section<'t>(mut value: Value<'t>, name: String, reader: &mut Reader<'_>) -> Option<Section<'t>> {
    match value.take() {
        ValueInner::Table(table) => Some(Section::new(name, value.span, table)),
        other => {
            reader.wrong(value.span, &name, expected("a table", &other));
            None
        }
    }
}

fn text<'t>(value: &mut Value<'t>, key: &str, reader: &mut Reader<'_>) -> Option<Cow<'t, str>> {
    match value.take() {
        ValueInner::String(text) => Some(text),
        other => {
            reader.wrong(value.span, key, expected("a string", &other));
            None
        }
    }
}

fn expected(wanted: &str, found: &ValueInner<'_>) -> String {
    let found = match found {
        ValueInner::String(_) => "a string",
        ValueInner::Integer(_) => "an integer",
        ValueInner::Float(_) => "a float",
        ValueInner::Boolean(_) => "a boolean",
        ValueInner::Array(_) => "an array",
        ValueInner::Table(_) => "a table",
    };
    format!("expected {wanted}, found {found}")
}
