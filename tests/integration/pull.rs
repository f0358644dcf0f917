//! `nodeaudit pull`: each entry of each node exactly once, whatever ends it and whoever answers.
//!
//! Long form: `ROUNDS=200 cargo test --release --test integration pull`.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Agent, Authority, Callers, Calls, Dice, Load, Node, Pulling, Request, STRACE, answering, can_isolate, progress,
    rounds,
};

fn call(agent: &Agent, times: usize) {
    let mut connection = agent.connect();
    (0..times).for_each(|_| drop(connection.call(&Request::get("/health"))));
}

#[test]
fn each_run_reads_on_where_the_last_one_ended() {
    let each = "audit.denied_entries = 4096\n";
    let agents = [Node::new(each).start(), Node::new(&format!("server.base_path = \"/api\"\n{each}")).start()];
    let mut pulling = Pulling::of("node-1", &agents[0]);
    pulling.add("node-2", &agents[1]);
    for round in 1..=3 {
        for agent in &agents {
            call(agent, 130);
        }
        let told = pulling.run(0);
        assert_eq!(told.len(), 2);
        for (name, agent) in ["node-1", "node-2"].into_iter().zip(&agents) {
            let seqs = pulling.seqs(name);
            let last = seqs.len() as u64;
            assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "{name}");
            assert!(last >= round * 130, "{name}: {last}");
            let line = serde_json::to_string(&pulling.lines(name)[0]).unwrap();
            assert_eq!(agent.read("/audit?after=0&limit=1")["items"][0], serde_json::from_str::<Value>(&line).unwrap());
        }
    }
}

#[test]
fn where_nothing_is_new_nothing_is_written() {
    let agent = Agent::start();
    call(&agent, 10);
    let pulling = Pulling::of("a", &agent);
    pulling.run(0);
    let files = || {
        ["a.ndjson", "a.cursor.json"]
            .map(|file| fs::metadata(pulling.out(file)).unwrap())
            .map(|file| (file.ino(), file.len()))
    };
    let before = files();
    for _ in 0..3 {
        assert_eq!(pulling.run(0)["a"]["entries"], 0);
        assert_eq!(files(), before, "a cursor that is written is another file");
    }
    let polls = agent.read("/audit?response_code=304")["total_items"].as_u64();
    assert_eq!(polls, Some(3), "they cost the agent next to nothing");
    call(&agent, 1);
    // The polls, too, are entries.
    assert!(pulling.run(0)["a"]["entries"].as_u64() > Some(3));
    let last = pulling.seqs("a").len() as u64;
    assert_eq!(pulling.seqs("a"), (1..=last).collect::<Vec<_>>());
}

#[test]
fn what_the_ring_has_lost_is_told_in_the_file_and_at_the_end() {
    let agent = Node::new("audit.max_entries = 1000\naudit.denied_entries = 4096\n").start();
    call(&agent, 100);
    let mut pulling = Pulling::of("a", &agent);
    pulling.run(0);
    call(&agent, 3_000);
    let missing = pulling.run(79)["a"]["missing"].as_u64().unwrap();
    let lines = pulling.lines("a");
    let gap = lines.iter().find(|line| line.get("gap").is_some()).unwrap();
    assert_eq!((&gap["gap"]["reason"], &gap["gap"]["count"]), (&json!("evicted"), &json!(missing)));
    assert!(missing > 1_000);
    let seqs = pulling.seqs("a");
    assert!(seqs.is_sorted_by(|a, b| a < b), "none twice");
    assert_eq!(seqs.len() as u64 + missing, *seqs.last().unwrap());
    assert_eq!(pulling.run(0)["a"]["missing"], 0, "it is told once");

    // The ring is removed: another one is read from its beginning.
    let node = agent.stop(Signal::SIGTERM).0;
    fs::remove_file(node.state_dir().join(nodeaudit::audit::ring::FILE_NAME)).unwrap();
    let agent = node.start();
    pulling.add("a", &agent);
    call(&agent, 5);
    let told = pulling.run(79);
    assert_eq!(told["a"]["gaps"], 1, "{told:?}");
    let lines = pulling.lines("a");
    let gap = lines.iter().rposition(|line| line["gap"]["reason"] == "new_ring").unwrap();
    assert_eq!(lines[gap]["epoch"], agent.read("/audit/status")["epoch"]);
    assert!(lines[gap + 1..].len() >= 5);
}

#[test]
fn a_node_that_fails_or_lies_stops_no_other_and_leaves_nothing_behind() {
    let agent = Agent::start();
    call(&agent, 10);
    let authority = Authority::new();
    let mut pulling = Pulling::of("good", &agent);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    pulling.add_url("down", &format!("http://{free}"), "x", "");
    pulling.add_url("refuses", &format!("http://{}", agent.address()), "x", "");
    let page = |seqs: &str, more: bool| {
        let items: Vec<_> = seqs.split_whitespace().map(|seq| format!("{{\"seq\":{seq}}}")).collect();
        let (items, epoch) = (items.join(","), "00000000-0000-4000-8000-000000000000");
        let cursor = format!("{{\"epoch\":\"{epoch}\",\"after\":7,\"known\":\"1.1.1\",\"more\":{more}}}");
        format!("{{\"items\":[{items}],\"cursor\":{cursor}}}")
    };
    let liars = [
        ("bad-json", answer("{\"items\":[")),
        ("no-cursor", answer("{\"items\":[]}")),
        ("backwards", answer(&page("7 6", false))),
        ("twice", answer(&page("7 7", false))),
        ("endless-list", answer(&page("1 2 3", true))),
        ("empty-list", answer(&page("", true))),
        ("endless-body", [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &b" ".repeat(5 << 20)].concat()),
        ("cut-off", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec()),
        ("bomb", bomb()),
        ("no-http", b"\x16\x03\x01\x02".to_vec()),
    ];
    for (name, bytes) in &liars {
        pulling.add_url(name, &format!("http://{}", answering(bytes.clone())), "x", "");
    }
    let tls = tls_agent(&Authority::new());
    let certificate = pulling.out("").parent().unwrap().join("ca.crt");
    fs::write(&certificate, &authority.certificate).unwrap();
    pulling.add_url("wrong-certificate", &format!("https://{}", tls.address()), "x", "cacert = \"ca.crt\"\n");
    pulling.add_url(
        "wrong-pin",
        &format!("https://{}", tls.address()),
        "x",
        &format!("pin = \"{}\"\n", "00".repeat(32)),
    );

    let told = pulling.run(69);
    assert_eq!(told.len(), 3 + liars.len() + 2);
    for (name, told) in &told {
        let seqs = pulling.seqs(name);
        if name == "good" {
            assert_eq!(told.get("error"), None);
            assert!(seqs.len() >= 10, "the call that was refused may be there, too");
            continue;
        }
        let error = told["error"].as_str().unwrap_or_else(|| panic!("{name} is believed: {told}"));
        // The list that has no end begins with a page that is in order.
        let expected: &[u64] = if name == "endless-list" { &[1, 2, 3] } else { &[] };
        assert_eq!(seqs, expected, "{name}: {error}");
    }
    assert!(told["wrong-certificate"]["error"].as_str().unwrap().contains("no TLS"), "{told:?}");
    assert!(told["refuses"]["error"].as_str().unwrap().contains("401"), "{told:?}");
}

#[test]
fn a_run_that_is_killed_at_any_moment_repeats_nothing_and_misses_nothing() {
    let agent = Node::new("audit.denied_entries = 4096\n").start();
    let pulling = Pulling::of("a", &agent);
    let load = Load::start(&agent, "kill", Callers { number: 4, calls: Calls::Mixed, pause: Duration::ZERO });
    let mut dice = Dice::new();
    let (mut killed, mut cut_off) = (0, 0);
    for round in 0..rounds(25) {
        load.await_answers(u64::from(round + 1) * 40);
        let mut child =
            pulling.command(&["--max-entries", "100000"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        dice.wait(Duration::from_millis(60));
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
        let recorded = fs::read(pulling.out("a.cursor.json")).ok();
        let recorded = recorded
            .map_or(0, |text| serde_json::from_slice::<Value>(&text).unwrap()["output_bytes"].as_u64().unwrap());
        let length = fs::metadata(pulling.out("a.ndjson")).map_or(0, |file| file.len());
        assert!(length >= recorded, "the cursor is behind what is there, never before it");
        cut_off += u32::from(length > recorded);
        progress(&format!("round {round}: {killed} killed, {cut_off} with entries that are not accounted for"));
    }
    load.end();
    pulling.run(0);
    assert!(killed > 0, "some were killed before they ended");
    let seqs = pulling.seqs("a");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let held = agent.read("/audit?limit=1")["total_items"].as_u64().unwrap();
    // Only the last runs' own readings can be left.
    assert!(held - seqs.len() as u64 <= 2, "{held} {}", seqs.len());
}

#[test]
fn a_run_that_is_killed_at_each_step_of_storing_repeats_nothing_and_misses_nothing() {
    if !can_isolate(&[STRACE]) {
        return;
    }
    let agent = Agent::start();
    let pulling = Pulling::of("a", &agent);
    let mut cut_off = 0;
    for calls in ["fdatasync", "fsync", "rename,renameat,renameat2"] {
        for at in 1..=2 {
            call(&agent, 10);
            let pull = pulling.command(&[]);
            let mut strace = std::process::Command::new(STRACE);
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            strace.arg("-e").arg(format!("inject={calls}:signal=SIGKILL:when={at}")).arg(pull.get_program());
            strace.args(pull.get_args()).env_clear().output().unwrap();
            let recorded = fs::read(pulling.out("a.cursor.json")).ok();
            let recorded = recorded.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
            let length = fs::metadata(pulling.out("a.ndjson")).map_or(0, |file| file.len());
            cut_off += u32::from(length > recorded["output_bytes"].as_u64().unwrap_or(0));
        }
    }
    assert!(cut_off >= 3, "it was killed behind the entries and before the cursor: {cut_off}");
    pulling.run(0);
    let seqs = pulling.seqs("a");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(seqs.len() >= 60);
}

#[test]
fn a_run_that_can_not_write_leaves_nothing_half_behind() {
    let agent = Agent::start();
    let pulling = Pulling::of("a", &agent);
    call(&agent, 100);
    let limited = |blocks: u32| {
        let pull = pulling.command(&[]);
        let mut shell = std::process::Command::new("/bin/sh");
        // A file that may not grow gives the error that a full disk gives, in the middle of a line.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
        let output = shell.arg(pull.get_program()).args(pull.get_args()).env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(69), "{output:?}");
    };
    // The cursor has no room, then the entries have none.
    for blocks in [0, 1, 1] {
        limited(blocks);
        assert_eq!(fs::metadata(pulling.out("a.ndjson")).map_or(0, |file| file.len()), 0);
    }
    pulling.run(0);
    let held = pulling.seqs("a").len();
    assert!(!pulling.out("a.ndjson.1").exists(), "there was nothing to keep");
    call(&agent, 100);
    limited(50);
    assert_eq!(pulling.seqs("a").len(), held, "whole lines, all of them accounted for");
    pulling.run(0);
    let seqs = pulling.seqs("a");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew_and_a_folder_in_use_is_left_alone() {
    let agent = Agent::start();
    call(&agent, 10);
    let pulling = Pulling::of("a", &agent);
    pulling.run(0);
    let first = pulling.seqs("a");
    fs::rename(pulling.out("a.ndjson"), pulling.out("a.1")).unwrap();
    call(&agent, 10);
    pulling.run(0);
    let second = pulling.seqs("a");
    assert_eq!(second[0], first.last().unwrap() + 1);

    let lock = fs::File::open(pulling.out(".lock")).unwrap();
    let _lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    assert!(pulling.run(75).is_empty());
}

#[test]
fn a_list_that_names_a_path_or_has_an_unknown_key_is_refused_with_its_line() {
    for (name, more) in [("../a", ""), ("a/b", ""), (".a", ""), ("a", "tokenfile = \"x\"\n"), ("a", "pin = \"x\"\n")] {
        let folder = tempfile::tempdir().unwrap();
        let nodes = folder.path().join("nodes.toml");
        fs::write(&nodes, format!("[[node]]\nname = {name:?}\nurl = \"https://127.0.0.1\"\n{more}")).unwrap();
        let out = folder.path().join("out");
        let output = crate::support::command(&["pull", "--nodes"]).arg(&nodes).arg("--out").arg(&out).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let line = if more.is_empty() { "nodes.toml:2:" } else { "nodes.toml:4:" };
        assert!(String::from_utf8_lossy(&output.stderr).contains(line), "{output:?}");
        assert!(!out.exists(), "nothing was made");
    }
}

#[test]
fn a_node_that_is_asked_too_often_is_asked_again_when_it_says() {
    let agent = Node::new("limits.actor_per_s = 2\nlimits.actor_burst = 3\naudit.denied_entries = 4096\n").start();
    call(&agent, 450);
    let pulling = Pulling::of("a", &agent);
    pulling.run(0);
    let seqs = pulling.seqs("a");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(pulling.lines("a").iter().any(|line| line["response_code"] == 429), "it was refused, and that is an entry");
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    const SCRIPT: &str = "/usr/bin/script";
    let agent = Agent::start();
    call(&agent, 10);
    let pulling = Pulling::of("a", &agent);
    let pull = pulling.command(&["--output=table"]);
    assert!(pulling.command(&[]).output().unwrap().stderr.is_empty());
    if !std::path::Path::new(SCRIPT).exists() {
        crate::support::skipped("there is no script(1) that gives a command a terminal");
        return;
    }
    call(&agent, 10);
    let words =
        std::iter::once(pull.get_program()).chain(pull.get_args().filter(|word| *word != "-o" && *word != "ndjson"));
    let line: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let output = std::process::Command::new(SCRIPT)
        .args(["-qec", &line.join(" "), "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("of 1 nodes, ") && shown.contains("nodes: 1; entries: "), "{shown:?}");
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A body that is small as it is sent and has no end when it is unpacked.
fn bomb() -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&b" ".repeat(64 << 20)).unwrap();
    let packed = packed.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len());
    [head.into_bytes(), packed].concat()
}

/// An agent whose certificate that authority has signed.
fn tls_agent(authority: &Authority) -> Agent {
    use std::os::unix::fs::PermissionsExt as _;
    let own = authority.issue("node-7");
    let node = Node::new("");
    for (name, text) in [("tls.crt", &own.certificate), ("tls.key", &own.key)] {
        fs::write(node.folder().join(name), text).unwrap();
        fs::set_permissions(node.folder().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| node.folder().join(name).display().to_string());
    let config = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    fs::write(node.folder().join("nodeaudit.toml"), config).unwrap();
    node.over_tls(crate::support::TlsClient::new(&authority.certificate, None)).start()
}
