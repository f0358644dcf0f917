//! A handler that panics. No endpoint does on purpose, so the middleware is put around one that does.

use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, init_service, try_call_service};
use actix_web::{App, HttpResponse, web};
use nodeaudit::api;
use nodeaudit::audit::ring::{Ring, RingOptions};
use nodeaudit::audit::{
    AUDIT_ID, Auditing, Durabilities, Durability, OnStoreFailure, Reader, Writer, WriterOptions, audit,
};
use nodeaudit::auth::Permission;
use nodeaudit::operation::{Method, Operation, Operations};
use serde_json::Value;

const PANICKING: Operation = Operation {
    id: "GetPanic",
    method: Method::Get,
    path: "/panic",
    permission: Permission::Public,
    summary: "Panics.",
};

async fn panics() -> HttpResponse {
    panic!("on purpose")
}

#[test]
fn a_panicking_handler_is_answered_with_500_and_leaves_an_entry() {
    actix_web::rt::System::new().block_on(call_what_panics());
}

async fn call_what_panics() {
    let folder = tempfile::tempdir().unwrap();
    let options = RingOptions {
        state_dir: folder.path().to_owned(),
        max_entries: 1_000,
        max_bytes: 4 << 20,
        guarantee_percent: [40, 30, 20],
        boot_id: uuid::Uuid::nil(),
        started_ms: 0,
    };
    let ring = Ring::open(&options).unwrap();
    let reader = Arc::new(Reader::new(folder.path(), ring.gate()));
    let durabilities = Durabilities([(Durability::Strict, Duration::ZERO); 3]);
    let options = WriterOptions { durabilities, max_pending: 64, denied_entries: 16 };
    let (writer, thread) = Writer::start(ring, options).unwrap();
    let auditing = Auditing {
        writer: writer.clone(),
        operations: Operations::new("", [PANICKING]),
        on_store_failure: OnStoreFailure::Refuse,
        handler_timeout: Duration::from_millis(50),
        answer: api::answer,
    };
    let app = App::new()
        .app_data(web::Data::new(auditing))
        .route("/panic", web::get().to(panics))
        .route("/fine", web::get().to(HttpResponse::NoContent))
        .wrap(from_fn(audit));
    let app = init_service(app).await;

    let error = try_call_service(&app, TestRequest::get().uri("/panic").to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status(), 500);
    let id = response.headers().get(AUDIT_ID).unwrap().to_str().unwrap().to_owned();
    let after = try_call_service(&app, TestRequest::get().uri("/fine").to_request()).await.unwrap();
    assert_eq!(after.status(), 204, "the worker lives");

    // Strict: nothing has to be flushed.
    let mut entries = Vec::new();
    reader.page(10, 0, |entry| entries.push(serde_json::to_value(entry).unwrap())).unwrap();
    let panicked: &Value = &entries[1];
    assert_eq!(panicked["id"], id);
    assert_eq!(panicked["outcome"], "panicked");
    assert_eq!(panicked["response_code"], 500);
    assert_eq!(panicked["operation_id"], "GetPanic");
    thread.stop().unwrap();
}
