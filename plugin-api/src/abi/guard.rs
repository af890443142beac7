//! No panic crosses the boundary: it is caught on the side where it happened and becomes an error.

use super::types::{AbiError, ErrorCode};
use crate::error::{Error, Result};
use abi_stable::std_types::RResult;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Where the last panic of this thread happened, while a guard is on its stack.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Each library has a std of its own, so this hook sees its own panics only.
fn remember_where_panics_happen() {
    static ONCE: Once = Once::new();
    // The hook cannot be changed while this thread unwinds: asking for it would be a second panic.
    if ONCE.is_completed() || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let guarded = DEPTH.with(Cell::get) > 0;
            if guarded {
                let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
                remember(place);
            } else {
                before(info);
            }
        }));
    });
}

/// A thread at its end has no place to remember anything in; a second panic there would end the process.
fn remember(place: Option<String>) {
    let _ = LOCATION.try_with(|l| *l.borrow_mut() = place);
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

/// Runs `f`; a panic in it becomes an [`Error`] that says what panicked, with its message and place.
///
/// # Errors
/// The error of `f`, or its panic.
pub fn guard<T>(what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    remember_where_panics_happen();
    // What a plugin caught by itself under an earlier guard is not the place of a panic under this one.
    if DEPTH.with(Cell::get) == 0 && LOCATION.try_with(|l| l.borrow().is_some()).unwrap_or(false) {
        remember(None);
    }
    DEPTH.with(|d| d.set(d.get() + 1));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    DEPTH.with(|d| d.set(d.get() - 1));
    outcome.unwrap_or_else(|payload| {
        let place = LOCATION.try_with(|l| l.borrow_mut().take()).ok().flatten();
        let text = text_of(payload.as_ref());
        // The payload's own Drop may panic: once more under guard, and then it is let go.
        DEPTH.with(|d| d.set(d.get() + 1));
        if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            std::mem::forget(second);
        }
        DEPTH.with(|d| d.set(d.get() - 1));
        let place = place.map(|p| format!(" at {p}")).unwrap_or_default();
        Err(Error::new(ErrorCode::PANIC, format!("{what} panicked{place}: {text}")))
    })
}

/// [`guard`] for a function that others call through the boundary.
pub fn guard_ffi<T>(what: &str, f: impl FnOnce() -> Result<T>) -> RResult<T, AbiError> {
    match guard(what, f) {
        Ok(value) => RResult::ROk(value),
        Err(error) => RResult::RErr(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words_and_its_place() {
        let line = line!() + 1;
        let error = guard("forward", || -> Result<()> { panic!("gives {}", "up") }).unwrap_err();
        assert_eq!(error.code(), ErrorCode::PANIC);
        assert_eq!(error.message(), format!("forward panicked at {}:{line}: gives up", file!()));
    }

    #[test]
    fn a_payload_whose_drop_panics_does_not_get_out() {
        struct Grenade;
        impl Drop for Grenade {
            fn drop(&mut self) {
                panic!("the payload's own drop");
            }
        }
        let error = guard("forward", || -> Result<()> { std::panic::panic_any(Grenade) }).unwrap_err();
        assert!(error.message().ends_with("a panic without text"), "{error}");
        // Nothing of the payload's own panic is left for the next one to be blamed for.
        let error =
            guard("forward", || -> Result<()> { std::panic::resume_unwind(Box::new("again")) }).unwrap_err();
        assert_eq!(error.message(), "forward panicked: again");
    }

    #[test]
    fn a_panic_that_was_caught_before_is_not_the_place_of_the_next() {
        guard("forward", || {
            let _ = catch_unwind(|| panic!("swallowed"));
            Ok(())
        })
        .unwrap();
        let error =
            guard("forward", || -> Result<()> { std::panic::resume_unwind(Box::new("other")) }).unwrap_err();
        assert_eq!(error.message(), "forward panicked: other");
    }

    #[test]
    fn a_guard_may_be_entered_while_the_thread_unwinds() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert!(guard("drop", || -> Result<()> { panic!("late") }).is_err());
            }
        }
        let error = guard("forward", || -> Result<()> {
            let _late = Late;
            panic!("early")
        });
        assert!(error.unwrap_err().message().ends_with(": early"));
    }
}
