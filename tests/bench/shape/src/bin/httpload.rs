//! A closed loop of HTTP requests for peers that speak HTTP: `httpload --url URL --concurrency C --seconds S`.
//!
//! Each lane has a connection of its own, kept alive, as HTTP/1.1 clients do, and posts without a body.

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use consort_bench_shape::Loop;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Cli {
    /// What to post to.
    #[arg(long)]
    url: Uri,
    #[command(flatten)]
    drive: Loop,
}

struct Line {
    url: Uri,
    sender: Mutex<Option<SendRequest<Empty<Bytes>>>>,
}

impl Line {
    /// Posts once and reads the whole answer; an answer that is no success is an error. After an error the line is dialled again.
    async fn post(&self) -> Result<(), Failure> {
        let mut held = self.sender.lock().await;
        let mut sender = match held.take() {
            Some(sender) => sender,
            None => self.dial().await?,
        };
        sender.ready().await?;
        let authority = self.url.authority().map(ToString::to_string).unwrap_or_default();
        let request = Request::post(self.url.path()).header("host", authority).body(Empty::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        *held = Some(sender);
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into())
    }

    async fn dial(&self) -> Result<SendRequest<Empty<Bytes>>, Failure> {
        let authority = self.url.authority().ok_or("the URL has no host")?;
        let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

#[tokio::main]
async fn main() {
    let Cli { url, drive } = Cli::parse();
    let lane = |_| {
        let line = Arc::new(Line { url: url.clone(), sender: Mutex::new(None) });
        move || {
            let line = line.clone();
            async move { line.post().await }
        }
    };
    drive.run(lane).await;
}
