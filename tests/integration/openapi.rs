//! The API description is the one that was last agreed upon: a change of the API shows as a change of this file.

use std::fs;
use std::path::Path;

use nodeaudit::api;
use nodeaudit::auth::PermissionSet;
use serde_json::Value;

#[test]
fn the_api_description_is_the_golden_file() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openapi.json");
    let served: Value = serde_json::from_str(&api::document(&api::endpoints(), "", PermissionSet::EMPTY)).unwrap();
    let document = serde_json::to_string_pretty(&served).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        fs::write(&golden, &document).unwrap();
    }
    let agreed = fs::read_to_string(&golden).unwrap();
    let differs = agreed.lines().zip(document.lines()).position(|(agreed, made)| agreed != made);
    let line = differs.map_or_else(|| "the length".to_owned(), |line| format!("line {}", line + 1));
    assert!(agreed == document, "{} differs from {line} on: `just bless` rewrites it", golden.display());
}
