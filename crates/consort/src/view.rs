//! A run's progress on a screen: one moving line per step on a terminal, one plain line per change elsewhere.

use std::io::{IsTerminal as _, Write as _};

use consort_proto::orchestrator::StepState;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::board::{Board, Row};
use crate::output::{error_colours, text};

/// How progress is shown; all of it goes to standard error, so that results can be piped.
#[derive(Debug)]
pub(crate) enum View {
    /// One bar per step.
    Bars(Bars),
    /// One line per change.
    Lines,
}

/// The bars of a terminal.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    each: Vec<ProgressBar>,
    coloured: bool,
}

impl View {
    /// Bars on a terminal, lines elsewhere.
    pub(crate) fn for_people() -> View {
        if !std::io::stderr().is_terminal() {
            return View::Lines;
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15));
        View::Bars(Bars { all, each: Vec::new(), coloured: error_colours() })
    }

    /// Shows a step that changed.
    pub(crate) fn changed(&mut self, board: &Board, step: &str) {
        match self {
            View::Bars(_) => self.refresh(board),
            View::Lines => {
                if let Some(row) = board.find(step) {
                    // Standard error may be closed; progress is not worth failing for.
                    let _ = writeln!(std::io::stderr(), "{}", line(row));
                }
            }
        }
    }

    /// Draws the whole board again, with the time that has passed.
    pub(crate) fn refresh(&mut self, board: &Board) {
        let View::Bars(bars) = self else { return };
        for (index, row) in board.rows.iter().enumerate() {
            if index == bars.each.len() {
                bars.each.push(bars.all.add(ProgressBar::new(1_000)));
            }
            bars.draw(index, row);
        }
    }

    /// Says something above the bars.
    pub(crate) fn say(&self, line: &str) {
        match self {
            View::Bars(bars) => {
                let _ = bars.all.println(line);
            }
            View::Lines => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }

    /// Takes the bars away, so that something else can be printed; they come back with the next change.
    pub(crate) fn hide(&self) {
        if let View::Bars(bars) = self {
            let _ = bars.all.clear();
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn finish(&mut self, board: &Board) {
        self.refresh(board);
        if let View::Bars(bars) = self {
            bars.each.iter().for_each(ProgressBar::abandon);
        }
    }
}

impl Bars {
    fn draw(&self, index: usize, row: &Row) {
        let bar = &self.each[index];
        bar.set_style(style(row, self.coloured));
        bar.set_prefix(format!("{:<14}", text::one_line(&row.step, 14)));
        bar.set_position((row.progress * 1_000.0) as u64);
        bar.set_message(details(row).join("  "));
    }
}

fn style(row: &Row, coloured: bool) -> ProgressStyle {
    let state = StepState::try_from(row.state).unwrap_or_default();
    let (mark, colour) = match state {
        StepState::Done => ("✔", "green"),
        StepState::Failed => ("✘", "red"),
        StepState::InProgress => ("▶", "cyan"),
        StepState::Blocked => ("…", "yellow"),
        StepState::Ready => ("○", "yellow"),
        _ => ("·", "white"),
    };
    let bar = if state == StepState::InProgress { "[{bar:16}] " } else { "" };
    let template = if coloured {
        format!("{{prefix:.bold}} {mark} {:<11} {bar}{{wide_msg:.{colour}}}", text::step_state(row.state))
    } else {
        format!("{{prefix}} {mark} {:<11} {bar}{{wide_msg}}", text::step_state(row.state))
    };
    ProgressStyle::with_template(&template).expect("the template is well formed").progress_chars("=> ")
}

fn details(row: &Row) -> Vec<String> {
    let attempt = if row.attempt > 1 { format!("attempt {}", row.attempt) } else { String::new() };
    [row.took(), row.worker.clone(), attempt, row.text.clone()].into_iter().filter(|part| !part.is_empty()).collect()
}

/// A step's state on one line.
fn line(row: &Row) -> String {
    format!("{:<14} {:<11}  {}", row.step, text::step_state(row.state), details(row).join("  ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_how_long_and_what() {
        let row = Row {
            step: "cost".into(),
            state: StepState::Done as i32,
            worker: "cost-1".into(),
            attempt: 2,
            begun: Some(10.0),
            ended: Some(12.5),
            ..Row::default()
        };
        assert_eq!(line(&row), "cost           DONE         2.5 s  cost-1  attempt 2");
    }

    #[test]
    fn every_state_has_a_style() {
        for state in 0..=9 {
            for coloured in [false, true] {
                style(&Row { state, ..Row::default() }, coloured);
            }
        }
    }
}
