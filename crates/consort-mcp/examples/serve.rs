//! Serves a fake mesh at `/mcp` on a free port of this machine, for clients in other languages. Prints the address, and ends with its
//! standard input. Arguments are patterns of what is exposed; the defaults if there are none.

use std::convert::Infallible;
use std::sync::Arc;

use consort_mcp::server::{McpServer, Options};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

#[path = "../tests/fakes/mod.rs"]
mod fakes;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut options = Options::default();
    let allow: Vec<String> = std::env::args().skip(1).collect();
    if !allow.is_empty() {
        options.allow = allow;
    }
    let workflows = Arc::new(fakes::FakeWorkflows::default());
    let handler = McpServer::new(Arc::new(fakes::FakePlugins::default()), Some(workflows), None, options).handler();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/mcp", listener.local_addr()?);
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let handler = Arc::clone(&handler);
                async move { Ok::<_, Infallible>(handler(request).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that leaves is no news.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
