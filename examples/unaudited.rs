//! The token check and the reading of `GET /node/hostname` on the same HTTP library, and no audit: what the benchmarks compare the
//! agent with. Not a switch of the agent, because nothing may turn its audit off.
//!
//! `unaudited KEY_FILE` prints its address and serves until it is killed.

use std::collections::BTreeMap;
use std::path::Path;

use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use nodeaudit::auth::{Credential, Keys, Permission, RevokedTokens, Roles, Rules, SigningKey, TokenVerifier};
use nodeaudit::host::{Changes, Host, Paths, clock};

struct Shared {
    verifier: TokenVerifier,
    host: Host,
}

async fn hostname(shared: web::Data<Shared>, request: HttpRequest) -> HttpResponse {
    let values = request.headers().get_all(AUTHORIZATION);
    let Credential::Bearer(token) = Credential::parse(values.map(HeaderValue::as_bytes)) else {
        return HttpResponse::Unauthorized().finish();
    };
    let now_s = clock::wall_clock_ms().div_euclid(1_000);
    match shared.verifier.verify(token, now_s) {
        Ok(token) if token.permissions.allows(Permission::NodeRead) => match shared.host.hostname() {
            Ok(reading) => HttpResponse::Ok().json(reading),
            Err(_) => HttpResponse::ServiceUnavailable().finish(),
        },
        Ok(_) => HttpResponse::Forbidden().finish(),
        Err(_) => HttpResponse::Unauthorized().finish(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key_file = std::env::args().nth(1).ok_or("usage: unaudited KEY_FILE")?;
    let key = SigningKey::load(Path::new(&key_file))?;
    let rules = Rules { leeway_s: 0, max_lifetime_s: None, issuers: Vec::new(), audiences: Vec::new() };
    let shared = web::Data::new(Shared {
        verifier: TokenVerifier::new(
            Keys::only(key.verifying()),
            Roles::new(&BTreeMap::new()),
            rules,
            RevokedTokens::default(),
        ),
        host: Host::new(Paths::new(Path::new("/")), Changes::Refuse),
    });
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new().app_data(shared.clone()).route("/node/hostname", web::get().to(hostname))
        })
        .bind("127.0.0.1:0")?;
        println!("http://{}", server.addrs()[0]);
        server.run().await
    })?;
    Ok(())
}
