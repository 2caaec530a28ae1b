//! A queue that mostly holds one thing: it allocates from the second on.

use std::collections::VecDeque;

/// First in, first out.
#[derive(Debug)]
pub struct Queue<T> {
    /// Goes before `rest`; empty only while `rest` is, or after a `pop`.
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            first: None,
            rest: VecDeque::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds at the end.
    pub fn push(&mut self, one: T) {
        if self.is_empty() {
            self.first = Some(one);
        } else {
            self.rest.push_back(one);
        }
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    /// The oldest.
    pub fn front(&self) -> Option<&T> {
        self.iter().next()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// All, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec(prop::option::of(0..9u8), 0..60)) {
            let (mut mine, mut oracle) = (Queue::default(), VecDeque::new());
            for step in steps {
                if let Some(one) = step {
                    mine.push(one);
                    oracle.push_back(one);
                } else {
                    prop_assert_eq!(mine.pop(), oracle.pop_front());
                }
                prop_assert_eq!(mine.len(), oracle.len());
                prop_assert_eq!(mine.is_empty(), oracle.is_empty());
                prop_assert_eq!(mine.front(), oracle.front());
                prop_assert!(mine.iter().eq(oracle.iter()));
            }
        }
    }
}
