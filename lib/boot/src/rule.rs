//! Three tries on every boot chain; the fourth boot takes the other slot (decision of the project; the reference's chains
//! differ, spec os §15.8). `image/files/boot.cmd` and `grub.cfg` say the same in their loaders' languages.

use crate::{Selection, Slot};

/// How often a slot on trial is started before the other one is.
pub const TRIES: u32 = 3;

/// One pass of the boot loader: the slot to start, and the selection to store before that. Beyond the tries the count
/// stays one above them, by which the old system knows that it stands in.
pub fn next(selection: Selection) -> (Slot, Selection) {
    if !selection.upgrade_available {
        return (selection.root, selection);
    }
    let tried = selection.bootcount >= TRIES;
    let bootcount = selection.bootcount.min(TRIES).saturating_add(1);
    let slot = if tried { selection.root.other() } else { selection.root };
    (slot, Selection { bootcount, ..selection })
}

/// What stage 1 stores when the system in the slot `running` cannot be mounted: one that was found well is on trial from
/// now on, with this start as its first. `None`: it is on trial and the boot loader counts, or it stands in for another,
/// behind which there is nothing.
pub fn failed(selection: Selection, running: Slot) -> Option<Selection> {
    let counted = selection.upgrade_available || selection.root != running;
    (!counted).then_some(Selection { upgrade_available: true, bootcount: 1, ..selection })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a device so often; `well` says which slots get through to a `rollback-altboot`, which ends what is on trial
    /// and selects what stands in.
    fn starts(
        mut selection: Selection,
        well: &dyn Fn(Slot, usize) -> bool,
        times: usize,
    ) -> (Vec<Slot>, Selection) {
        let mut started = Vec::new();
        for number in 0..times {
            let (slot, stored) = next(selection);
            selection = stored;
            started.push(slot);
            if well(slot, number) {
                selection = Selection { root: slot, upgrade_available: false, bootcount: 0 };
            } else if let Some(counted) = failed(selection, slot) {
                selection = counted;
            }
        }
        (started, selection)
    }

    #[test]
    fn a_committed_slot_that_fails_gives_way_after_three_starts_and_nothing_flaps() {
        use Slot::{A, B};
        for (root, garbage) in [(A, 0), (B, 0), (A, 9), (B, u32::MAX)] {
            let selection = Selection { root, upgrade_available: false, bootcount: garbage };
            let other = root.other();
            let (started, end) = starts(selection, &|slot, _| slot == other, 8);
            assert_eq!(started, [[root; 3].as_slice(), &[other; 5]].concat());
            assert_eq!(end, Selection { root: other, upgrade_available: false, bootcount: 0 });
            // Neither comes up: the other one stays, as it did not fail more often.
            let (started, end) = starts(selection, &|_, _| false, 20);
            assert_eq!(started, [[root; 3].as_slice(), &[other; 17]].concat());
            assert_eq!((end.root, end.upgrade_available, end.bootcount), (root, true, 4));
            // A fault that passes: two starts fail, the third does not, and nothing is on trial any more.
            let (started, end) = starts(selection, &|_, number| number > 1, 6);
            assert_eq!(started, [root; 6]);
            assert_eq!(end, Selection { root, upgrade_available: false, bootcount: 0 });
        }
    }

    #[test]
    fn three_tries_then_the_other_slot_for_good() {
        let mut selection = Selection { root: Slot::B, upgrade_available: true, bootcount: 0 };
        let mut started = Vec::new();
        for _ in 0..6 {
            let (slot, stored) = next(selection);
            started.push((slot, stored.bootcount));
            selection = stored;
        }
        use Slot::{A, B};
        assert_eq!(started, [(B, 1), (B, 2), (B, 3), (A, 4), (A, 4), (A, 4)]);
        assert_eq!(next(Selection { bootcount: u32::MAX, ..selection }).0, A);
    }

    #[test]
    fn without_a_trial_nothing_is_counted() {
        for root in [Slot::A, Slot::B] {
            let selection = Selection { root, upgrade_available: false, bootcount: 9 };
            assert_eq!(next(selection), (root, selection));
        }
    }
}
