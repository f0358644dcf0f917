//! The list of nodes: a TOML file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::auth::{FileError, GuardedFile};
use crate::client::{Pin, Target, Trust, one_line};

/// Bytes of the file: a hundred thousand nodes have room.
const FILE_MAX_BYTES: usize = 16 << 20;

/// Bytes of a name, which is that of files with something behind it.
const NAME_MAX_BYTES: usize = 128;

/// The nodes of a fleet.
#[derive(Debug)]
pub struct Nodes(pub Vec<Node>);

/// A node, and how it is called.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is called here.
    pub name: NodeName,
    /// Where its agent is.
    pub target: Target,
    /// The file of the token to show, if any.
    pub token_file: Option<PathBuf>,
    /// Whom to trust, and which certificate to show.
    pub trust: Trust,
}

/// A name that can be that of a file: ASCII letters, digits, `.`, `_`, `-`, the first one a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(String);

impl NodeName {
    /// The name, where it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        (begins && text.len() <= NAME_MAX_BYTES && text.bytes().all(is_inside)).then(|| Self(text.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// Its file is not one to be used: whoever can change it decides where tokens go.
    #[error("can't use the list of nodes")]
    File(#[from] FileError),
    /// What stands in it is none.
    #[error("{}:{line}: {what}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// The file: what holds for all nodes that don't say it themselves, then the nodes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    token_file: Option<PathBuf>,
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    plaintext: bool,
    #[serde(default)]
    node: Vec<Spanned<NodeText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeText {
    name: Spanned<String>,
    url: Spanned<String>,
    token_file: Option<PathBuf>,
    cacert: Option<PathBuf>,
    pin: Option<Spanned<String>>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    plaintext: Option<bool>,
}

impl Nodes {
    /// Reads the list. Paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Self, NodesError> {
        let file = GuardedFile::open(path)?;
        file.check_public()?;
        let bytes = file.read(FILE_MAX_BYTES)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&String::from_utf8_lossy(&bytes), folder).map_err(|(offset, what)| NodesError::Refused {
            path: path.to_owned(),
            line: 1 + bytes.iter().take(offset).filter(|&&byte| byte == b'\n').count(),
            what,
        })
    }

    /// Reads its text; says where it is wrong, and how.
    fn parse(text: &str, folder: &Path) -> Result<Self, (usize, String)> {
        let all: FileText = toml::from_str(text).map_err(|error| {
            (error.span().map_or(0, |span| span.start), error.message().lines().collect::<Vec<_>>().join(": "))
        })?;
        let mut names = BTreeSet::new();
        let nodes = all.node.iter().map(|node| {
            let at = node.span().start;
            let node = node.get_ref().read(&all, folder, at)?;
            if !names.insert(node.name.clone()) {
                return Err((at, format!("there are two nodes with the name {}", node.name)));
            }
            Ok(node)
        });
        let nodes: Vec<_> = nodes.collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            return Err((text.len(), "there is no [[node]]".to_owned()));
        }
        Ok(Self(nodes))
    }
}

impl NodeText {
    fn read(&self, all: &FileText, folder: &Path, at: usize) -> Result<Node, (usize, String)> {
        let name = NodeName::parse(self.name.get_ref()).ok_or_else(|| {
            let form = "letters, digits, dots, hyphens and underscores, a letter or a digit first";
            let given = one_line(self.name.get_ref(), NAME_MAX_BYTES);
            (self.name.span().start, format!("name must be up to {NAME_MAX_BYTES} {form}, not {given:?}"))
        })?;
        let target = Target::parse(self.url.get_ref());
        let target = target.map_err(|error| (self.url.span().start, format!("url {error}")))?;
        let pin = self
            .pin
            .as_ref()
            .map(|pin| Pin::parse(pin.get_ref()).map_err(|error| (pin.span().start, format!("pin {error}"))));
        let pin = pin.transpose()?;
        if pin.is_some() && self.cacert.is_some() {
            return Err((at, format!("{name} has both pin and cacert: one of them says whom to trust")));
        }
        let identity = match (&self.cert, &self.key) {
            (None, None) => (&all.cert, &all.key),
            own => own,
        };
        let path = |path: &PathBuf| folder.join(path);
        let identity = match identity {
            (Some(certificate), Some(key)) => Some((path(certificate), path(key))),
            (None, None) => None,
            _ => return Err((at, format!("{name} needs both cert and key, or none of them"))),
        };
        let token_file = self.token_file.as_ref().or(all.token_file.as_ref()).map(path);
        let is_plaintext_allowed = self.plaintext.unwrap_or(all.plaintext);
        if token_file.is_some() && target.is_open_to_others() && !is_plaintext_allowed {
            let what =
                format!("the token of {name} would go over the network without TLS: use https://, or plaintext = true");
            return Err((self.url.span().start, what));
        }
        let authorities = self.cacert.as_ref().or(all.cacert.as_ref()).map(path);
        Ok(Node { name, target, token_file, trust: Trust { authorities, pin, identity } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (usize, String) {
        let (offset, what) = Nodes::parse(text, Path::new("/f")).expect_err(text);
        (1 + text[..offset].matches('\n').count(), what)
    }

    #[test]
    fn a_node_has_what_it_says_and_else_what_is_said_for_all() {
        let text = "token_file = \"t\"\ncacert = \"/ca\"\n[[node]]\nname = \"a\"\nurl = \"https://a\"\n\
                    [[node]]\nname = \"b.1\"\nurl = \"unix:/b\"\ntoken_file = \"/own\"\ncert = \"c\"\nkey = \"k\"\n";
        let Nodes(nodes) = Nodes::parse(text, Path::new("/f")).unwrap();
        assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b.1"]);
        assert_eq!(nodes[0].token_file.as_deref(), Some(Path::new("/f/t")));
        assert_eq!(nodes[0].trust.authorities.as_deref(), Some(Path::new("/ca")));
        assert_eq!(nodes[1].token_file.as_deref(), Some(Path::new("/own")));
        assert_eq!(nodes[1].trust.identity, Some(("/f/c".into(), "/f/k".into())));
    }

    #[test]
    fn a_name_is_never_a_path() {
        for name in ["", ".", "..", "../a", "a/b", "/a", "-a", ".a", "a b", "a\0", "a\n", "\u{e4}", &"x".repeat(129)] {
            assert_eq!(NodeName::parse(name), None, "{name:?}");
        }
        for name in ["a", "7", "node-7.example.org", "A_1", &"x".repeat(128)] {
            assert_eq!(NodeName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let node = "[[node]]\nname = \"a\"\nurl = \"https://a\"\n";
        assert_eq!(refusal(""), (1, "there is no [[node]]".to_owned()));
        assert_eq!(refusal(&format!("{node}{node}")).0, 4);
        assert_eq!(refusal("[[node]]\nname = \"../a\"\nurl = \"https://a\"\n").0, 2);
        assert_eq!(
            refusal("[[node]]\nname = \"a\"\nurl = \"a\"\n"),
            (3, "url must begin with https://, http:// or unix:/".to_owned())
        );
        assert_eq!(refusal(&format!("{node}pin = \"00\"\n")).0, 4);
        assert_eq!(refusal(&format!("{node}tokenfile = \"x\"\n")).0, 4);
        assert_eq!(refusal("[[node]]\nname = \"a\"\n").0, 1);
        assert!(refusal(&format!("{node}cert = \"x\"\n")).1.contains("both cert and key"));
        let clear = "token_file = \"t\"\n[[node]]\nname = \"a\"\nurl = \"http://10.0.0.7\"\n";
        assert!(refusal(clear).1.contains("without TLS"));
        assert!(Nodes::parse(&format!("{clear}plaintext = true\n"), Path::new("")).is_ok());
    }
}
