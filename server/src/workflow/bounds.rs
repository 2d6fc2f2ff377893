//! How much of what workers tell is kept in `status`. Pure.

use spec::Failure;

/// What `status` holds of an action's log (design §5).
const TAIL_BYTES: usize = 4 << 10;
const TAIL_LINES: usize = 20;
/// What a worker tells in words is kept up to this length; it is a sentence, not a log.
const WORDS: usize = 1 << 10;
/// Causes of a failure that are kept.
const CAUSES: usize = 16;

/// A sentence of a worker.
pub fn words(text: &str) -> String {
    text.chars().take(WORDS).collect()
}

/// Keeps of a failure what `status` may hold; of the log its last lines, cut at the front.
pub fn bounded(mut failure: Failure) -> Failure {
    failure.code = words(&failure.code);
    failure.message = words(&failure.message);
    failure.causes.truncate(CAUSES);
    failure.causes.iter_mut().for_each(|cause| *cause = words(cause));
    let tail = failure.log_tail.trim_end_matches('\n');
    let from = tail.rmatch_indices('\n').nth(TAIL_LINES - 1).map_or(0, |(at, _)| at + 1);
    let mut from = from.max(tail.len().saturating_sub(TAIL_BYTES));
    while !tail.is_char_boundary(from) {
        from += 1;
    }
    failure.log_tail = tail[from..].to_owned();
    failure
}
