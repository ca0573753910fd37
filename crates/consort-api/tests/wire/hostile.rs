//! What a hostile client sees, frame by frame (RFC 9113).

use std::collections::HashMap;
use std::time::Duration;

use consort_api::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{Server, soon};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

/// The next frame; `None` once the server has closed the connection.
async fn read(from: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], flags: head[4], payload })
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn open(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

#[tokio::test]
async fn the_limits_are_announced() {
    let server = Server::start(Limits::default()).await;
    let mut stream = open(&server).await;
    let settings = soon(read(&mut stream)).await.unwrap();
    assert_eq!((settings.kind, settings.flags), (SETTINGS, 0));
    let values: HashMap<u16, u32> = settings
        .payload
        .chunks_exact(6)
        .map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
        .collect();
    assert_eq!(values[&3], 256, "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(values[&4], 65_536, "SETTINGS_INITIAL_WINDOW_SIZE");
    assert_eq!(values[&6], 16_384, "SETTINGS_MAX_HEADER_LIST_SIZE");
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_a_speaking_one_is_not() {
    let limits = Limits { first_request: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut greeted = open(&server).await;
    // Both get the server's greeting first, and then the end.
    soon(async { while read(&mut silent).await.is_some() {} }).await;
    soon(async { while read(&mut greeted).await.is_some() {} }).await;

    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel().await);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    let mut other = TcpStream::connect(server.address).await.unwrap();
    // By the time another silent connection is gone, the first one is older than it was allowed to be without a call.
    soon(async { while read(&mut other).await.is_some() {} }).await;
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let server = Server::start(Limits::default()).await;
    let (mut reader, mut writer) = open(&server).await.into_split();
    // POST http, path `/`, authority `x`, from HPACK's static table.
    let headers = [0x83, 0x86, 0x84, 0x01, 0x01, b'x'];
    let flood = tokio::spawn(async move {
        for n in 0..10_000_u32 {
            let stream = 2 * n + 1;
            let mut frames = frame(HEADERS, 0x4, stream, &headers);
            frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            if writer.write_all(&frames).await.is_err() {
                break;
            }
        }
        writer
    });
    let mut said = Vec::new();
    soon(reader.read_to_end(&mut said)).await.ok();
    drop(flood.await);
    let mut kinds = Vec::new();
    let mut rest = &said[..];
    while let Some((head, tail)) = rest.split_first_chunk::<9>() {
        kinds.push(head[3]);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        rest = tail.get(length..).unwrap_or_default();
    }
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_places_come_back() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() }).await;
    let first = server.channel().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(first.clone());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    let mut second = open(&server).await;
    assert!(soon(read(&mut second)).await.is_some());
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(soon(third.read_u8()).await.is_err());
    drop(second);
    // The place comes back when the server has seen the end of the second.
    soon(async {
        loop {
            let mut again = open(&server).await;
            if read(&mut again).await.is_some() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_and_then_cut() {
    let limits = Limits {
        connection_age: Duration::from_millis(100),
        connection_age_grace: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut stream = open(&server).await;
    let mut kinds = Vec::new();
    soon(async {
        while let Some(frame) = read(&mut stream).await {
            kinds.push(frame.kind);
        }
    })
    .await;
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}
