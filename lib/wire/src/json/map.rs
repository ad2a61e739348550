//! The members of an object, in the order in which they came.

use super::Value;

/// So many members are looked through at each insertion.
const FEW: usize = 64;

/// The members of a JSON object. A lookup goes through all of them: objects here have tens of members, and the
/// parser takes no more than [`super::MAX_MEMBERS`].
#[derive(Debug, Clone, Default)]
pub struct Map(Vec<(String, Value)>);

impl Map {
    /// No members.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    #[inline(never)]
    fn position(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(name, _)| name == key)
    }

    /// The member `key`.
    #[inline(never)]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// As [`get`](Self::get), which looks at `place` first: for going through two objects side by side.
    pub fn get_near(&self, place: usize, key: &str) -> Option<&Value> {
        match self.0.get(place) {
            Some((name, value)) if name == key => Some(value),
            _ => self.get(key),
        }
    }

    /// The member `key`, to change it.
    #[inline(never)]
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Whether there is a member `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Sets the member `key`: in its place when there is one, else as the last. The former value is the answer.
    #[inline(never)]
    fn set(&mut self, key: String, value: Value) -> Option<Value> {
        match self.get_mut(&key) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.0.push((key, value));
                None
            }
        }
    }

    /// Sets the member `key`: in its place when there is one, else as the last. The former value is the answer.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) -> Option<Value> {
        self.set(key.into(), value)
    }

    /// As [`insert`](Self::insert), for a parser of long objects: it looks for an earlier member of the name only
    /// among few. [`unite`](Self::unite) must follow.
    pub(super) fn add(&mut self, key: String, value: Value) {
        match self.0.len() < FEW {
            true => drop(self.set(key, value)),
            false => self.0.push((key, value)),
        }
    }

    /// Makes one of members with the same name: the last value, in the place of the first.
    #[inline(never)]
    pub(super) fn unite(&mut self) {
        if self.0.len() <= FEW {
            return;
        }
        let mut names: Vec<&str> = Vec::with_capacity(self.0.len());
        names.extend(self.0.iter().map(|(name, _)| name.as_str()));
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            for (name, value) in std::mem::take(&mut self.0) {
                self.set(name, value);
            }
        }
    }

    /// Removes the member `key`; the others keep their order.
    #[inline(never)]
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let place = self.position(key)?;
        Some(self.0.remove(place).1)
    }

    /// The place of member `key`, there or not.
    pub fn entry<'a>(&'a mut self, key: impl Into<String>) -> Entry<'a> {
        Entry { map: self, key: key.into() }
    }

    /// Keeps only what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&String, &mut Value) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all members.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The members.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.iter())
    }

    /// The members, to change their values.
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        IterMut(self.0.iter_mut())
    }

    /// The names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &String> + ExactSizeIterator {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

/// Two objects are the same when they have the same members, in any order.
impl Eq for Map {}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        let same =
            |(place, (key, value)): (usize, (&String, &Value))| other.get_near(place, key) == Some(value);
        self.len() == other.len() && self.iter().enumerate().all(same)
    }
}

/// `map["key"]`: `null` where there is nothing.
impl std::ops::Index<&str> for Map {
    type Output = Value;
    fn index(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&Value::Null)
    }
}

/// The members of a map.
#[derive(Debug, Clone)]
pub struct Iter<'a>(std::slice::Iter<'a, (String, Value)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a String, &'a Value);
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// The members of a map, to change their values.
#[derive(Debug)]
pub struct IterMut<'a>(std::slice::IterMut<'a, (String, Value)>);

impl<'a> Iterator for IterMut<'a> {
    type Item = (&'a String, &'a mut Value);
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (&*key, value))
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a String, &'a Value);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a mut Map {
    type Item = (&'a String, &'a mut Value);
    type IntoIter = IterMut<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let mut map = Self::new();
        map.extend(members);
        map
    }
}

impl Extend<(String, Value)> for Map {
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, members: I) {
        for (key, value) in members {
            self.set(key, value);
        }
    }
}

/// The place of one member.
#[derive(Debug)]
pub struct Entry<'a> {
    map: &'a mut Map,
    key: String,
}

impl<'a> Entry<'a> {
    /// The member's value; `value` becomes it when the member is missing.
    #[inline(never)]
    pub fn or_insert(self, value: Value) -> &'a mut Value {
        let place = self.map.position(&self.key).unwrap_or_else(|| {
            self.map.0.push((self.key, value));
            self.map.0.len() - 1
        });
        match self.map.0.get_mut(place) {
            Some((_, value)) => value,
            // Found or pushed just above.
            None => Box::leak(Box::default()),
        }
    }

    /// As [`or_insert`](Self::or_insert), with a value that is made only when it is needed.
    pub fn or_insert_with(self, make: impl FnOnce() -> Value) -> &'a mut Value {
        match self.map.contains_key(&self.key) {
            true => self.or_insert(Value::Null),
            false => self.or_insert(make()),
        }
    }
}
