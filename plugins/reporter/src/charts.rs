//! Charts as inline SVG. Colours come from the page's style, so they follow light and dark; each chart has a title and a description
//! for those who cannot see it.

use std::fmt::Write as _;

use crate::html::{escape, short};

/// A value with its name and the text that shows it, which must be escaped already.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) text: String,
    /// The bar that the page is about.
    pub(crate) strong: bool,
}

/// Bars that lie: for names of any length. `id` must be unique in the page.
pub(crate) fn rows(id: &str, title: &str, bars: &[Bar]) -> String {
    const WIDTH: f64 = 940.0;
    const ROW: f64 = 36.0;
    const NAMES: f64 = 140.0;
    const VALUES: f64 = 200.0;
    let height = ROW * bars.len() as f64 + 4.0;
    let most = most(bars);
    let mut body = String::new();
    for (place, bar) in bars.iter().enumerate() {
        let top = ROW * place as f64 + 4.0;
        let length = (WIDTH - NAMES - VALUES) * share(bar.value, most);
        let (name, text, class) = (short(&bar.name, 18), &bar.text, class(bar));
        let (middle, after) = (top + 17.0, NAMES + length + 10.0);
        let _ = write!(
            body,
            r#"<text class="name" x="{x}" y="{middle:.1}" text-anchor="end" dominant-baseline="middle">{name}</text><rect class="{class}" x="{NAMES}" y="{y:.1}" width="{length:.1}" height="22" rx="4"/><text class="value" x="{after:.1}" y="{middle:.1}" dominant-baseline="middle">{text}</text>"#,
            x = NAMES - 12.0,
            y = top + 6.0,
        );
    }
    frame(id, title, bars, (WIDTH, height), &body)
}

/// Bars that stand: for a course of time, or for few values.
pub(crate) fn columns(id: &str, title: &str, bars: &[Bar]) -> String {
    const WIDTH: f64 = 440.0;
    const HEIGHT: f64 = 264.0;
    const BASE: f64 = 226.0;
    const TOP: f64 = 34.0;
    let most = most(bars);
    let slot = WIDTH / bars.len().max(1) as f64;
    let width = (slot * 0.56).min(96.0);
    // Texts of more than eight columns would run into each other: every so many-th is shown.
    let every = bars.len().div_ceil(8).max(1);
    let mut body = format!(r#"<line class="base" x1="0" y1="{BASE}" x2="{WIDTH}" y2="{BASE}"/>"#);
    for (place, bar) in bars.iter().enumerate() {
        let centre = slot * (place as f64 + 0.5);
        let length = (BASE - TOP) * share(bar.value, most);
        let _ = write!(
            body,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{length:.1}" rx="4"/>"#,
            class = class(bar),
            x = centre - width / 2.0,
            y = BASE - length,
        );
        if place % every == 0 {
            let _ = write!(
                body,
                r#"<text class="value" x="{centre:.1}" y="{above:.1}" text-anchor="middle">{text}</text><text class="name" x="{centre:.1}" y="{below:.1}" text-anchor="middle">{name}</text>"#,
                above = BASE - length - 10.0,
                below = BASE + 24.0,
                text = bar.text,
                name = short(&bar.name, 14),
            );
        }
    }
    frame(id, title, bars, (WIDTH, HEIGHT), &body)
}

fn frame(id: &str, title: &str, bars: &[Bar], (width, height): (f64, f64), body: &str) -> String {
    let list: Vec<String> = bars.iter().map(|bar| format!("{}: {}", escape(&bar.name), bar.text)).collect();
    format!(
        r#"<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-t {id}-d"><title id="{id}-t">{}</title><desc id="{id}-d">{}</desc>{body}</svg>"#,
        escape(title),
        list.join("; "),
    )
}

fn class(bar: &Bar) -> &'static str {
    if bar.strong { "bar strong" } else { "bar" }
}

fn most(bars: &[Bar]) -> f64 {
    bars.iter().map(|bar| bar.value).fold(0.0, f64::max)
}

/// Length of a bar as a share of the longest; what is there stays visible, what is not is not drawn.
fn share(value: f64, most: f64) -> f64 {
    if most > 0.0 && value > 0.0 { (value / most).clamp(0.006, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(values: &[f64]) -> Vec<Bar> {
        values
            .iter()
            .map(|&value| Bar { name: format!("<{value}>"), value, text: format!("{value}"), strong: false })
            .collect()
    }

    #[test]
    fn lengths_are_in_proportion() {
        // 600 units are left for the longest bar.
        let chart = rows("c", "Hours", &bars(&[10.0, 5.0, 0.0]));
        for width in [r#"width="600.0""#, r#"width="300.0""#, r#"width="0.0""#] {
            assert!(chart.contains(width), "{width} is not in {chart}");
        }
        assert!(columns("c", "Cost", &bars(&[4.0, 1.0])).contains(r#"height="48.0""#));
    }

    #[test]
    fn charts_speak_for_themselves() {
        let chart = columns("c", "Cost & more", &bars(&[1.0]));
        assert!(chart.contains(r#"aria-labelledby="c-t c-d"><title id="c-t">Cost &amp; more</title>"#), "{chart}");
        assert!(chart.contains(r#"<desc id="c-d">&lt;1&gt;: 1</desc>"#), "{chart}");
    }

    #[test]
    fn nothing_and_much_can_be_drawn() {
        for values in [vec![], vec![0.0], vec![1.0; 400], vec![f64::MAX, 1.0]] {
            for chart in [rows("c", "t", &bars(&values)), columns("c", "t", &bars(&values))] {
                assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
            }
        }
    }
}
