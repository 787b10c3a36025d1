//! What a thread is just working on: the source and the event that whatever it says meanwhile is about. Texts name them
//! too; this is for a log with fields, where one source's lines are to be found without reading all.

use std::cell::RefCell;
use std::marker::PhantomData;

/// What something said is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// A source, by its id.
    pub source: Option<String>,
    /// An event, by its id.
    pub event: Option<String>,
}

thread_local! {
    static NOW: RefCell<About> = RefCell::default();
}

/// As long as it lives, its thread works on what it was made for; then on what it was before.
#[must_use = "it ends when it is dropped"]
pub struct Scope {
    before: About,
    // It belongs to the thread that made it.
    _here: PhantomData<*const ()>,
}

/// From now on this thread works on a source.
pub fn source(id: &str) -> Scope {
    change(|about| about.source = Some(id.to_owned()))
}

/// From now on this thread works on an event.
pub fn event(id: impl std::fmt::Display) -> Scope {
    change(|about| about.event = Some(id.to_string()))
}

/// What this thread is working on.
pub fn now() -> About {
    NOW.with_borrow(About::clone)
}

fn change(how: impl FnOnce(&mut About)) -> Scope {
    let before = now();
    NOW.with_borrow_mut(how);
    Scope { before, _here: PhantomData }
}

impl Drop for Scope {
    fn drop(&mut self) {
        NOW.set(std::mem::take(&mut self.before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_ends_before_what_is_outside() {
        let outer = source("door");
        {
            let _event = event(7);
            let _other = source("roof");
            assert_eq!(now(), About { source: Some("roof".into()), event: Some("7".into()) });
        }
        assert_eq!(now(), About { source: Some("door".into()), event: None });
        std::thread::spawn(|| assert_eq!(now(), About::default()))
            .join()
            .expect("another thread has its own");
        drop(outer);
        assert_eq!(now(), About::default());
    }
}
