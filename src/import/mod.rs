//! `ringway import`: a configuration of PgBouncer, PgCat or PgDog made into one of Ringway.
//!
//! Every setting of the old configuration is in the new one or in a [`Note`]: readers take settings
//! from a [`written::Table`], which tells of what nobody took. It reads files and connects to nothing.

mod accounts;
mod draft;
mod hashed;
mod ini;
mod notes;
mod pgbouncer;
mod pgcat;
mod pgdog;
#[cfg(test)]
mod tests;
mod written;

use std::path::{Path, PathBuf};

use self::draft::{Draft, comment};
use self::notes::Notes;
pub use self::notes::{Kind, Note};
use crate::config;
use crate::error::{Error, Fault};

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    PgBouncer,
    PgCat,
    PgDog,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::PgBouncer => "PgBouncer",
            Self::PgCat => "PgCat",
            Self::PgDog => "PgDog",
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    pub from: Format,
    /// The new configuration, with the notes as comments above it.
    pub toml: String,
    pub notes: Vec<Note>,
    /// What has to be corrected by hand before it is valid.
    pub mistakes: Vec<config::Mistake>,
}

/// Reads `files`, which belong to one configuration, and those that they name. `from` is found out
/// where it is not given. Paths are written so that they hold for a configuration at `out`.
///
/// # Errors
/// Files that cannot be read, or are of no known format.
pub fn import(files: &[PathBuf], from: Option<Format>, out: &Path) -> Result<Imported, Error> {
    let Some(first) = files.first() else {
        return Err(Error::new(Fault::Operator, "F0000", "no file is given"));
    };
    let mut sources = Sources {
        read: Vec::new(),
        out: directory_of(out),
    };
    let from = match from {
        Some(from) => from,
        None => detect(first)?,
    };
    let notes = Notes::default();
    let draft = match (from, files) {
        (Format::PgBouncer, [file]) => pgbouncer::read(file, &mut sources, &notes)?,
        (Format::PgCat, [file]) => pgcat::read(file, &mut sources, &notes)?,
        (Format::PgDog, files) => pgdog::read(files, &mut sources, &notes)?,
        (Format::PgBouncer | Format::PgCat, _) => {
            let message = format!("{} has one configuration file", from.name());
            let error = Error::new(Fault::Operator, "F0000", message);
            return Err(error.hint("Give one; those that it names are read too."));
        }
    };
    Ok(imported(from, &draft, &sources, notes.into_vec(), out))
}

fn imported(
    from: Format,
    draft: &Draft,
    sources: &Sources,
    notes: Vec<Note>,
    out: &Path,
) -> Imported {
    let names: Vec<_> = sources
        .read
        .iter()
        .map(|path| Sources::name(path))
        .collect();
    let mut toml = comment(&format!(
        "Made by `ringway import` from {}'s {}.",
        from.name(),
        names.join(", ")
    ));
    let mut above = None;
    for note in &notes {
        if above != Some(note.kind) {
            toml.push_str(&format!("#\n# {}\n", note.kind.heading()));
            above = Some(note.kind);
        }
        toml.push_str(&comment(&format!("- {note}")));
    }
    toml.push_str(&draft.text());
    let parsed = config::parse(&toml, out, &|name| std::env::var(name).ok());
    Imported {
        from,
        mistakes: parsed.err().map_or_else(Vec::new, |errors| errors.mistakes),
        toml,
        notes,
    }
}

/// By what is in it: sections of an INI file, or tables that only one of them has.
fn detect(path: &Path) -> Result<Format, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error.to_string()))?;
    if let Ok(table) = text.parse::<toml::Table>() {
        if table.get("pools").is_some_and(toml::Value::is_table) {
            return Ok(Format::PgCat);
        }
        let lists = ["databases", "users", "sharded_tables"];
        if lists
            .iter()
            .any(|key| table.get(*key).is_some_and(toml::Value::is_array))
        {
            return Ok(Format::PgDog);
        }
    }
    let sections = ["[pgbouncer]", "[databases]"];
    if text.lines().any(|line| sections.contains(&line.trim())) {
        return Ok(Format::PgBouncer);
    }
    let message = format!("{} is not known to be a configuration", path.display());
    let error = Error::new(Fault::Operator, "F0000", message)
        .detail("It is no pgbouncer.ini, pgcat.toml, pgdog.toml or users.toml by what is in it.");
    Err(error.hint("Say which with --from."))
}

fn cannot_read(path: &Path, why: &str) -> Error {
    let message = format!("{} cannot be read", path.display());
    Error::new(Fault::Operator, "58030", message).detail(why.to_owned())
}

fn read_toml(path: &Path, sources: &mut Sources) -> Result<toml::Table, Error> {
    let text = sources.text(path)?;
    text.parse::<toml::Table>()
        .map_err(|error| cannot_read(path, &error.to_string()))
}

/// The files that were read, and where the new one will be.
#[derive(Debug)]
struct Sources {
    read: Vec<PathBuf>,
    out: PathBuf,
}

impl Sources {
    fn text(&mut self, path: &Path) -> Result<String, Error> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| cannot_read(path, &error.to_string()))?;
        self.read.push(path.to_owned());
        Ok(text)
    }

    /// The name of a file, for people.
    fn name(path: &Path) -> String {
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// How the new configuration names a file that the one at `from` calls `written`.
    fn path(&self, written: &str, from: &Path) -> String {
        let base = directory_of(from);
        if Path::new(written).is_absolute() || base == self.out {
            return written.to_owned();
        }
        base.join(written).to_string_lossy().into_owned()
    }
}

/// The directory of a file, from the root where that can be found out.
fn directory_of(file: &Path) -> PathBuf {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    parent.canonicalize().unwrap_or_else(|_| parent.to_owned())
}
