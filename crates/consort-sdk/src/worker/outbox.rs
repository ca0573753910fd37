//! What the worker says: everything that is ready, in as few frames as it takes.

use std::sync::Arc;

use consort_proto::agent::{ConnectRequest, Renew, TaskReport};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::asks::Asks;
use super::held::{Held, Owed};
use super::vitals::Vitals;

/// A frame is closed when it is larger than this: below the 4 MiB a receiver takes, since one
/// answer has at most 1 MiB, the longest plan.
const FRAME_BYTES: usize = 1024 * 1024;
/// A frame is closed when it has this many messages.
const FRAME_MESSAGES: usize = 1024;

/// Collects frames of bounded size.
#[derive(Default)]
struct Frames {
    done: Vec<ConnectRequest>,
    open: ConnectRequest,
    bytes: usize,
    messages: usize,
}

impl Frames {
    fn add(&mut self, bytes: usize, put: impl FnOnce(&mut ConnectRequest)) {
        put(&mut self.open);
        self.bytes += bytes;
        self.messages += 1;
        if self.bytes >= FRAME_BYTES || self.messages >= FRAME_MESSAGES {
            self.close();
        }
    }

    fn close(&mut self) {
        self.done.push(std::mem::take(&mut self.open));
        (self.bytes, self.messages) = (0, 0);
    }

    fn finish(mut self) -> Vec<ConnectRequest> {
        if self.messages > 0 {
            self.close();
        }
        self.done
    }
}

/// Writes frames until the connection is gone, or until the worker drains and has nothing left to say; by returning it closes
/// the worker's side of the stream. Everything that gathered while a frame was being sent goes
/// into the next one, so frames grow with the load and an idle worker's answer leaves at once.
pub(super) async fn write(
    held: &Arc<Held>,
    asks: &Asks,
    reports: &mut mpsc::Receiver<TaskReport>,
    frames: mpsc::Sender<ConnectRequest>,
    renew_every: std::time::Duration,
    draining: &CancellationToken,
) {
    let mut ticks = ticker(renew_every);
    let mut vitals = Vitals::new();
    let mut said_draining = false;
    loop {
        let mut first: Option<TaskReport> = None;
        let mut renew: Option<Renew> = None;
        tokio::select! {
            () = held.changed.notified() => {}
            () = asks.changed.notified() => {}
            Some(report) = reports.recv() => first = Some(report),
            _ = ticks.tick() => renew = Some(vitals.measure()),
            () = draining.cancelled(), if !said_draining => {}
        }
        // Tasks that are about to end end now, and share the frame.
        tokio::task::yield_now().await;
        let mut batch = Frames::default();
        if let Some(renew) = renew {
            batch.add(0, |frame| frame.renew = Some(renew));
        }
        if draining.is_cancelled() && !said_draining {
            said_draining = true;
            batch.add(0, |frame| frame.draining = true);
        }
        // Answers are collected before reports and sent behind them, so no report comes after its task's answer.
        let owed = held.owed();
        let more = std::iter::from_fn(|| reports.try_recv().ok());
        for report in first.into_iter().chain(more) {
            if report.lease.as_ref().is_some_and(|lease| held.contains(lease)) {
                batch.add(report.encoded_len(), |frame| frame.reports.push(report));
            }
        }
        for owed in owed {
            match owed {
                Owed::Completed(it) => batch.add(it.encoded_len(), |frame| frame.completed.push(it)),
                Owed::Failed(it) => batch.add(it.encoded_len(), |frame| frame.failed.push(it)),
                Owed::Asked(it) => batch.add(it.encoded_len(), |frame| frame.asked.push(it)),
                Owed::Released(it) => batch.add(it.encoded_len(), |frame| frame.released.push(it)),
            }
        }
        let ConnectRequest { asks: requests, replies, withdrawn, .. } = asks.owed();
        for ask in requests {
            batch.add(ask.encoded_len(), |frame| frame.asks.push(ask));
        }
        for reply in replies {
            batch.add(reply.encoded_len(), |frame| frame.replies.push(reply));
        }
        if !withdrawn.is_empty() {
            batch.add(withdrawn.len() * 10, |frame| frame.withdrawn = withdrawn);
        }
        for frame in batch.finish() {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
        if said_draining && held.is_empty() && asks.is_idle() {
            return;
        }
    }
}

fn ticker(every: std::time::Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_proto::agent::Release;

    #[test]
    fn frames_are_closed_by_count_and_by_size() {
        let release = || Release { lease: None };
        let mut many = Frames::default();
        for _ in 0..=FRAME_MESSAGES * 2 {
            many.add(10, |frame| frame.released.push(release()));
        }
        let sizes: Vec<usize> = many.finish().iter().map(|frame| frame.released.len()).collect();
        assert_eq!(sizes, [FRAME_MESSAGES, FRAME_MESSAGES, 1]);

        let mut large = Frames::default();
        for _ in 0..3 {
            large.add(FRAME_BYTES / 2, |frame| frame.released.push(release()));
        }
        assert_eq!(large.finish().len(), 2);
        assert!(Frames::default().finish().is_empty());
    }
}
