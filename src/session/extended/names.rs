//! Statements or portals by name. The empty name, which most messages use, costs no hash.

use std::collections::HashMap;

pub struct Names<T> {
    unnamed: Option<T>,
    named: HashMap<Vec<u8>, T, ahash::RandomState>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            unnamed: None,
            named: HashMap::default(),
        }
    }
}

impl<T> Names<T> {
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
        match name {
            [] => self.unnamed = Some(value),
            name => {
                self.named.insert(name.to_vec(), value);
            }
        }
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        match name {
            [] => self.unnamed.take(),
            name => self.named.remove(name),
        }
    }

    /// Of a name and without.
    pub fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    pub fn clear(&mut self) {
        self.unnamed = None;
        if !self.named.is_empty() {
            self.named.clear();
        }
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.unnamed.iter_mut().chain(self.named.values_mut())
    }
}
