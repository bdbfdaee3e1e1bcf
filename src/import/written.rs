//! The settings of an old configuration, of which each is used or told of.

use std::cell::Cell;
use std::ops::RangeInclusive;

use toml::Value;

use super::notes::Notes;

/// The keys of one section.
#[derive(Debug, Default)]
pub(in crate::import) struct Table {
    /// Such as `pgdog.toml: general`.
    place: String,
    settings: Vec<Setting>,
}

/// A key, its value, and where it stands.
#[derive(Debug)]
pub(in crate::import) struct Setting {
    place: String,
    key: String,
    value: Value,
    is_used: Cell<bool>,
}

/// What a time is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Unit {
    Seconds,
    Millis,
}

/// What 0 means to the old configuration where the new one has no such value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Zero {
    /// The least that there is.
    Least,
    /// No limit: the most that there is.
    Endless,
}

/// Ringway's own limit of times in seconds, a year.
pub(in crate::import) const YEAR_S: i64 = 366 * 24 * 60 * 60;
const MOST_MS: i64 = u32::MAX as i64;

impl Table {
    /// The keys of a TOML table; nested tables are values.
    pub(in crate::import) fn of_toml(place: impl Into<String>, table: &toml::Table) -> Self {
        let place = place.into();
        let setting = |(key, value): (&String, &Value)| Setting {
            place: place.clone(),
            key: key.clone(),
            value: value.clone(),
            is_used: Cell::new(false),
        };
        Self {
            settings: table.iter().map(setting).collect(),
            place,
        }
    }

    pub(in crate::import) fn empty(place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            settings: Vec::new(),
        }
    }

    /// What is written later goes before what was written earlier, which is told.
    pub(in crate::import) fn push(
        &mut self,
        place: String,
        key: &str,
        value: String,
        notes: &Notes,
    ) {
        if let Some(at) = self.settings.iter().position(|known| known.key == key) {
            let earlier = self.settings.remove(at);
            notes.dropped(
                earlier.shown(),
                "it is written again further down, which counts",
            );
        }
        self.settings.push(Setting {
            place,
            key: key.to_owned(),
            value: Value::String(value),
            is_used: Cell::new(false),
        });
    }

    pub(in crate::import) fn place(&self) -> &str {
        &self.place
    }

    pub(in crate::import) fn keys(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(|setting| setting.key.as_str())
    }

    /// The setting, which counts as used from now on.
    pub(in crate::import) fn take(&self, key: &str) -> Option<&Setting> {
        let found = self.settings.iter().find(|setting| setting.key == key)?;
        found.is_used.set(true);
        Some(found)
    }

    pub(in crate::import) fn text(&self, key: &str) -> Option<String> {
        self.take(key).map(Setting::text).filter(|t| !t.is_empty())
    }

    pub(in crate::import) fn boolean(&self, key: &str, notes: &Notes) -> Option<bool> {
        let setting = self.take(key)?;
        let known = match setting.text().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        };
        if known.is_none() {
            notes.dropped(setting.shown(), "its value is neither true nor false");
        }
        known
    }

    /// A whole number, moved into `range` where it is beyond it.
    pub(in crate::import) fn count(
        &self,
        key: &str,
        range: RangeInclusive<i64>,
        zero: Zero,
        notes: &Notes,
    ) -> Option<i64> {
        let setting = self.take(key)?;
        setting.limited(setting.number(notes)?, range, zero, "", notes)
    }

    /// A time in milliseconds; 0 stays where `least` is 0.
    pub(in crate::import) fn millis(
        &self,
        key: &str,
        unit: Unit,
        least: i64,
        zero: Zero,
        notes: &Notes,
    ) -> Option<i64> {
        let setting = self.take(key)?;
        let number = setting.number(notes)? * if unit == Unit::Seconds { 1e3 } else { 1.0 };
        setting.limited(number, least..=MOST_MS, zero, " ms", notes)
    }

    /// A time in whole seconds.
    pub(in crate::import) fn seconds(
        &self,
        key: &str,
        unit: Unit,
        least: i64,
        zero: Zero,
        notes: &Notes,
    ) -> Option<i64> {
        let setting = self.take(key)?;
        let number = setting.number(notes)? / if unit == Unit::Millis { 1e3 } else { 1.0 };
        setting.limited(number, least..=YEAR_S, zero, " s", notes)
    }

    /// Tells of every setting that was not used: with the reason, if `reasons` has one.
    pub(in crate::import) fn finish(&self, reasons: &[(&str, &str)], notes: &Notes) {
        for setting in self.settings.iter().filter(|s| !s.is_used.get()) {
            match reasons.iter().find(|(key, _)| *key == setting.key) {
                Some((_, why)) => notes.dropped(setting.shown(), *why),
                None => notes.unknown(setting.shown()),
            }
        }
    }
}

impl Setting {
    pub(in crate::import) fn value(&self) -> &Value {
        &self.value
    }

    pub(in crate::import) fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Where it stands and what it says, without secrets.
    pub(in crate::import) fn shown(&self) -> String {
        let is_secret = ["password", "secret", "hash"]
            .iter()
            .any(|word| self.key.contains(word));
        let value = match (&self.value, is_secret) {
            (Value::Boolean(_) | Value::Integer(_), _) => self.text(),
            (Value::Table(_), _) => "{ … }".to_owned(),
            (Value::Array(_), _) => "[ … ]".to_owned(),
            (_, true) => "***".to_owned(),
            (_, false) => self.text(),
        };
        format!("{}: {} = {value}", self.place, self.key)
    }

    fn number(&self, notes: &Notes) -> Option<f64> {
        let number = self.text().replace('_', "").parse::<f64>().ok();
        let number = number.filter(|number| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            notes.dropped(self.shown(), "its value is not a number from 0 up");
        }
        number
    }

    fn limited(
        &self,
        number: f64,
        range: RangeInclusive<i64>,
        zero: Zero,
        unit: &str,
        notes: &Notes,
    ) -> Option<i64> {
        let (least, most) = range.into_inner();
        if number == 0.0 && least > 0 {
            let (value, what) = match zero {
                Zero::Least => (least, "the least there is"),
                Zero::Endless => (most, "the most there is"),
            };
            notes.changed(self.shown(), format!("{value}{unit}, {what}"));
            return Some(value);
        }
        // Rounded up: 0 would mean something else.
        let value = (number.ceil().min(most as f64) as i64).max(least);
        if value as f64 != number {
            notes.changed(self.shown(), format!("{value}{unit}, the nearest there is"));
        }
        Some(value)
    }
}
