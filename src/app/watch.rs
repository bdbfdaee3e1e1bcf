//! Notices that a file of the configuration has changed: the file itself, certificates, passwords.

use crate::config::SourceFile;

#[derive(Debug)]
pub struct Watch {
    known: Vec<SourceFile>,
    /// A change that was seen once. It counts when it is still the same at the next look, so that
    /// nobody reads a file that is being written.
    fresh: Option<Vec<SourceFile>>,
}

impl Watch {
    /// Of the files that a configuration was made of, as they were then.
    pub fn new(files: Vec<SourceFile>) -> Self {
        Self {
            known: files,
            fresh: None,
        }
    }

    /// True when a file is not what it was, and has been so for a look already.
    pub fn look(&mut self) -> bool {
        let now = self.now();
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

    fn now(&self) -> Vec<SourceFile> {
        self.known.iter().map(SourceFile::again).collect()
    }

    /// The files are about to be read; should nothing come of it, they are not read again as they
    /// are.
    pub fn refresh(&mut self) {
        *self = Self::new(self.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(vec![SourceFile::seen(&file)]);
        assert!(!watch.look());
        std::fs::write(&file, "ab").unwrap();
        assert!(!watch.look());
        std::fs::write(&file, "abc").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        watch.refresh();
        assert!(!watch.look());
        // A change since it was read.
        let read = SourceFile::seen(&file);
        std::fs::write(&file, "abcd").unwrap();
        let mut later = Watch::new(vec![read]);
        assert!(!later.look());
        assert!(later.look());
        watch.refresh();
        std::fs::remove_file(&file).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
    }
}
