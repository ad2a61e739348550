//! A sorted map for the tens of things that a daemon looks after: a vector, searched by halves. A tree map costs
//! about 3 kB of code per pair of types, this one a few hundred bytes.

/// Values by key, in the order of their keys. Boxes, so that tables of any values share their code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<K, V>(Vec<(K, Box<V>)>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Table<K, V> {
    /// An empty table.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator + Clone {
        self.0.iter().map(|(key, value)| (key, &**value))
    }

    /// All entries, to change their values.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> + ExactSizeIterator {
        self.0.iter_mut().map(|(key, value)| (&*key, &mut **value))
    }

    /// All keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.0.iter().map(|(_, value)| &**value)
    }

    /// All values, to change them.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> + ExactSizeIterator {
        self.0.iter_mut().map(|(_, value)| &mut **value)
    }

    /// Keeps only what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<K: Ord, V> Table<K, V> {
    #[inline(never)]
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.binary_search_by(|(found, _)| found.borrow().cmp(key))
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(self.place(key).ok()?).map(|(_, value)| &**value)
    }

    /// The value of `key`, to change it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| &mut **value)
    }

    /// Whether `key` has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// Sets the value of `key`; the former one is the answer.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.set(key, Box::new(value)).map(|old| *old)
    }

    #[inline(never)]
    fn set(&mut self, key: K, value: Box<V>) -> Option<Box<V>> {
        match self.place(&key) {
            Ok(place) => self.0.get_mut(place).map(|(_, old)| std::mem::replace(old, value)),
            Err(place) => {
                self.0.insert(place, (key, value));
                None
            }
        }
    }

    /// The value of `key`; a missing one is made first.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let place = self.place(&key).unwrap_or_else(|place| {
            self.0.insert(place, (key, Box::default()));
            place
        });
        match self.0.get_mut(place) {
            Some((_, value)) => value,
            // Found or inserted just above; a value that nobody sees keeps the caller alive.
            None => Box::leak(Box::default()),
        }
    }

    /// Removes `key`; its value is the answer.
    #[inline(never)]
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Box<V>>
    where
        K: std::borrow::Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        Some(self.0.remove(place).1)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut table = Self::new();
        for (key, value) in entries {
            table.insert(key, value);
        }
        table
    }
}

impl<K, V> IntoIterator for Table<K, V> {
    type Item = (K, Box<V>);
    type IntoIter = std::vec::IntoIter<(K, Box<V>)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;
    use std::collections::BTreeMap;

    #[test]
    fn it_does_what_a_tree_map_does() {
        let (mut table, mut tree): (Table<u64, u64>, _) = (Table::new(), BTreeMap::new());
        let mut state = 7_u64;
        for round in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (state >> 33) % 50;
            match (state >> 60) % 4 {
                0 => assert_eq!(table.remove(&key).map(|value| *value), tree.remove(&key)),
                1 => assert_eq!(table.get(&key), tree.get(&key)),
                _ => assert_eq!(table.insert(key, round), tree.insert(key, round)),
            }
            assert_eq!(table.len(), tree.len());
        }
        assert!(
            table.iter().eq(tree.iter()) && table.keys().eq(tree.keys()) && table.values().eq(tree.values())
        );
        table.retain(|key, value| key % 2 == 0 && *value % 2 == 0);
        tree.retain(|key, value| key % 2 == 0 && *value % 2 == 0);
        let plain = |(key, value): (u64, Box<u64>)| (key, *value);
        assert!(table.clone().into_iter().map(plain).eq(tree));
        assert_eq!(table.contains_key(&1), table.get_mut(&1).is_some());
        assert_eq!(table.clone().into_iter().rev().map(plain).collect::<Table<_, _>>(), table);
        let names: Table<String, u8> = [("b".to_owned(), 1), ("a".to_owned(), 2)].into_iter().collect();
        assert_eq!(names.get("a"), Some(&2));
    }
}
