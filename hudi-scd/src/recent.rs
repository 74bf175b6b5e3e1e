//! [`Recent`]: recently used values, up to a number of bytes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use object_store::path::Path;

/// Values by file, in two halves. When the newer half is full, the older half is dropped as a whole. This
/// needs no list of uses.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    half: usize,
    halves: Mutex<Halves<V>>,
}

#[derive(Debug)]
struct Halves<V> {
    young: HashMap<Path, (V, usize)>,
    old: HashMap<Path, (V, usize)>,
    young_bytes: usize,
}

impl<V: Clone> Recent<V> {
    /// Creates an empty collection with at most `bytes` bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let halves = Halves { young: HashMap::new(), old: HashMap::new(), young_bytes: 0 };
        Self { half: bytes / 2, halves: Mutex::new(halves) }
    }

    pub(crate) fn get(&self, path: &Path) -> Option<V> {
        let mut halves = self.lock();
        if let Some((value, _)) = halves.young.get(path) {
            return Some(value.clone());
        }
        let (value, bytes) = halves.old.remove(path)?;
        halves.insert(path, value.clone(), bytes, self.half);
        Some(value)
    }

    /// Removes and returns a value.
    pub(crate) fn take(&self, path: &Path) -> Option<V> {
        let mut halves = self.lock();
        if let Some((value, bytes)) = halves.young.remove(path) {
            halves.young_bytes -= bytes;
            return Some(value);
        }
        halves.old.remove(path).map(|(value, _)| value)
    }

    /// Adds a value of this size in bytes.
    pub(crate) fn insert(&self, path: &Path, value: V, bytes: usize) {
        self.lock().insert(path, value, bytes, self.half);
    }

    fn lock(&self) -> MutexGuard<'_, Halves<V>> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Halves<V> {
    fn insert(&mut self, path: &Path, value: V, bytes: usize, half: usize) {
        if bytes > half {
            return;
        }
        if let Some((_, known)) = self.young.remove(path) {
            self.young_bytes -= known;
        }
        if self.young_bytes + bytes > half {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(path.clone(), (value, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_use_stay_and_the_others_make_room() {
        let recent = Recent::new(20);
        let path = |number: usize| Path::from(number.to_string());
        for number in 0..100 {
            recent.insert(&path(number), number, 4);
            assert_eq!(recent.get(&path(0)), Some(0), "it is used all the time");
        }
        let kept: Vec<usize> = (0..100).filter(|number| recent.take(&path(*number)).is_some()).collect();
        assert!(kept.contains(&99) && kept.len() <= 5, "{kept:?}");
        recent.insert(&path(1), 1, 11);
        assert_eq!(recent.get(&path(1)), None, "it is larger than a half");
    }
}
