//! How many bytes a future or a value has: tests hold what ten thousand calls keep to a bound, so that
//! nobody adds some kilobytes to each without a word. Whoever knows why raises it.

/// The size of what an `async fn` gives; it is not called.
pub fn of<F: Future>(_: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}

/// Stands for an argument of a function that is not called.
pub fn any<T>() -> T {
    unreachable!("nothing is called here")
}

/// Fails where something is heavier than it may be.
#[track_caller]
pub fn at_most(bound: usize, size: usize) {
    assert!(size <= bound, "it has {size} bytes, and may have {bound}");
}
