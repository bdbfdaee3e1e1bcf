//! Statements or portals by name. The empty name, which most messages use, costs no hash.

use std::collections::HashMap;

pub struct Names<T> {
    /// What all of them count for; see [`Charge`].
    bytes: usize,
    unnamed: Option<T>,
    named: HashMap<Vec<u8>, T, ahash::RandomState>,
}

/// What counts against a client's memory under a name, in bytes.
pub trait Charge {
    fn charge(&self, name: &[u8]) -> usize;
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            bytes: 0,
            unnamed: None,
            named: HashMap::default(),
        }
    }
}

impl<T: Charge> Names<T> {
    /// What all of them count for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, name: &[u8]) -> Option<&T> {
        match name {
            [] => self.unnamed.as_ref(),
            name => self.named.get(name),
        }
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        match name {
            [] => self.unnamed.as_mut(),
            name => self.named.get_mut(name),
        }
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// What had the name before is forgotten.
    pub fn insert(&mut self, name: &[u8], value: T) {
        self.bytes += value.charge(name);
        let before = match name {
            [] => self.unnamed.replace(value),
            name => self.named.insert(name.to_vec(), value),
        };
        self.bytes -= before.map_or(0, |before| before.charge(name));
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        let gone = match name {
            [] => self.unnamed.take(),
            name => self.named.remove(name),
        };
        self.bytes -= gone.as_ref().map_or(0, |gone| gone.charge(name));
        gone
    }

    /// Of a name and without.
    pub fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    pub fn clear(&mut self) {
        self.bytes = 0;
        self.unnamed = None;
        if !self.named.is_empty() {
            self.named.clear();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        let unnamed = self.unnamed.iter().map(|value| (&[][..], value));
        let named = self.named.iter();
        unnamed.chain(named.map(|(name, value)| (name.as_slice(), value)))
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.unnamed.iter().chain(self.named.values())
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.unnamed.iter_mut().chain(self.named.values_mut())
    }
}
