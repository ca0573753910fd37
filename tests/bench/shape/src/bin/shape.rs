//! A design probe, not an engine: how fast "log, group-commit, then act" can be over tonic on this machine.
//!
//! One thread owns the state of all runs and the SQLite connection. It takes every command that is queued, changes the state in
//! memory, writes the events of all of them in one transaction (WAL, `synchronous=FULL`), and only when that is on disk sends tasks
//! to the worker, as one message, and answers to the clients. There are no retries, timers, leases, recovery or reads of history:
//! it bounds what the design can give.
//!
//! `shape server --port P --dir D`, `shape worker --port P`, `shape client --port P --steps N [--fan] --concurrency C ...`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use clap::{Parser, Subcommand};
use consort_bench_shape::Loop;
use consort_bench_shape::wire::shape_client::ShapeClient;
use consort_bench_shape::wire::shape_server::{Shape, ShapeServer};
use consort_bench_shape::wire::{Batch, Item, Order};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

type Failure = Box<dyn std::error::Error>;
type Tasks = mpsc::Sender<Result<Batch, Status>>;

/// Commands that wait for the engine at most, and that one transaction takes.
const QUEUE: usize = 4_096;
/// Bytes of every event, about those of a small real one.
const BODY: usize = 100;
/// A task's number is its run's, shifted by so much, and its step's.
const STEP_BITS: u32 = 16;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    Server {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        dir: PathBuf,
    },
    Worker {
        #[arg(long)]
        port: u16,
    },
    Client {
        #[arg(long)]
        port: u16,
        #[arg(long, default_value_t = 1)]
        steps: u64,
        #[arg(long)]
        fan: bool,
        /// Start runs that stay.
        #[arg(long)]
        hold: bool,
        #[command(flatten)]
        drive: Loop,
    },
}

enum Command {
    Start(Order, oneshot::Sender<u64>),
    Done(Batch),
    Worker(Tasks),
}

struct Run {
    steps: u64,
    done: u64,
    fan: bool,
    answer: Option<oneshot::Sender<u64>>,
}

struct Desk(mpsc::Sender<Command>);

fn closing<T>(_: T) -> Status {
    Status::unavailable("closing")
}

#[tonic::async_trait]
impl Shape for Desk {
    async fn start(&self, request: Request<Order>) -> Result<Response<Item>, Status> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Command::Start(request.into_inner(), answer)).await.map_err(closing)?;
        let number = answered.await.map_err(closing)?;
        Ok(Response::new(Item { number, body: Bytes::new() }))
    }

    type WorkStream = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

    async fn work(&self, request: Request<Streaming<Batch>>) -> Result<Response<Self::WorkStream>, Status> {
        let (tasks, assigned) = mpsc::channel(QUEUE);
        self.0.send(Command::Worker(tasks)).await.map_err(closing)?;
        let (mut answers, commands) = (request.into_inner(), self.0.clone());
        tokio::spawn(async move {
            while let Some(Ok(batch)) = answers.next().await {
                if commands.send(Command::Done(batch)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(assigned))))
    }
}

/// Applies commands until no one can send any. What one commit made true leaves after it.
fn engine(mut commands: mpsc::Receiver<Command>, dir: &Path) -> rusqlite::Result<()> {
    let store = rusqlite::Connection::open(dir.join("shape.db"))?;
    store.pragma_update(None, "journal_mode", "WAL")?;
    store.pragma_update(None, "synchronous", "FULL")?;
    store.execute_batch(
        "CREATE TABLE event (run INTEGER NOT NULL, sequence INTEGER NOT NULL, kind INTEGER NOT NULL, body BLOB NOT NULL,
         PRIMARY KEY (run, sequence)) WITHOUT ROWID;",
    )?;
    let mut insert = store.prepare("INSERT INTO event VALUES (?1, ?2, ?3, ?4)")?;
    let (mut begin, mut commit) = (store.prepare("BEGIN IMMEDIATE")?, store.prepare("COMMIT")?);
    let body = Bytes::from(vec![b'x'; BODY]);
    let (mut runs, mut next, mut worker) = (HashMap::<u64, Run>::new(), 1, None::<Tasks>);
    let mut queued = Vec::with_capacity(QUEUE);
    while commands.blocking_recv_many(&mut queued, QUEUE) > 0 {
        let (mut tasks, mut answers) = (Vec::new(), Vec::new());
        begin.execute([])?;
        for command in queued.drain(..) {
            match command {
                Command::Worker(attached) => worker = Some(attached),
                Command::Start(order, answer) => {
                    let id = next;
                    next += 1;
                    insert.execute(rusqlite::params![id, 0, 1, &body[..]])?;
                    if order.hold {
                        answers.push((answer, id));
                        runs.insert(id, Run { steps: order.steps, done: 0, fan: order.fan, answer: None });
                        continue;
                    }
                    for step in 0..if order.fan { order.steps } else { 1 } {
                        tasks.push(Item { number: id << STEP_BITS | step, body: body.clone() });
                    }
                    runs.insert(id, Run { steps: order.steps, done: 0, fan: order.fan, answer: Some(answer) });
                }
                Command::Done(batch) => {
                    for item in batch.items {
                        let id = item.number >> STEP_BITS;
                        let Some(run) = runs.get_mut(&id) else { continue };
                        run.done += 1;
                        insert.execute(rusqlite::params![id, run.done, 2, &item.body[..]])?;
                        if run.done == run.steps {
                            insert.execute(rusqlite::params![id, run.done + 1, 3, &body[..]])?;
                            answers.extend(run.answer.take().map(|answer| (answer, id)));
                            runs.remove(&id);
                        } else if !run.fan {
                            tasks.push(Item { number: id << STEP_BITS | run.done, body: body.clone() });
                        }
                    }
                }
            }
        }
        commit.execute([])?;
        if let (Some(attached), false) = (&worker, tasks.is_empty()) {
            // A worker that has left takes its tasks with it: there are no leases here.
            let _ = attached.blocking_send(Ok(Batch { items: tasks }));
        }
        for (answer, id) in answers {
            let _ = answer.send(id);
        }
    }
    Ok(())
}

async fn serve(port: u16, dir: PathBuf) -> Result<(), Failure> {
    let (commands, queue) = mpsc::channel(QUEUE);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    std::thread::spawn(move || {
        if let Err(error) = engine(queue, &dir) {
            eprintln!("shape: {error}");
            std::process::exit(1);
        }
    });
    println!("ready");
    let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(ShapeServer::new(Desk(commands)));
    Ok(server.serve_with_incoming(TcpListenerStream::new(listener)).await?)
}

async fn work(url: String) -> Result<(), Failure> {
    let (answers, outgoing) = mpsc::channel(64);
    let mut client = ShapeClient::connect(url).await?;
    let mut tasks = client.work(ReceiverStream::new(outgoing)).await?.into_inner();
    println!("ready");
    while let Some(batch) = tasks.next().await {
        answers.send(batch?).await?;
    }
    Ok(())
}

async fn load(url: String, order: Order, drive: Loop) -> Result<(), Failure> {
    let mut clients = Vec::new();
    for _ in 0..drive.connections.min(drive.concurrency) {
        clients.push(ShapeClient::connect(url.clone()).await?);
    }
    let lane = |number: usize| {
        let client = clients[number % clients.len()].clone();
        move || {
            let mut client = client.clone();
            async move { client.start(order).await.map(drop) }
        }
    };
    drive.run(lane).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = |port| format!("http://127.0.0.1:{port}");
    match Cli::parse().role {
        Role::Server { port, dir } => serve(port, dir).await,
        Role::Worker { port } => work(url(port)).await,
        Role::Client { port, steps, fan, hold, drive } => load(url(port), Order { steps, fan, hold }, drive).await,
    }
}
