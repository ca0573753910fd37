//! Requests between live processes, on a worker's stream and from clients.

use std::collections::VecDeque;

use consort_core::{Error, Kind};
use consort_engine::{AskNews, LONGEST_TIMEOUT, Session, USUAL_TIMEOUT};
use consort_proto::agent as wire;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::convert::{self, At};
use crate::{Context, deadline, names, status};

/// Hands what a worker's frame holds of requests, replies and withdrawals to its session. A request that cannot be read is
/// answered with why; the error is one of the protocol and ends the stream.
pub(crate) async fn take(
    context: &Context,
    session: &Session,
    namespace: &str,
    asks: Vec<wire::Ask>,
    replies: Vec<wire::Reply>,
    withdrawn: &[u64],
) -> Result<(), Error> {
    if !asks.is_empty() {
        let mut read = Vec::with_capacity(asks.len());
        for (index, ask) in asks.into_iter().enumerate() {
            let number = ask.number;
            match convert::ask(&context.values, At("asks", index), namespace, ask).await {
                Ok(ask) => read.push(ask),
                Err(why) if why.kind == Kind::InvalidArgument => session.refuse(number, why),
                Err(why) => return Err(why),
            }
        }
        session.ask(read)?;
    }
    if !replies.is_empty() {
        let mut read = Vec::with_capacity(replies.len());
        for (index, reply) in replies.into_iter().enumerate() {
            read.push(convert::reply(&context.values, At("replies", index), reply).await?);
        }
        session.reply(read);
    }
    if !withdrawn.is_empty() {
        session.withdraw(withdrawn);
    }
    Ok(())
}

/// Packs what waits for a worker into as few frames as hold it; none has more than about `limit` bytes. Withdrawals come last,
/// behind the inquiries they may belong to.
pub(crate) fn pack(namespace: &str, news: AskNews, limit: usize, frames: &mut VecDeque<wire::ConnectResponse>) {
    if news.is_empty() {
        return;
    }
    let mut frame = wire::ConnectResponse::default();
    let mut size = 0;
    let mut room_for = |frame: &mut wire::ConnectResponse, bytes: usize| {
        size += bytes;
        if size > limit && size > bytes {
            size = bytes;
            frames.push_back(std::mem::take(frame));
        }
    };
    frame.replies.reserve_exact(news.replies.len());
    for reply in news.replies {
        let reply = convert::outcome(reply);
        room_for(&mut frame, reply.encoded_len());
        frame.replies.push(reply);
    }
    frame.inquiries.reserve_exact(news.inquiries.len());
    for inquiry in news.inquiries {
        let inquiry = convert::inquiry(namespace, inquiry);
        room_for(&mut frame, inquiry.encoded_len());
        frame.inquiries.push(inquiry);
    }
    room_for(&mut frame, news.withdrawn.len() * 10);
    frame.withdrawn = news.withdrawn;
    frames.push_back(frame);
}

/// `AgentService.AskAgent`.
pub(crate) async fn ask_agent(
    context: &Context,
    request: Request<wire::AskAgentRequest>,
) -> Result<Response<wire::AskAgentResponse>, Status> {
    let (_, extensions, message) = request.into_parts();
    let (namespace, agent) = names::agent("name", &message.name).map_err(status::of)?;
    let payload = convert::ask_value(&context.values, "payload", message.payload).await.map_err(status::of)?;
    let timeout = deadline::wait(&extensions, None, USUAL_TIMEOUT, &context.options.limits).min(LONGEST_TIMEOUT);
    let asked = context.engine.ask_agent(&namespace, &agent, payload, timeout);
    let answer = context.stop.run_until_cancelled(asked).await.unwrap_or_else(|| Err(status::stopping().into()));
    let answer = answer.map_err(convert::ask_status)?;
    Ok(Response::new(wire::AskAgentResponse { answer: Some(convert::payload(&answer)) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::Data;
    use consort_engine::{Inquiry, Reply};
    use std::time::Duration;

    #[test]
    fn what_waits_goes_into_few_frames_and_nothing_is_lost() {
        let large = Data::of(&"x".repeat(60_000).into());
        let inquiry = |number| Inquiry {
            number,
            agent: "oracle".into(),
            payload: large.clone(),
            timeout: Duration::from_secs(1),
            asker: "w1".into(),
            task: None,
            depth: 1,
        };
        let mut news = AskNews::default();
        news.inquiries.extend((0..50).map(inquiry));
        news.replies.extend((0..50).map(|number| Reply { number, result: Ok(Data::null()) }));
        news.withdrawn.push(3);
        let mut frames = VecDeque::new();
        pack("acme", news, 1024 * 1024, &mut frames);
        assert!((3..6).contains(&frames.len()), "{}", frames.len());
        assert_eq!(frames[0].replies.len(), 50);
        let numbers: Vec<u64> = frames.iter().flat_map(|frame| &frame.inquiries).map(|i| i.number).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
        assert_eq!(frames.back().unwrap().withdrawn, [3]);

        let mut frames = VecDeque::new();
        pack("acme", AskNews::default(), 1024, &mut frames);
        assert!(frames.is_empty());
    }
}
