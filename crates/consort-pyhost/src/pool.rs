//! The threads in which plain functions run.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use crate::desk::Desk;
use crate::native::Ticket;
use crate::work::Work;

/// Calls that wait for a thread, and how many threads there are. The queue is as long as calls may be in work.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Work>>,
    idle: usize,
    threads: usize,
}

/// At most `most` threads, made when they are needed.
pub(crate) struct Pool {
    queue: Mutex<Queue>,
    more: Condvar,
    most: usize,
}

impl Pool {
    pub(crate) fn new(most: usize) -> Pool {
        Pool { queue: Mutex::default(), more: Condvar::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a call to a thread. `desk` is the pool's own.
    pub(crate) fn push(&self, desk: &Arc<Desk>, work: Arc<Work>) {
        let mut queue = self.lock();
        queue.waiting.push_back(work);
        if queue.idle >= queue.waiting.len() || queue.threads >= self.most {
            drop(queue);
            self.more.notify_one();
            return;
        }
        queue.threads += 1;
        let number = queue.threads;
        drop(queue);
        let desk = desk.clone();
        let made = std::thread::Builder::new().name(format!("plugin-{number}")).spawn(move || serve(&desk));
        if let Err(error) = made {
            // Those that are there do it, or the next call tries again.
            self.lock().threads -= 1;
            eprintln!("consort-pyhost: no thread for a function: {error}");
        }
    }

    fn try_pop(&self) -> Option<Arc<Work>> {
        self.lock().waiting.pop_front()
    }

    fn pop(&self) -> Arc<Work> {
        let mut queue = self.lock();
        loop {
            if let Some(work) = queue.waiting.pop_front() {
                return work;
            }
            queue.idle += 1;
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

/// A thread's life, which ends with the process.
fn serve(desk: &Arc<Desk>) {
    Python::attach(|py| {
        let ident = py.import("threading").and_then(|threading| threading.call_method0("get_ident")?.extract::<u64>());
        let ident = ident.unwrap_or(u64::MAX);
        loop {
            let work = desk.pool.try_pop().unwrap_or_else(|| py.detach(|| desk.pool.pop()));
            let parked = work.begun.load(Ordering::Acquire);
            // What Python keeps for it, a generator or an input that was fetched, it is to let go.
            if work.is_stopped() && !parked && work.ask.raw.is_none() {
                desk.ended(&work);
                continue;
            }
            work.begun.store(true, Ordering::Release);
            work.thread.store(ident, Ordering::Release);
            let ticket = Py::new(py, Ticket { work: work.clone(), desk: desk.clone() });
            let ran = ticket.and_then(|ticket| desk.run(py).call1(py, (ticket,)));
            // It may be in another thread by now.
            let _ = work.thread.compare_exchange(ident, 0, Ordering::AcqRel, Ordering::Acquire);
            if let Err(error) = ran {
                work.cancelled();
                desk.ended(&work);
                error.print(py);
            }
        }
    });
}
