//! The effective configuration as commented TOML.
//!
//! The comments are those of `packaging/nodeaudit.toml`, which has every key; only the values are filled in here. No value
//! of the configuration is a secret: keys are in files of their own.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::tree::Config;

/// The configuration as it is shipped: every key with its default, commented out.
const SHIPPED: &str = include_str!("../../packaging/nodeaudit.toml");

impl Config {
    /// This configuration as TOML that gives the same one when it is loaded.
    pub fn render(&self) -> String {
        let tree = Table::try_from(self).expect("a configuration is a TOML table");
        let mut text = String::with_capacity(SHIPPED.len());
        let mut section = String::new();
        text += "# The configuration in force, from all sources.\n\n";
        for line in shipped_keys().lines() {
            if let Some(name) = section_name(line) {
                name.clone_into(&mut section);
            }
            match key_name(line).and_then(|key| find(&tree, &section, key).map(|value| (key, value))) {
                Some((key, value)) => writeln!(text, "{key} = {value}"),
                None => writeln!(text, "{line}"),
            }
            .expect("writing to a String can't fail");
            // The operator's own, of which the shipped file can't have a line each.
            match line {
                "[auth.roles]" => text += &toml::to_string(&self.auth.roles).expect("names and lists are TOML"),
                "[tls.roles]" => text += &toml::to_string(&self.tls.roles).expect("names and lists are TOML"),
                _ => {}
            }
        }
        text
    }
}

/// The shipped file without its first paragraph, which tells what the file itself is.
fn shipped_keys() -> &'static str {
    SHIPPED.split_once("\n\n").map_or(SHIPPED, |(_, keys)| keys)
}

/// `audit.change` of `[audit.change]`.
fn section_name(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

/// `max_entries` of `#max_entries = 100000`. A `#` with a space after it is prose.
fn key_name(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix('#')?.split_once(" = ")?;
    (!key.starts_with(' ')).then_some(key)
}

fn find<'a>(tree: &'a Table, section: &str, key: &str) -> Option<&'a Value> {
    let mut table = tree;
    for name in section.split('.').filter(|name| !name.is_empty()) {
        table = table.get(name)?.as_table()?;
    }
    table.get(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::setting::{Setting, in_file};
    use super::*;
    use crate::auth::Permission;

    /// Every key but those of roles.
    fn keys(text: &str) -> BTreeSet<String> {
        let settings = in_file("test.toml".as_ref(), text).unwrap();
        let values = settings.iter().filter(|setting| !setting.value.is_table());
        values.map(Setting::key).collect()
    }

    fn parsed(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn uncommented() -> String {
        let lines = SHIPPED.lines().map(|line| match key_name(line) {
            Some(_) => &line[1..],
            None => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_file_sets_nothing() {
        assert_eq!(keys(SHIPPED), BTreeSet::new());
    }

    #[test]
    fn the_shipped_file_shows_every_key_with_its_default() {
        assert_eq!(parsed(&uncommented()), Config::default());
        let every_key = keys(&toml::to_string(&Config::default()).unwrap());
        assert_eq!(keys(&uncommented()), every_key);
        assert!(every_key.contains("audit.denied.guarantee"));
    }

    #[test]
    fn every_key_of_the_shipped_file_is_explained() {
        let lines: Vec<_> = SHIPPED.lines().collect();
        // Those of the classes are explained once, above the three of them.
        let of_a_class = ["durability", "window_ms", "guarantee"];
        for (above, line) in lines.iter().zip(&lines[1..]) {
            if let Some(key) = key_name(line).filter(|key| !of_a_class.contains(key)) {
                assert!(above.starts_with("# "), "{key}");
            }
        }
    }

    #[test]
    fn what_is_rendered_parses_back_to_the_same() {
        assert_eq!(parsed(&Config::default().render()), Config::default());
        let mut config = Config { state_dir: "/srv/\"quoted\" \\ and ünïcode".into(), ..Config::default() };
        config.server.listen = "[::1]:0".parse().unwrap();
        config.auth.key_file = Some("/run/credentials/key".into());
        config.auth.anonymous_permissions = vec![Permission::HealthRead];
        for name in ["operator", "two words", "dotted.name", "quote\"d"] {
            let held = vec![Permission::NodeRead, Permission::ServiceWrite];
            config.auth.roles.insert(name.to_owned(), held);
        }
        config.audit.max_bytes = 1 << 40;
        config.audit.read.guarantee = 0;
        assert_eq!(parsed(&config.render()), config);
    }

    #[test]
    fn what_is_rendered_keeps_the_explanations() {
        let prose = |text: &str| text.lines().filter(|line| line.starts_with("# ")).count();
        assert_eq!(prose(&Config::default().render()), 1 + prose(shipped_keys()));
    }
}
