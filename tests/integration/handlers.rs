//! Handlers that panic or never have an answer. No endpoint does on purpose, so the middleware is put around some that do.
//!
//! Long form: `ROUNDS=1000 cargo test --test integration handlers -- --nocapture`.

use std::rc::Rc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, init_service, try_call_service};
use actix_web::{App, HttpResponse, web};
use nodeaudit::api;
use nodeaudit::audit::{AUDIT_ID, Auditing, Filter, OnStoreFailure, ServedEntry, audit};
use nodeaudit::auth::{Caller, Permission};
use nodeaudit::operation::{Method, Operation, Operations};
use serde_json::{Value, json};

use crate::support::{rounds, strict_store};

const fn get(id: &'static str, path: &'static str) -> Operation {
    Operation { id, method: Method::Get, path, permission: Permission::Public, summary: "Does not end well." }
}

const PANICKING: Operation = get("GetPanic", "/panic");
const ENDLESS: Operation = get("GetEndless", "/endless");

async fn panics() -> HttpResponse {
    panic!("on purpose")
}

async fn never_answers() -> HttpResponse {
    std::future::pending().await
}

/// Calls these paths of an application in turn, and gives status and ID of each answer, and the entries, oldest first.
fn call(paths: &[&str]) -> (Vec<(u16, String)>, Vec<Value>) {
    actix_web::rt::System::new().block_on(call_within(paths))
}

async fn call_within(paths: &[&str]) -> (Vec<(u16, String)>, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer, thread) = strict_store(folder.path());
    let auditing = Auditing {
        writer: writer.clone(),
        operations: Operations::new("", [PANICKING, ENDLESS]),
        on_store_failure: OnStoreFailure::Refuse,
        handler_timeout: Duration::from_millis(50),
        answer: api::answer,
    };
    let auditing = Rc::new(auditing);
    let app = App::new()
        .route("/panic", web::get().to(panics))
        .route("/endless", web::get().to(never_answers))
        .route("/fine", web::get().to(HttpResponse::NoContent))
        .wrap(from_fn(move |request, next| audit(Rc::clone(&auditing), Caller::default(), request, next)));
    let app = init_service(app).await;
    let mut answers = Vec::new();
    for path in paths {
        let response = match try_call_service(&app, TestRequest::get().uri(path).to_request()).await {
            Ok(response) => response.into(),
            Err(error) => error.error_response(),
        };
        let id = response.headers().get(AUDIT_ID).unwrap().to_str().unwrap().to_owned();
        answers.push((response.status().as_u16(), id));
    }
    let mut entries = Vec::new();
    let visit = |entry: &ServedEntry<'_>| entries.push(serde_json::to_value(entry).unwrap());
    reader.search(&Filter::default(), u64::MAX, 0, visit).unwrap();
    entries.reverse();
    thread.stop().unwrap();
    (answers, entries)
}

#[test]
fn a_panicking_handler_is_answered_with_500_and_leaves_an_entry_each_time() {
    let panics = rounds(50) as usize;
    let mut paths = vec!["/panic"; panics];
    paths.push("/fine");
    let (answers, entries) = call(&paths);
    assert_eq!(answers.last().unwrap().0, 204, "the worker lives");
    assert_eq!((answers.len(), entries.len()), (panics + 1, panics + 1));
    for ((status, id), entry) in answers.iter().zip(&entries).take(panics) {
        assert_eq!((*status, &entry["id"]), (500, &json!(id)));
        assert_eq!((&entry["outcome"], &entry["response_code"]), (&json!("panicked"), &json!(500)));
        assert_eq!(entry["operation_id"], "GetPanic");
    }
}

#[test]
fn a_handler_that_never_answers_is_given_up_and_recorded_as_aborted() {
    let (answers, entries) = call(&["/endless", "/fine"]);
    assert_eq!((answers[0].0, answers[1].0), (503, 204));
    assert_eq!(entries[0]["id"], answers[0].1.as_str());
    assert_eq!((&entries[0]["outcome"], &entries[0]["response_code"]), (&json!("aborted"), &json!(503)));
}
