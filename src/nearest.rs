//! The known word that a misspelt one is nearest to.

/// The known word that is the fewest letters away (Damerau 1964: added, left out, wrong or swapped), if
/// it is at most so many; of several the first in alphabetical order.
pub fn nearest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Option<&'a str> {
    let known = known.into_iter();
    let apart = known.map(|one| (strsim::damerau_levenshtein(word, one), one));
    let (apart, nearest) = apart.min()?;
    (apart <= most).then_some(nearest)
}
