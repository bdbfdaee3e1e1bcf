//! A typed reader over parsed TOML that collects every mistake instead of stopping at the first.
//!
//! The keys a [`Section`] was asked for are the keys that it knows, so that no list of names is
//! kept beside the code that reads them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Everything that is wrong with one configuration file, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub file: PathBuf,
    /// Never empty.
    pub mistakes: Vec<Mistake>,
}

/// One thing to correct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// TOML path such as `databases.shop.shards[1].servers`; empty for the file as a whole.
    pub path: String,
    /// From 1.
    pub line: Option<usize>,
    /// What is wrong and why.
    pub what: String,
    /// What to write instead; may be empty.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{}: {count} mistake{plural}", self.file.display())?;
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a value stands: its TOML path and its byte offset in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    path: String,
    offset: usize,
}

impl Place {
    /// The place of the file as a whole.
    pub(super) fn file() -> Self {
        Self {
            path: String::new(),
            offset: 0,
        }
    }

    fn key(&self, name: &str, span: Range<usize>) -> Self {
        let name = bare_or_quoted(name);
        let path = if self.path.is_empty() {
            name.into_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        Self {
            path,
            offset: span.start,
        }
    }

    fn index(&self, at: usize, span: Range<usize>) -> Self {
        Self {
            path: format!("{}[{at}]", self.path),
            offset: span.start,
        }
    }
}

/// A key as TOML would have it written.
fn bare_or_quoted(name: &str) -> Cow<'_, str> {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("\"{}\"", name.escape_default()))
    }
}

/// The mistakes found so far in one file.
pub(super) struct Mistakes<'a> {
    text: &'a str,
    found: RefCell<Vec<(usize, Mistake)>>,
    /// Of the sections that were read: their paths, and the keys that they may have.
    sections: RefCell<Vec<(String, Vec<&'static str>)>>,
    /// Keys that their section does not have, by their offset.
    strangers: RefCell<Vec<(usize, String)>>,
}

impl<'a> Mistakes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            found: RefCell::default(),
            sections: RefCell::default(),
            strangers: RefCell::default(),
        }
    }

    pub(super) fn add(&self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        let line = (!place.path.is_empty()).then(|| self.line(place.offset));
        self.push(
            place.offset,
            place.path.clone(),
            line,
            what.into(),
            remedy.into(),
        );
    }

    /// A mistake of TOML's grammar, which has a line but no path.
    pub(super) fn add_syntax(&self, error: &toml::de::Error) {
        let span = error.span();
        let line = span.as_ref().map(|span| self.line(span.start));
        let offset = span.map_or(0, |span| span.start);
        let what = format!("not TOML: {}", error.message().replace('\n', ", "));
        self.push(offset, String::new(), line, what, String::new());
    }

    fn push(&self, offset: usize, path: String, line: Option<usize>, what: String, remedy: String) {
        self.found.borrow_mut().push((
            offset,
            Mistake {
                path,
                line,
                what,
                remedy,
            },
        ));
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// All mistakes in the file's order.
    pub(super) fn into_vec(self) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        let sections = self.sections.into_inner();
        for (offset, key) in self.strangers.into_inner() {
            // A key in the wrong section is no misspelt one.
            let home = sections
                .iter()
                .find(|(_, keys)| keys.contains(&key.as_str()));
            let of_key = |(at, mistake): &&mut (usize, Mistake)| {
                *at == offset && mistake.what == UNKNOWN_KEY
            };
            if let (Some((home, _)), Some((_, mistake))) = (home, found.iter_mut().find(of_key)) {
                mistake.remedy = match mistake.remedy.starts_with("did you mean") {
                    true => format!("{} It is a key of {} too", mistake.remedy, header(home)),
                    false => format!("it is a key of {}", header(home)),
                };
            }
        }
        found.sort_by_key(|(offset, _)| *offset);
        found.into_iter().map(|(_, mistake)| mistake).collect()
    }
}

const UNKNOWN_KEY: &str = "unknown key";

/// How a section's path is written at its head.
fn header(path: &str) -> String {
    match path.rsplit_once('[') {
        Some((list, _)) => format!("[[{list}]]"),
        None => format!("[{path}]"),
    }
}

/// The known name closest to `name`, as a remedy; empty when none is close.
pub(super) fn did_you_mean<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(String::new, |(_, candidate)| {
            format!("did you mean `{candidate}`?")
        })
}

/// One TOML table whose keys Ringway fixes.
///
/// Dropping it reports the keys nobody asked for: a reader cannot forget to.
pub(super) struct Section<'a> {
    place: Place,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
    mistakes: &'a Mistakes<'a>,
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        if !self.place.path.is_empty() {
            let section = (self.place.path.clone(), asked.clone());
            self.mistakes.sections.borrow_mut().push(section);
        }
        for name in self.table.keys() {
            let key: &str = name.get_ref();
            if !asked.contains(&key) {
                let mut remedy = did_you_mean(key, asked.iter().copied());
                if remedy.is_empty() {
                    let mut known = asked.clone();
                    known.sort_unstable();
                    remedy = format!("known here: {}", known.join(", "));
                }
                let place = self.place.key(key, name.span());
                if !self.place.path.is_empty() {
                    let stranger = (place.offset, key.to_owned());
                    self.mistakes.strangers.borrow_mut().push(stranger);
                }
                self.mistakes.add(&place, UNKNOWN_KEY, remedy);
            }
        }
    }
}

impl<'a> Section<'a> {
    pub(super) fn new(place: Place, table: &'a DeTable<'a>, mistakes: &'a Mistakes<'a>) -> Self {
        Self {
            place,
            table,
            asked: RefCell::default(),
            mistakes,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn mistakes(&self) -> &'a Mistakes<'a> {
        self.mistakes
    }

    /// Where `key` stands, or the section itself when the key is not written.
    pub(super) fn place_of(&self, key: &'static str) -> Place {
        self.get(key)
            .map_or_else(|| self.place.clone(), |(place, _)| place)
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn is_string(&self, key: &'static str) -> bool {
        self.get(key).is_some_and(|(_, value)| value.is_str())
    }

    pub(super) fn mistake(
        &self,
        key: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.mistakes.add(&self.place_of(key), what, remedy);
    }

    fn get(&self, key: &'static str) -> Option<(Place, &'a DeValue<'a>)> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((self.place.key(key, name.span()), value.get_ref()))
    }

    /// What `key` is, whatever its type.
    pub(super) fn value(&self, key: &'static str) -> Option<&'a DeValue<'a>> {
        self.get(key).map(|(_, value)| value)
    }

    fn wrong_type(&self, place: &Place, wanted: &str, found: &DeValue<'_>) {
        self.mistakes.add(
            place,
            format!("expected {wanted}, found {}", kind(found)),
            "",
        );
    }

    pub(super) fn string(&self, key: &'static str) -> Option<&'a str> {
        let (place, value) = self.get(key)?;
        let text = value.as_str();
        match text {
            None => self.wrong_type(&place, "a string", value),
            Some("") => self
                .mistakes
                .add(&place, "empty", "write a value or leave the key out"),
            Some(_) => {}
        }
        text.filter(|text| !text.is_empty())
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let (place, value) = self.get(key)?;
        if value.as_bool().is_none() {
            self.wrong_type(&place, "true or false", value);
        }
        value.as_bool()
    }

    /// A whole number within `range`, both ends included.
    pub(super) fn integer(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let (place, value) = self.get(key)?;
        let Some(written) = value.as_integer() else {
            self.wrong_type(&place, "a whole number", value);
            return None;
        };
        let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
        let number = number
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| range.contains(n));
        if number.is_none() {
            let (low, high) = range.into_inner();
            let what = format!("{written} is out of range");
            self.mistakes
                .add(&place, what, format!("write a number from {low} to {high}"));
        }
        number
    }

    /// One of the words in `choices`.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.string(key)?;
        let choice = choices.iter().find(|(name, _)| *name == word);
        if choice.is_none() {
            let names: Vec<String> = choices
                .iter()
                .map(|(name, _)| format!("\"{name}\""))
                .collect();
            let what = format!("\"{word}\" is not a choice here");
            self.mistake(key, what, format!("write {}", names.join(" or ")));
        }
        choice.map(|(_, value)| *value)
    }

    /// A string or a list of strings, each with its place; `None` when something is written and
    /// none of it is a string, which is reported.
    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<(Place, &'a str)>> {
        let (place, value) = self.get(key)?;
        let items: Vec<(Place, &'a DeValue<'a>)> = match value.as_array() {
            None => vec![(place, value)],
            Some(array) => array
                .iter()
                .enumerate()
                .map(|(at, item)| (place.index(at, item.span()), item.get_ref()))
                .collect(),
        };
        let written = items.len();
        let mut strings = Vec::with_capacity(written);
        for (place, item) in items {
            match item.as_str() {
                Some(text) => strings.push((place, text)),
                None => self.wrong_type(&place, "a string", item),
            }
        }
        (written == 0 || !strings.is_empty()).then_some(strings)
    }

    /// A table with fixed keys.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let (place, value) = self.get(key)?;
        self.as_section(place, value)
    }

    /// An array of tables with fixed keys.
    pub(super) fn sections(&self, key: &'static str) -> Option<Vec<Section<'a>>> {
        let (place, value) = self.get(key)?;
        let Some(array) = value.as_array() else {
            self.wrong_type(&place, "an array of tables", value);
            return None;
        };
        let items = array.iter().enumerate();
        let items = items.map(|(at, item)| (place.index(at, item.span()), item.get_ref()));
        Some(
            items
                .filter_map(|(place, item)| self.as_section(place, item))
                .collect(),
        )
    }

    /// A table whose keys the user names; empty when it is not written, `None` when it is no table.
    pub(super) fn entries(&self, key: &'static str) -> Option<Vec<Entry<'a>>> {
        let Some((place, value)) = self.get(key) else {
            return Some(Vec::new());
        };
        let Some(table) = value.as_table() else {
            self.wrong_type(&place, "a table", value);
            return None;
        };
        let entries = table.iter();
        Some(
            entries
                .map(|(name, value)| Entry::new(&place, name, value))
                .collect(),
        )
    }

    /// The keys of a table, if it is one.
    pub(super) fn names(&self, key: &'static str) -> Vec<&'a str> {
        let table = self.get(key).and_then(|(_, value)| value.as_table());
        let names = table.into_iter().flat_map(|table| table.keys());
        names.map(|name| name.get_ref().as_ref()).collect()
    }

    pub(super) fn as_section(&self, place: Place, value: &'a DeValue<'a>) -> Option<Section<'a>> {
        let Some(table) = value.as_table() else {
            self.wrong_type(&place, "a table", value);
            return None;
        };
        Some(Section::new(place, table, self.mistakes))
    }
}

/// One key that the user named, and its value.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) place: Place,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Entry<'a> {
    fn new(
        parent: &Place,
        name: &'a Spanned<Cow<'a, str>>,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Self {
        let place = parent.key(name.get_ref(), name.span());
        Self {
            name: name.get_ref(),
            place,
            value: value.get_ref(),
        }
    }
}

/// The kind of a TOML value, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
