//! Cutting a flush into transactions of a bounded size.

/// Cuts a batch. A key that comes twice begins a new chunk: `UPDATE … FROM` would take either of the two.
pub(super) fn chunks<T>(
    batch: &[T],
    size: usize,
    key: impl Fn(&T) -> i64,
) -> impl Iterator<Item = &[T]> {
    batch
        .chunk_by(move |one, next| key(one) < key(next))
        .flat_map(move |sorted| sorted.chunks(size))
}
