//! Which labels the cluster has been told: with a Hello, and after that.

use crate::labels::Labels;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Told {
    /// On the link that is held.
    held: Labels,
    /// In the Hello on the next one, which may not be welcome before they change.
    greeted: Labels,
}

impl Told {
    /// A Hello says these.
    pub(super) fn greet(&mut self, labels: &Labels) {
        self.greeted.clone_from(labels);
    }

    /// The link that was greeted is the one that is held.
    pub(super) fn promote(&mut self) {
        self.held = std::mem::take(&mut self.greeted);
    }

    /// Whether the cluster must be told these on the held link; it is, then.
    pub(super) fn tell(&mut self, labels: &Labels) -> bool {
        let due = self.held != *labels;
        self.held.clone_from(labels);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(site: &str) -> Labels {
        [("site".to_owned(), site.to_owned())].into_iter().collect()
    }

    #[test]
    fn labels_are_told_once() {
        let mut told = Told::default();
        told.greet(&labels("north"));
        told.promote();
        assert!(!told.tell(&labels("north")));
        assert!(told.tell(&labels("south")));
        assert!(!told.tell(&labels("south")));
    }

    #[test]
    fn what_changes_while_another_link_is_greeted_is_told_on_both() {
        let mut told = Told::default();
        told.greet(&labels("north"));
        told.promote();
        told.greet(&labels("north"));
        assert!(told.tell(&labels("south")));
        told.promote();
        assert!(told.tell(&labels("south")));
    }
}
