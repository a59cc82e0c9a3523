//! Telling a device from its copy: the generation counter of certificates.
//!
//! Each renewal gives a node's certificates the next generation. The cluster remembers the newest
//! one, and whether any device has shown it. A device shows its generation whenever it links, by its
//! certificate, and names it whenever it asks for new certificates. Then:
//!
//! | shown | newest was shown before | verdict |
//! | --- | --- | --- |
//! | newest | either | the device; from now on the newest was shown |
//! | one before | no | the device: the answer was lost on the way, or power failed before it was stored. Who asks for new certificates is given the newest generation once more |
//! | one before | yes | a copy: somebody else holds the newest |
//! | older | either | a copy: to issue the newest, the one before had to be shown |
//! | newer | either | the device: the cluster itself was set back to an older backup. Only a certificate proves that; who just says so is taken to hold the newest, and cannot exhaust the counter |
//!
//! A device that does what agents do (store new certificates before they are used, and never go
//! back) is never taken for a copy, whatever answers and power cuts it meets. Of two devices with
//! the same key, the second one to renew is refused; if both renew before either has shown the new
//! certificates, both hold the same generation, and one of them is found by the next renewal.
//!
//! What it cannot tell: a device that was set back to an older state of its own looks like a copy.

/// What the cluster remembers of a node's certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generations {
    /// The newest generation that was issued.
    pub newest: u32,
    /// Whether a device has shown it.
    pub shown: bool,
}

/// Another device uses the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied;

impl Generations {
    /// A device shows its certificates.
    ///
    /// # Errors
    /// If it is a copy.
    pub const fn show(&mut self, generation: u32) -> Result<(), Copied> {
        if generation >= self.newest {
            self.newest = generation;
            self.shown = true;
            return Ok(());
        }
        let one_before = generation.saturating_add(1) == self.newest;
        if one_before && !self.shown {
            Ok(())
        } else {
            Err(Copied)
        }
    }

    /// A device asks for new certificates, and says which ones it has; gives their generation.
    ///
    /// # Errors
    /// If it is a copy.
    pub const fn renew(&mut self, said: u32) -> Result<u32, Copied> {
        let generation = if said < self.newest {
            said
        } else {
            self.newest
        };
        if let Err(copied) = self.show(generation) {
            return Err(copied);
        }
        if generation == self.newest {
            self.next();
        }
        Ok(self.newest)
    }

    /// New certificates are issued for another reason: the device joined again. As long as nobody
    /// has shown the newest ones, they may have been lost on the way, and any number of times.
    pub const fn next(&mut self) {
        if self.shown {
            self.newest = self.newest.saturating_add(1);
            self.shown = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A device as agents are: what it is given is stored, then used.
    #[derive(Debug, Clone, Copy)]
    struct Device {
        stored: u32,
    }

    /// What may happen to a device.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Links,
        Renews,
        /// The answer is lost, or power fails before it is stored.
        RenewsInVain,
        /// It asks twice before it takes an answer.
        RenewsTwice,
        JoinsAgain,
        /// As for renewals.
        JoinsInVain,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Links),
            3 => Just(Step::Renews),
            2 => Just(Step::RenewsInVain),
            1 => Just(Step::RenewsTwice),
            1 => Just(Step::JoinsAgain),
            1 => Just(Step::JoinsInVain),
        ]
    }

    fn joined() -> (Generations, Device) {
        let cluster = Generations {
            newest: 1,
            shown: true,
        };
        (cluster, Device { stored: 1 })
    }

    impl Device {
        fn take(&mut self, cluster: &mut Generations, step: Step) -> Result<(), Copied> {
            match step {
                Step::Links => cluster.show(self.stored)?,
                Step::Renews => self.stored = cluster.renew(self.stored)?,
                Step::RenewsInVain => drop(cluster.renew(self.stored)?),
                Step::RenewsTwice => {
                    let first = cluster.renew(self.stored)?;
                    self.stored = cluster.renew(self.stored)?.max(first);
                }
                Step::JoinsAgain => {
                    cluster.next();
                    self.stored = cluster.newest;
                }
                Step::JoinsInVain => cluster.next(),
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_device_alone_is_never_taken_for_a_copy(steps in prop::collection::vec(step(), 0..200)) {
            let (mut cluster, mut device) = joined();
            for step in steps {
                prop_assert_eq!(device.take(&mut cluster, step), Ok(()), "{:?}", step);
                prop_assert!(device.stored <= cluster.newest);
            }
        }

        /// Both are in use: each renews and links again and again, in any order and with losses.
        #[test]
        fn one_of_two_copies_is_found_once_both_have_renewed_and_linked_twice(
            before in prop::collection::vec(step(), 0..20),
            turns in prop::collection::vec((any::<bool>(), step()), 0..200),
        ) {
            let (mut cluster, mut original) = joined();
            for step in before {
                prop_assert_eq!(original.take(&mut cluster, step), Ok(()));
            }
            let mut devices = [original, original];
            let mut rounds = [0, 0];
            for (second, step) in turns {
                if matches!(step, Step::JoinsAgain | Step::JoinsInVain) {
                    // Who has a token is let in, copy or not.
                    continue;
                }
                let at = usize::from(second);
                let renewed = matches!(step, Step::Renews | Step::RenewsTwice);
                let done = devices[at].take(&mut cluster, step);
                let linked = done.and_then(|()| devices[at].take(&mut cluster, Step::Links));
                if linked.is_err() {
                    return Ok(());
                }
                rounds[at] += u32::from(renewed);
                prop_assert!(rounds != [2, 2], "two copies have renewed twice each");
            }
        }

        /// The rule is what keeps the first of them: whoever holds the newest stays welcome.
        #[test]
        fn who_holds_the_newest_certificates_is_never_refused(
            turns in prop::collection::vec((any::<bool>(), step()), 0..100),
        ) {
            let (mut cluster, device) = joined();
            let mut devices = [device, device];
            for (second, step) in turns {
                let device = &mut devices[usize::from(second)];
                let newest = device.stored == cluster.newest;
                let done = device.take(&mut cluster, step);
                prop_assert!(done.is_ok() || !newest);
            }
        }
    }

    #[test]
    fn the_second_copy_to_renew_is_refused() {
        let (mut cluster, mut first) = joined();
        let mut second = first;
        first.take(&mut cluster, Step::Renews).unwrap();
        first.take(&mut cluster, Step::Links).unwrap();
        assert_eq!(second.take(&mut cluster, Step::Links), Err(Copied));
        assert_eq!(second.take(&mut cluster, Step::Renews), Err(Copied));
        first.take(&mut cluster, Step::Renews).unwrap();
    }

    #[test]
    fn a_cluster_that_was_set_back_learns_from_its_devices() {
        let (mut cluster, _) = joined();
        assert_eq!(cluster.show(9), Ok(()));
        assert_eq!(cluster.renew(9), Ok(10));
        assert_eq!(cluster.show(9), Ok(()));
        assert_eq!(cluster.show(8), Err(Copied));
    }

    #[test]
    fn a_device_that_only_says_that_it_is_newer_does_not_move_the_counter() {
        let (mut cluster, _) = joined();
        assert_eq!(cluster.renew(u32::MAX), Ok(2));
        assert_eq!(cluster.show(2), Ok(()));
        assert_eq!(cluster.renew(2), Ok(3));
    }
}
