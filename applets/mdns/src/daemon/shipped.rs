//! Which service of the files is which after they have changed.

use crate::core::Service;
use std::path::PathBuf;

/// A service of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shipped {
    /// Its number below [`super::clients::FIRST_PUBLISHED`].
    pub(super) id: u32,
    pub(super) path: PathBuf,
    pub(super) service: Service,
}

/// What a file says now, with what stood for it before.
pub(super) struct Said {
    pub(super) path: PathBuf,
    pub(super) service: Service,
    pub(super) before: Option<Shipped>,
}

/// Finds for what the files say now what stood for it before; that is taken out of `old`. What has its number already is
/// no farewell to anybody: not when its file has another name now, nor when a file says it otherwise.
pub(super) fn find(old: &mut Vec<Shipped>, said: &mut [Said]) {
    // The best comes first for all of them, so that nothing takes what another is.
    let alike: [fn(&Shipped, &Said) -> bool; 4] = [
        |old, said| old.path == said.path && old.service == said.service,
        |old, said| old.service == said.service,
        |old, said| {
            let (old, said) = (&old.service, &said.service);
            old.kind == said.kind && old.instance == said.instance && old.wildcards == said.wildcards
        },
        |old, said| old.path == said.path && old.service.kind == said.service.kind,
    ];
    for alike in alike {
        for said in said.iter_mut().filter(|said| said.before.is_none()) {
            if let Some(place) = old.iter().position(|old| alike(old, said)) {
                said.before = Some(old.swap_remove(place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(instance: &str, port: u16) -> Service {
        Service {
            instance: instance.into(),
            wildcards: false,
            kind: "_http._tcp".into(),
            subtypes: Vec::new(),
            port,
            txt: Vec::new(),
            target: None,
            ipv4: true,
            ipv6: true,
        }
    }

    /// The numbers of what is said, 0 for what is new; and those that nothing is said of.
    fn numbers(before: &[(&str, &str, u16)], now: &[(&str, &str, u16)]) -> (Vec<u32>, Vec<u32>) {
        let mut old = Vec::new();
        for (id, (path, instance, port)) in (1..).zip(before) {
            old.push(Shipped { id, path: path.into(), service: service(instance, *port) });
        }
        let mut said = Vec::new();
        for (path, instance, port) in now {
            said.push(Said { path: path.into(), service: service(instance, *port), before: None });
        }
        find(&mut old, &mut said);
        let found = said.iter().map(|said| said.before.as_ref().map_or(0, |before| before.id)).collect();
        let mut left: Vec<u32> = old.iter().map(|old| old.id).collect();
        left.sort_unstable();
        (found, left)
    }

    #[test]
    fn what_was_there_keeps_its_number() {
        let two = [("a", "A", 1), ("b", "B", 2)];
        assert_eq!(numbers(&two, &two), (vec![1, 2], vec![]));
        // A file has another name, with another port too.
        assert_eq!(numbers(&two, &[("b", "B", 2), ("c", "A", 1)]), (vec![2, 1], vec![]));
        assert_eq!(numbers(&two, &[("b", "B", 2), ("c", "A", 3)]), (vec![2, 1], vec![]));
        // They change places; a service goes into the other's file.
        assert_eq!(numbers(&two, &[("a", "B", 2), ("b", "A", 1)]), (vec![2, 1], vec![]));
        assert_eq!(numbers(&two, &[("a", "B", 3), ("b", "A", 4)]), (vec![2, 1], vec![]));
        assert_eq!(numbers(&two, &[("b", "A", 1), ("b", "B", 2)]), (vec![1, 2], vec![]));
        // Another name in the same file; none takes the number of who only moved.
        assert_eq!(numbers(&two, &[("a", "C", 1), ("b", "B", 2)]), (vec![1, 2], vec![]));
        assert_eq!(numbers(&two, &[("a", "C", 1), ("c", "A", 1)]), (vec![0, 1], vec![2]));
        // What is gone, and what is new elsewhere.
        assert_eq!(numbers(&two, &[("c", "C", 1)]), (vec![0], vec![1, 2]));
    }
}
