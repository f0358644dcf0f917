//! How the node resolves names, from `resolv.conf(5)`.

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::file::read_text_if_any;
use super::{Host, HostError, Paths};

/// Where systemd-resolved listens (`systemd-resolved.service(8)`): behind these it asks the real servers.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// How the node resolves names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Dns {
    /// Addresses of the name servers, in the order they are asked (`resolv.conf(5)`).
    pub servers: Vec<String>,
    /// Domains that short names are looked up in.
    pub search: Vec<String>,
    /// Options of the resolver, such as `edns0` or `timeout:2`.
    pub options: Vec<String>,
    /// Whether systemd-resolved stands between programs and these servers.
    pub stub_resolver: bool,
}

impl Host {
    /// How the node resolves names. Behind systemd-resolved's stub these are the servers that it asks.
    pub async fn dns(&self) -> Result<Dns, HostError> {
        let paths = self.paths.clone();
        self.storage.run("the resolver's configuration", move || read(&paths)).await
    }
}

fn read(paths: &Paths) -> Result<Dns, HostError> {
    let configuration = paths.etc("resolv.conf");
    let Some(text) = read_text_if_any(&configuration)? else {
        return Ok(Dns::default());
    };
    let dns = parse(&text);
    if !is_stub(&configuration, &dns) {
        return Ok(dns);
    }
    let upstream = read_text_if_any(&paths.run("systemd/resolve/resolv.conf"))?;
    Ok(Dns { stub_resolver: true, ..upstream.map_or(dns, |text| parse(&text)) })
}

fn is_stub(configuration: &Path, dns: &Dns) -> bool {
    let links_to_stub = fs::read_link(configuration).is_ok_and(|target| target.ends_with("stub-resolv.conf"));
    let asks_stub = !dns.servers.is_empty() && dns.servers.iter().all(|server| STUBS.contains(&server.as_str()));
    links_to_stub || asks_stub
}

/// The last of several `search` and `domain` lines counts, as in the resolver.
fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words.next()),
            Some("search") => dns.search = words.collect(),
            Some("domain") => dns.search = words.take(1).collect(),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{Tree, block_on};

    const PLAIN: &str = "\
# made by hand
; and another comment
domain old.example
search plant-2.example example
nameserver 192.0.2.53
nameserver 2001:db8::53
options edns0 timeout:2
options rotate
";
    const STUB: &str = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n";
    const UPSTREAM: &str = "nameserver 192.0.2.1\nsearch lan\n";

    #[test]
    fn servers_search_and_options_are_read_in_order() {
        let dns = block_on(Tree::new().with("etc/resolv.conf", PLAIN).host().dns()).unwrap();
        assert_eq!(dns.servers, ["192.0.2.53", "2001:db8::53"]);
        assert_eq!(dns.search, ["plant-2.example", "example"]);
        assert_eq!(dns.options, ["edns0", "timeout:2", "rotate"]);
        assert!(!dns.stub_resolver);
    }

    #[test]
    fn behind_the_stub_the_real_servers_are_told() {
        let tree = Tree::new()
            .with("run/systemd/resolve/stub-resolv.conf", STUB)
            .with("run/systemd/resolve/resolv.conf", UPSTREAM)
            .with_link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
        let dns = block_on(tree.host().dns()).unwrap();
        assert_eq!((dns.servers, dns.stub_resolver), (vec!["192.0.2.1".to_owned()], true));
    }

    #[test]
    fn a_stub_without_its_upstream_file_is_told_as_it_is() {
        let dns = block_on(Tree::new().with("etc/resolv.conf", STUB).host().dns()).unwrap();
        assert_eq!((dns.servers, dns.stub_resolver), (vec!["127.0.0.53".to_owned()], true));
    }

    #[test]
    fn a_node_without_the_file_has_no_servers() {
        assert_eq!(block_on(Tree::new().host().dns()).unwrap(), Dns::default());
    }
}
