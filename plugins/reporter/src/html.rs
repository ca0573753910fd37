//! Texts and numbers as HTML.

/// A text that shows as it is, in content and in quoted attributes, whatever it contains. Control characters, which XML forbids, are
/// left out.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// At most so many characters of a text, escaped; what is cut is shown by an ellipsis.
pub(crate) fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return escape(text);
    }
    let cut: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", escape(cut.trim_end()))
}

/// `12,345` or `12,345.67`: with so many digits after the point.
pub(crate) fn number(value: f64, digits: usize) -> String {
    // Rust rounds halves to even; people expect them to go up.
    let scale = 10f64.powi(digits as i32);
    let text = format!("{:.digits$}", (value * scale).round() / scale);
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("−", rest));
    let (whole, rest) = text.find('.').map_or((text, ""), |point| text.split_at(point));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// Hours, with one digit while they are few.
pub(crate) fn hours(value: f64) -> String {
    format!("{}\u{a0}h", number(value, usize::from(value < 100.0 && value.fract() != 0.0)))
}

/// Money in whole units, with its currency escaped.
pub(crate) fn money(value: f64, currency: &str) -> String {
    format!("{}\u{a0}{}", escape(currency), number(value, 0))
}

/// A share of 1 in per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{}\u{a0}%", number(share * 100.0, usize::from(share < 0.1)))
}

/// The day of an RFC 3339 time as `1 July 2026`; the text itself if it is none.
pub(crate) fn day(time: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let parts: Vec<&str> = time.get(..10).unwrap_or_default().split('-').collect();
    let [year, month, day] = parts[..] else { return escape(time) };
    let name = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    match (name, day.parse::<u8>()) {
        (Some(name), Ok(day)) => format!("{day} {name} {}", escape(year)),
        _ => escape(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\" id='y'>&\u{0}"), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp; ");
        assert_eq!(short("<<<<<", 3), "&lt;&lt;…");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.891, 2), "1,234,567.89");
        assert_eq!((number(999.5, 0), number(142.5, 0)), ("1,000".into(), "143".into()));
        assert_eq!(number(-1234.0, 0), "−1,234");
        assert_eq!((hours(12.5), hours(655.25)), ("12.5\u{a0}h".into(), "655\u{a0}h".into()));
        assert_eq!((percent(0.2175), percent(0.0412)), ("22\u{a0}%".into(), "4.1\u{a0}%".into()));
    }

    #[test]
    fn days_are_written_out() {
        assert_eq!(day("2026-07-01T09:00:00+02:00"), "1 July 2026");
        assert_eq!(day("<soon>"), "&lt;soon&gt;");
        assert_eq!(day("2026-13-01T"), "2026-13-01T");
    }
}
