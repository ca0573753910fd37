//! What a call says and yields, on its way to the caller.

use std::collections::VecDeque;

use bytes::Bytes;
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin as wire;
use tonic::Status;
use wire::invoke_response::Kind;

/// Bytes of a message, and of a result that is one message.
pub(crate) const CHUNK: usize = 1024 * 1024;
/// Messages that wait for a slow receiver: what is more makes room by forgetting the oldest, and logs say how many went.
const MOST_WAITING: usize = 256;
/// Pieces that wait: the function waits for room.
const PIECES: usize = 2;

/// How a call ended.
pub(crate) enum End {
    /// With text that fits into a message.
    Text(String),
    /// With bytes, or with text that is too large for a message.
    Large { data: Bytes, media_type: String },
    /// With what was streamed.
    Streamed { media_type: String },
    /// It failed.
    Failed(Status),
}

/// The next message, or the last one.
pub(crate) enum Next {
    Message(Kind),
    Last(Result<Kind, Status>),
}

/// Messages that wait for the receiver.
#[derive(Default)]
pub(crate) struct Answer {
    waiting: VecDeque<Kind>,
    /// Bytes of a piece or a large result that are not sent.
    rest: Bytes,
    pieces: VecDeque<Bytes>,
    forgotten: usize,
    sent: bool,
    wants_room: bool,
    end: Option<End>,
    would: Vec<String>,
    actions: Vec<String>,
}

impl Answer {
    /// Takes progress or a line of the log.
    pub(crate) fn tell(&mut self, kind: Kind) {
        if self.end.is_some() {
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            let oldest = self.waiting.pop_front();
            self.forgotten += usize::from(matches!(oldest, Some(Kind::Log(_))));
        }
        self.waiting.push_back(kind);
    }

    /// Takes a piece of a stream; whether there is room for another. If not, whoever reads is to say when there is.
    pub(crate) fn piece(&mut self, piece: Bytes) -> bool {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
        self.wants_room = self.pieces.len() >= PIECES;
        !self.wants_room
    }

    /// Takes the end; the first one counts.
    pub(crate) fn end(&mut self, end: End, would: Vec<String>, actions: Vec<String>) {
        if self.end.is_none() {
            (self.would, self.actions) = (would, actions);
            self.end = Some(end);
        }
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_parked(&self) -> bool {
        self.wants_room
    }

    /// The next message, if there is one, and whether there is room that somebody waits for.
    pub(crate) fn next(&mut self) -> (Option<Next>, bool) {
        if let Some(mut kind) = self.waiting.pop_front() {
            if let Kind::Log(log) = &mut kind
                && self.forgotten > 0
            {
                log.message = format!("({} lines before this one were lost) {}", self.forgotten, log.message);
                self.forgotten = 0;
            }
            return (Some(Next::Message(kind)), false);
        }
        if self.rest.is_empty()
            && let Some(piece) = self.pieces.pop_front()
        {
            self.rest = piece;
        }
        if !self.rest.is_empty() {
            let chunk = self.rest.split_to(self.rest.len().min(CHUNK));
            self.sent = true;
            let room = self.wants_room && self.pieces.len() < PIECES;
            self.wants_room &= !room;
            return (Some(Next::Message(Kind::Chunk(chunk))), room);
        }
        let next = match self.end.take() {
            None => None,
            Some(End::Failed(status)) => Some(Next::Last(Err(status))),
            Some(End::Text(text)) => {
                let output = Payload { kind: Some(payload::Kind::Json(text)) };
                Some(Next::Last(Ok(self.result(Some(output), String::new()))))
            }
            Some(End::Large { data, media_type }) => {
                self.rest = data;
                self.end = Some(End::Streamed { media_type });
                return self.next();
            }
            Some(End::Streamed { media_type }) if !self.sent => {
                // A stream without bytes is one all the same.
                self.sent = true;
                self.end = Some(End::Streamed { media_type });
                Some(Next::Message(Kind::Chunk(Bytes::new())))
            }
            Some(End::Streamed { media_type }) => Some(Next::Last(Ok(self.result(None, media_type)))),
        };
        (next, false)
    }

    fn result(&mut self, output: Option<Payload>, media_type: String) -> Kind {
        let (would, actions) = (std::mem::take(&mut self.would), std::mem::take(&mut self.actions));
        Kind::Result(wire::Result { output, media_type, would, actions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of the chunks, and the media type or the text.
    fn all(answer: &mut Answer) -> (Vec<usize>, String) {
        let mut chunks = Vec::new();
        loop {
            match answer.next().0.expect("the answer has ended") {
                Next::Message(Kind::Chunk(chunk)) => chunks.push(chunk.len()),
                Next::Message(_) => {}
                Next::Last(Ok(Kind::Result(result))) => {
                    let text = match result.output.and_then(|output| output.kind) {
                        Some(payload::Kind::Json(text)) => text,
                        _ => result.media_type,
                    };
                    return (chunks, text);
                }
                Next::Last(_) => return (chunks, "failed".to_owned()),
            }
        }
    }

    fn ended(end: End) -> (Vec<usize>, String) {
        let mut answer = Answer::default();
        answer.end(end, Vec::new(), Vec::new());
        all(&mut answer)
    }

    #[test]
    fn results_are_cut_into_chunks() {
        let bytes = |size| Bytes::from(vec![0; size]);
        assert_eq!(ended(End::Text("1".to_owned())), (vec![], "1".to_owned()));
        let large = End::Large { data: bytes(CHUNK * 2 + 5), media_type: "a/b".to_owned() };
        assert_eq!(ended(large), (vec![CHUNK, CHUNK, 5], "a/b".to_owned()));
        assert_eq!(ended(End::Large { data: bytes(0), media_type: "a/b".to_owned() }), (vec![0], "a/b".to_owned()));
        assert_eq!(ended(End::Failed(Status::internal("x"))), (vec![], "failed".to_owned()));
    }

    #[test]
    fn a_stream_waits_for_its_reader() {
        let mut answer = Answer::default();
        assert!(answer.piece(Bytes::from_static(b"1")));
        assert!(!answer.piece(Bytes::from_static(b"2")));
        assert!(answer.is_parked());
        assert!(answer.next().1, "there is room now");
        assert!(!answer.is_parked());
        answer.end(End::Streamed { media_type: "a/b".to_owned() }, Vec::new(), Vec::new());
        assert_eq!(all(&mut answer), (vec![1], "a/b".to_owned()));
    }

    #[test]
    fn what_nobody_reads_is_forgotten() {
        let mut answer = Answer::default();
        for number in 0..MOST_WAITING + 10 {
            answer.tell(Kind::Log(wire::Log { message: number.to_string(), ..Default::default() }));
        }
        let Some(Next::Message(Kind::Log(log))) = answer.next().0 else { panic!("a line was told") };
        assert_eq!(log.message, "(10 lines before this one were lost) 10");
    }
}
