//! What calls add to the ring, counted from outside.

use serde_json::Value;

use super::agent::Agent;
use super::eventually;
use super::http::Request;

/// Looks at the ring again and again, and checks each time that nothing is missing between two looks and nothing there twice.
///
/// Looking is a call itself: its entry is in the next look, and is left out of what that gives.
pub(crate) struct Ledger<'a> {
    agent: &'a Agent,
    token: String,
    /// The newest seq and the number of entries that the last look saw.
    last_seq: u64,
    total: u64,
    /// The entry of the last look.
    last_look: String,
}

impl<'a> Ledger<'a> {
    /// Begins now.
    pub(crate) fn open(agent: &'a Agent) -> Self {
        let token = agent.token(&["auditor"]);
        let mut ledger = Self { agent, token, last_seq: 0, total: 0, last_look: String::new() };
        let page = ledger.look();
        ledger.last_seq = page["items"][0]["seq"].as_u64().unwrap_or(0);
        ledger.total = page["total_items"].as_u64().unwrap();
        ledger
    }

    /// The entries since the last look, oldest first: at most 98.
    #[track_caller]
    pub(crate) fn news(&mut self) -> Vec<Value> {
        let previous_look = self.last_look.clone();
        let page = self.look();
        let mut news: Vec<Value> = page["items"].as_array().unwrap().clone();
        news.retain(|entry| entry["seq"].as_u64().unwrap() > self.last_seq);
        news.reverse();
        let seqs: Vec<u64> = news.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        let expected: Vec<u64> = (self.last_seq + 1..).take(seqs.len()).collect();
        assert_eq!(seqs, expected, "seqs go on one by one");
        let total = page["total_items"].as_u64().unwrap();
        assert_eq!(total, self.total + seqs.len() as u64, "each entry is counted");
        (self.last_seq, self.total) = (self.last_seq + seqs.len() as u64, total);
        let before = news.len();
        news.retain(|entry| entry["id"] != previous_look.as_str());
        assert_eq!(news.len(), before - 1, "the look itself is recorded once");
        news
    }

    /// The entry of the one call since the last look.
    #[track_caller]
    pub(crate) fn only(&mut self) -> Value {
        let news = self.news();
        assert_eq!(news.len(), 1, "{news:#?}");
        news.into_iter().next().unwrap()
    }

    /// The entries since the last look as soon as there are any, for calls whose end the agent notices in its own time.
    pub(crate) fn awaited(&mut self, what: &str) -> Vec<Value> {
        eventually(what, || Some(self.news()).filter(|news| !news.is_empty()))
    }

    fn look(&mut self) -> Value {
        let response =
            self.agent.call(&Request::get(&format!("{}/audit?limit=100", self.agent.base_path)).bearer(&self.token));
        assert_eq!(response.status, 200, "{}", response.text());
        response.audit_id().clone_into(&mut self.last_look);
        response.json()
    }
}
