//! A reader of server-sent events (WHATWG HTML, section 9.2.6).

use serde_json::Value;

use super::agent::Agent;
use super::http::{Connection, Request, Response};

/// Signs of life in a row, 15 s apart, after which nothing more is waited for.
const SIGNS_OF_LIFE_MAX: u32 = 8;

/// An event as it was dispatched.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) data: Value,
    /// The ID of the last event then.
    pub(crate) id: String,
}

/// A stream that is open.
pub(crate) struct Events {
    connection: Connection,
    pub(crate) head: Response,
    unread: String,
    /// The ID of the last event.
    pub(crate) id: String,
}

impl Events {
    /// Opens the stream that a request asks for. Where it is refused, the answer.
    pub(crate) fn open(agent: &Agent, request: &Request) -> Result<Self, Response> {
        let mut connection = agent.connect();
        connection.send(&request.whole());
        let head = connection.receive_head();
        if head.status == 200 {
            return Ok(Self { connection, head, unread: String::new(), id: String::new() });
        }
        let length = head.header("Content-Length").unwrap().parse().unwrap();
        Err(Response { body: connection.bytes(length).unwrap(), ..head })
    }

    /// The next event; none where the stream has ended as it should.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let mut silent = 0;
        loop {
            let Some((block, rest)) = self.unread.split_once("\n\n") else {
                let chunk = self.connection.chunk().expect("a stream ends with an empty chunk")?;
                self.unread.push_str(&String::from_utf8(chunk).unwrap());
                continue;
            };
            let (block, rest) = (block.to_owned(), rest.to_owned());
            self.unread = rest;
            let (mut kind, mut data) = ("message".to_owned(), String::new());
            for line in block.lines() {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match name {
                    "id" => value.clone_into(&mut self.id),
                    "event" => value.clone_into(&mut kind),
                    "data" => data.push_str(value),
                    "" | "retry" => {}
                    _ => panic!("no field of an event: {line:?}"),
                }
            }
            if !data.is_empty() {
                return Some(Event { kind, data: serde_json::from_str(&data).unwrap(), id: self.id.clone() });
            }
            silent += 1;
            assert!(silent <= SIGNS_OF_LIFE_MAX, "nothing is told any more, and the stream does not end");
        }
    }

    /// The next entry.
    pub(crate) fn entry(&mut self) -> Value {
        let event = self.next().expect("the stream goes on");
        assert_eq!(event.kind, "entry", "{event:?}");
        event.data
    }

    /// The last event, after all others.
    pub(crate) fn end(mut self) -> Value {
        let mut last = None;
        while let Some(event) = self.next() {
            last = Some(event);
        }
        let last = last.expect("a stream says why it ends");
        assert_eq!(last.kind, "end", "{last:?}");
        last.data
    }
}
