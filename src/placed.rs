//! Values that are made where they stay.
//!
//! `Box::new` and `Box::pin` make a value on the stack and copy all of it into the box, of a future also
//! what it only keeps room for: some kilobytes a call, onto memory that no cache holds. Where the box is
//! there first, nothing can fail between the making and the writing, and the compiler writes field by field.

use std::pin::Pin;

/// A value in a box.
#[inline]
pub fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}

/// A future in a box that it does not leave.
#[inline]
pub fn pinned<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(boxed(make))
}
