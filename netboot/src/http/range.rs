//! Which part of a file a request wants (RFC 9110 §14), pure. Several ranges, or one that makes no sense, mean all of it.

use axum::http::HeaderMap;
use axum::http::header::{IF_RANGE, RANGE};

/// What is to be sent of `total` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// 200.
    Whole,
    /// 206: from `start`, `length` bytes.
    Some { start: u64, length: u64 },
    /// 416.
    Unsatisfiable,
}

/// `validators`: what names this very content; a range under another `If-Range` is for content that is gone.
pub(super) fn part(headers: &HeaderMap, total: u64, validators: &[&str]) -> Part {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(RANGE) else { return Part::Whole };
    if headers.contains_key(IF_RANGE) && !text(IF_RANGE).is_some_and(|value| validators.contains(&value)) {
        return Part::Whole;
    }
    match parse(range, total) {
        Some((start, end)) if start < end => Part::Some { start, length: end - start },
        Some(_) => Part::Unsatisfiable,
        None => Part::Whole,
    }
}

/// Start and end (exclusive) of the one range.
fn parse(range: &str, total: u64) -> Option<(u64, u64)> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().unwrap_or(u64::MAX))
            .filter(|_| !text.is_empty())
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", last) => Some((total.saturating_sub(number(last)?), total)),
        (first, "") => Some((number(first)?, total)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| (first, last.saturating_add(1).min(total)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(range: &str, if_range: Option<&str>) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, range.parse().unwrap());
        if let Some(value) = if_range {
            headers.insert(IF_RANGE, value.parse().unwrap());
        }
        part(&headers, 10, &["\"tag\"", "a date"])
    }

    #[test]
    fn ranges_are_taken_at_their_word() {
        for (range, wanted) in [
            ("bytes=0-", Part::Some { start: 0, length: 10 }),
            ("bytes=3-5", Part::Some { start: 3, length: 3 }),
            ("Bytes=9-9", Part::Some { start: 9, length: 1 }),
            ("bytes=5-99999999999999999999", Part::Some { start: 5, length: 5 }),
            ("bytes=-4", Part::Some { start: 6, length: 4 }),
            ("bytes=-99", Part::Some { start: 0, length: 10 }),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=99-100", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-3", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("nonsense", Part::Whole),
        ] {
            assert_eq!(ask(range, None), wanted, "{range}");
        }
    }

    #[test]
    fn a_range_of_other_content_is_not_served() {
        for (if_range, wanted) in [("\"tag\"", true), ("a date", true), ("\"old\"", false), ("W/\"tag\"", false)] {
            assert_eq!(ask("bytes=1-", Some(if_range)) != Part::Whole, wanted, "{if_range}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_there(range in "bytes=[0-9,-]{0,30}", total in 0_u64..100) {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, range.parse().unwrap());
            if let Part::Some { start, length } = part(&headers, total, &[]) {
                prop_assert!(length > 0 && start + length <= total);
            }
        }
    }
}
