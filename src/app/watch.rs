//! Notices that a file of the configuration has changed: the file itself, certificates, passwords.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What tells one state of a file from another; `None` for one that cannot be read.
type Stamp = Option<(u64, u64, i64, i64)>;

#[derive(Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    known: Vec<Stamp>,
    /// A change that was seen once. It counts when it is still the same at the next look, so that
    /// nobody reads a file that is being written.
    fresh: Option<Vec<Stamp>>,
}

impl Watch {
    pub fn new(files: Vec<PathBuf>) -> Self {
        let known = stamps(&files);
        Self {
            files,
            known,
            fresh: None,
        }
    }

    /// True when a file is not what it was, and has been so for a look already.
    pub fn look(&mut self) -> bool {
        let now = stamps(&self.files);
        if now == self.known {
            self.fresh = None;
            return false;
        }
        if self.fresh.as_ref() != Some(&now) {
            self.fresh = Some(now);
            return false;
        }
        true
    }

    /// The files are read as they are now.
    pub fn refresh(&mut self) {
        self.known = stamps(&self.files);
        self.fresh = None;
    }

    /// Watches these files from now on.
    pub fn follow(&mut self, files: &[PathBuf]) {
        if self.files != files {
            *self = Self::new(files.to_owned());
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        // Follows links: what a mounted secret is changed by.
        let file = std::fs::metadata(path).ok()?;
        Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(vec![file.clone()]);
        assert!(!watch.look());
        std::fs::write(&file, "ab").unwrap();
        assert!(!watch.look());
        std::fs::write(&file, "abc").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        watch.refresh();
        assert!(!watch.look());
        std::fs::remove_file(&file).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
    }
}
