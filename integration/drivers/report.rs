//! The table: a driver per row, a capability per column.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::programs::Outcome;
use crate::targets::Target;

pub struct Result {
    pub driver: &'static str,
    pub target: Target,
    pub capability: &'static str,
    pub outcome: Outcome,
}

#[derive(Default)]
pub struct Report {
    results: Vec<Result>,
    /// In the order in which they were met.
    drivers: Vec<&'static str>,
    versions: BTreeMap<&'static str, String>,
    skipped: Vec<(&'static str, String)>,
    broken: Vec<(&'static str, String)>,
}

const BEGIN: &str = "<!-- matrix: begin -->\n";
const END: &str = "<!-- matrix: end -->\n";

impl Report {
    pub fn add(&mut self, result: Result) {
        if !self.drivers.contains(&result.driver) {
            self.drivers.push(result.driver);
        }
        self.results.push(result);
    }

    pub fn version(&mut self, driver: &'static str, version: String) {
        self.versions.insert(driver, version);
    }

    /// A driver whose registry could not be reached.
    pub fn skip(&mut self, driver: &'static str, why: String) {
        self.skipped.push((driver, why));
    }

    /// A driver whose installation failed.
    pub fn broken(&mut self, driver: &'static str, why: String) {
        self.broken.push((driver, why));
    }

    pub fn is_good(&self) -> bool {
        let failed = |r: &Result| matches!(r.outcome, Outcome::Failed(_));
        self.broken.is_empty() && !self.results.is_empty() && !self.results.iter().any(failed)
    }

    /// `ok`, `-` for what the driver does not have, or where it failed.
    fn cell(&self, driver: &str, capability: &str) -> String {
        let of_cell = self
            .results
            .iter()
            .filter(|r| r.driver == driver && r.capability == capability);
        let mut failed = Vec::new();
        let mut ok = false;
        let mut absent = false;
        for result in of_cell {
            match &result.outcome {
                Outcome::Ok => ok = true,
                Outcome::Absent(_) => absent = true,
                Outcome::Failed(_) => failed.push(result.target.name()),
            }
        }
        match (failed.is_empty(), ok, absent) {
            (false, _, _) => format!("FAILED: {}", failed.join(", ")),
            (true, true, _) => "ok".to_owned(),
            (true, false, true) => "-".to_owned(),
            (true, false, false) => String::new(),
        }
    }

    pub fn text(&self, capabilities: &[&str]) -> String {
        let mut text = String::from("\n");
        let _ = write!(text, "{:17}", "");
        for capability in capabilities {
            let _ = write!(text, " {capability}");
        }
        text.push('\n');
        for driver in &self.drivers {
            let _ = write!(text, "{driver:17}");
            for capability in capabilities {
                let cell = self.cell(driver, capability);
                let word = if cell.starts_with("FAILED") {
                    "FAIL"
                } else {
                    &cell
                };
                let _ = write!(text, " {word:width$}", width = capability.len());
            }
            text.push('\n');
        }
        for (driver, why) in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {driver} ({why})");
        }
        for (driver, why) in &self.broken {
            let _ = writeln!(text, "FAILED: {driver} was not installed: {why}");
        }
        let (mut passed, mut failed, mut absent) = (0, self.broken.len(), 0);
        for result in &self.results {
            match &result.outcome {
                Outcome::Ok => passed += 1,
                Outcome::Absent(_) => absent += 1,
                Outcome::Failed(why) => {
                    failed += 1;
                    let target = result.target.name();
                    let _ = writeln!(
                        text,
                        "FAILED: {} {} on {target}: {why}",
                        result.driver, result.capability
                    );
                }
            }
        }
        let _ = write!(
            text,
            "\n{passed} passed, {failed} failed, {absent} not in the driver, {} drivers skipped",
            self.skipped.len()
        );
        text
    }

    /// Puts the table between the two marks of a Markdown file.
    pub fn write(&self, file: &Path, capabilities: &[&str]) -> std::io::Result<()> {
        let old = std::fs::read_to_string(file)?;
        let parts = old
            .split_once(BEGIN)
            .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let Some((before, after)) = parts else {
            return Err(std::io::Error::other(format!(
                "{}: the marks {} and {} are missing",
                file.display(),
                BEGIN.trim(),
                END.trim()
            )));
        };
        let table = self.markdown(capabilities);
        std::fs::write(file, format!("{before}{BEGIN}{table}{END}{after}"))
    }

    fn markdown(&self, capabilities: &[&str]) -> String {
        let mut text = format!("| driver | {} |\n", capabilities.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(capabilities.len()));
        for driver in &self.drivers {
            let version = self.versions.get(driver).map_or("", String::as_str);
            let cells: Vec<String> = capabilities.iter().map(|c| self.cell(driver, c)).collect();
            let _ = writeln!(text, "| {version} | {} |", cells.join(" | "));
        }
        for (driver, why) in &self.skipped {
            let cells = " skipped |".repeat(capabilities.len());
            let _ = writeln!(text, "| {driver} ({why}) |{cells}");
        }
        let reasons: BTreeMap<(&str, &str), &str> = self
            .results
            .iter()
            .filter_map(|r| match &r.outcome {
                Outcome::Absent(why) => Some(((r.driver, r.capability), why.as_str())),
                Outcome::Ok | Outcome::Failed(_) => None,
            })
            .collect();
        if !reasons.is_empty() {
            text.push_str("\nWhat a driver does not have:\n\n");
        }
        for ((driver, capability), why) in reasons {
            let version = self.versions.get(driver).map_or(driver, String::as_str);
            let _ = writeln!(text, "- {version}, {capability}: {why}");
        }
        text
    }
}
