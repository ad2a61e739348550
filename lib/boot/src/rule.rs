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

#[cfg(test)]
mod tests {
    use super::*;

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
