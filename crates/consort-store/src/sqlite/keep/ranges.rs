//! Ranges of positions whose rows were taken out: disjoint, and never touching.

use super::change::{Change, Value, change};

/// Positions that stand together, from positions in order.
pub(super) fn spans(positions: &[u64]) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for position in positions {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *position => *last = *position,
            _ => spans.push((*position, *position)),
        }
    }
    spans
}

/// Makes a span empty for good, and lets it grow together with its neighbours.
pub(super) fn erase(first: u64, last: u64) -> [Change; 2] {
    let values = || [Value::Integer(first as i64), Value::Integer(last as i64)];
    [
        change(
            "INSERT OR REPLACE INTO erased (first, last) VALUES (\
                coalesce((SELECT first FROM (SELECT first, last FROM erased WHERE first < ?1 ORDER BY first DESC LIMIT 1) \
                    WHERE last = ?1 - 1), ?1), \
                coalesce((SELECT last FROM erased WHERE first = ?2 + 1), ?2))",
            values(),
        ),
        change("DELETE FROM erased WHERE first = ?1 + 1", [Value::Integer(last as i64)]),
    ]
}

/// Makes a span, which must lie within a range, free for rows again.
pub(super) fn fill(first: u64, last: u64) -> [Change; 3] {
    let values = || [Value::Integer(first as i64), Value::Integer(last as i64)];
    [
        change(
            "INSERT INTO erased (first, last) SELECT ?2 + 1, last FROM \
                (SELECT last FROM erased WHERE first <= ?1 ORDER BY first DESC LIMIT 1) WHERE last > ?2",
            values(),
        ),
        change("DELETE FROM erased WHERE first = ?1", [Value::Integer(first as i64)]),
        change(
            "UPDATE erased SET last = ?1 - 1 WHERE last >= ?1 AND first = \
                (SELECT first FROM erased WHERE first < ?1 ORDER BY first DESC LIMIT 1)",
            [Value::Integer(first as i64)],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_follow_each_other_are_one_span() {
        for (positions, expected) in
            [(&[][..], &[][..]), (&[4], &[(4, 4)]), (&[1, 2, 3, 7, 9, 10], &[(1, 3), (7, 7), (9, 10)])]
        {
            assert_eq!(spans(positions), expected, "{positions:?}");
        }
    }
}
