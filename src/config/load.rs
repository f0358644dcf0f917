//! From sources to a configuration.
//!
//! Owns the order of the sources and how problems are gathered: all of them, not only the first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use toml::Table;

use super::check::range_of;
use super::setting::{Origin, Problem, Setting, in_environment, in_file};
use super::tree::Config;
use crate::auth::Permission;

/// Where settings come from, besides the environment.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What the defaults are.
    pub preset: Preset,
    /// The configuration file, and with it `conf.d/*.toml` in its folder.
    pub file: ConfigFile,
    /// The flag `--listen`.
    pub listen: Option<SocketAddr>,
    /// The flag `--state-dir`: an absolute path.
    pub state_dir: Option<PathBuf>,
}

/// What the agent starts from before anything is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preset {
    /// [`Config::default`].
    Production,
    /// `--dev`: state in this folder, an absolute path; `health:read` without a token; no address but a loopback one; no limits of
    /// how often one may call.
    Dev(PathBuf),
}

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFile {
    /// None is read, and no folder beside it.
    None,
    /// Read where it is there.
    Optional(PathBuf),
    /// Missing, it is an error.
    Required(PathBuf),
}

impl ConfigFile {
    /// Where the configuration is unless `--config` says otherwise.
    pub const DEFAULT_PATH: &'static str = "/etc/nodeaudit/nodeaudit.toml";
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or a folder can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// What the sources say is refused: one problem or more, each a line of the message.
    #[error("{}", lines(.0))]
    Refused(Vec<Problem>),
}

impl Config {
    /// The configuration that `sources` and `environment` give together; later ones win, and flags over all.
    pub fn load(
        sources: &Sources,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut loader = Loader::new();
        loader.add_all(preset_settings(&sources.preset));
        for path in files(&sources.file)? {
            loader.add_file(&path)?;
        }
        loader.add_environment(environment);
        loader.add_all(flag_settings(sources));
        loader.finish(&sources.preset)
    }
}

/// Bytes that a configuration file has at most: nobody writes one near that size, and a device has no end.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe must not make the agent wait for whoever writes to it, nor pass for an empty file while nobody does.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    let mut read = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut read)?;
    if read.len() as u64 > FILE_MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {FILE_MAX_BYTES} bytes")));
    }
    Ok(read)
}

/// Settings gathered so far, each found to be allowed by itself, and what was not.
struct Loader {
    defaults: Table,
    tree: Table,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Loader {
    fn new() -> Self {
        let defaults = Table::try_from(Config::default()).expect("the default configuration is a TOML table");
        Self { tree: defaults.clone(), defaults, origins: BTreeMap::new(), problems: Vec::new() }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let read = read_bounded(path).map_err(|source| unreadable(path, source))?;
        let settings = match String::from_utf8(read) {
            Ok(text) => in_file(path, &text),
            Err(_) => Err(Problem {
                origin: Origin::File(path.to_owned(), None),
                key: None,
                message: "is not UTF-8".to_owned(),
            }),
        };
        match settings {
            Ok(settings) => self.add_all(settings),
            Err(problem) => self.problems.push(problem),
        }
        Ok(())
    }

    fn add_environment(&mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) {
        for variable in in_environment(environment) {
            match variable {
                Ok(readings) => self.add_first_fitting(&readings),
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    fn add_all(&mut self, settings: impl IntoIterator<Item = Setting>) {
        settings.into_iter().for_each(|setting| self.add_first_fitting(&[setting]));
    }

    /// Adds the first of several readings of one setting that is allowed; if none is, the first is the one to complain of.
    fn add_first_fitting(&mut self, readings: &[Setting]) {
        let fitting = readings.iter().find(|setting| self.complaint(setting).is_none());
        if let Some(setting) = fitting {
            setting.insert_into(&mut self.tree);
            self.origins.insert(setting.key(), setting.origin.clone());
        } else if let Some((setting, complaint)) =
            readings.first().and_then(|first| Some((first, self.complaint(first)?)))
        {
            self.problems.push(setting.problem(complaint));
        }
    }

    /// What is wrong with a setting, tried as the only one beside the defaults.
    fn complaint(&self, setting: &Setting) -> Option<String> {
        if setting.replaces_table_in(&self.defaults) {
            return Some("must be a table".to_owned());
        }
        let mut tree = self.defaults.clone();
        setting.insert_into(&mut tree);
        match tree.try_into::<Config>() {
            Ok(config) => config.check_keys().into_iter().next().map(|(_, complaint)| complaint),
            Err(error) => Some(range_of(&setting.key()).unwrap_or_else(|| reworded(error.message()))),
        }
    }

    fn finish(mut self, preset: &Preset) -> Result<Config, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError::Refused(self.problems));
        }
        let config: Config = self.tree.clone().try_into().expect("each setting was tried alone");
        if matches!(preset, Preset::Dev(_)) && !config.server.listen.ip().is_loopback() {
            let message = "must be a loopback address with --dev".to_owned();
            self.complain_of(&["server.listen"], message);
            return Err(ConfigError::Refused(self.problems));
        }
        for (keys, message) in config.check_together() {
            self.complain_of(&keys, message);
        }
        if self.problems.is_empty() { Ok(config) } else { Err(ConfigError::Refused(self.problems)) }
    }

    /// Complains of the first of `keys` that was set, or of what was set below one; one was, because the defaults go together.
    fn complain_of(&mut self, keys: &[&str], message: String) {
        let below = |key: &str| self.origins.range(key.to_owned()..).find(|(set, _)| set.starts_with(key));
        let set = keys.iter().find_map(|&key| Some((key, below(key)?.1)));
        let (key, origin) = set.expect("the defaults go together, so one of these keys was set");
        self.problems.push(Problem { origin: origin.clone(), key: Some(key.to_owned()), message });
    }
}

fn preset_settings(preset: &Preset) -> Vec<Setting> {
    let Preset::Dev(state_dir) = preset else {
        return Vec::new();
    };
    let permissions = vec![Permission::HealthRead.as_str()];
    let unlimited = ["limits.peer_per_s", "limits.actor_per_s", "limits.failures_per_min"];
    let unlimited = unlimited.map(|key| Setting::flag("--dev", key, 0));
    let mut settings = vec![
        Setting::flag("--dev", "state_dir", state_dir.to_string_lossy().into_owned()),
        Setting::flag("--dev", "auth.anonymous_permissions", permissions),
    ];
    settings.extend(unlimited);
    settings
}

fn flag_settings(sources: &Sources) -> Vec<Setting> {
    let listen = sources.listen.map(|address| Setting::flag("--listen", "server.listen", address.to_string()));
    let state_dir = sources.state_dir.as_ref();
    let state_dir =
        state_dir.map(|path| Setting::flag("--state-dir", "state_dir", path.to_string_lossy().into_owned()));
    listen.into_iter().chain(state_dir).collect()
}

/// The files to read, in order: the configuration file, then `conf.d/*.toml` beside it, sorted by name.
fn files(file: &ConfigFile) -> Result<Vec<PathBuf>, ConfigError> {
    let (path, required) = match file {
        ConfigFile::None => return Ok(Vec::new()),
        ConfigFile::Optional(path) => (path, false),
        ConfigFile::Required(path) => (path, true),
    };
    let is_there = path.try_exists().map_err(|source| unreadable(path, source))?;
    let mut files = Vec::new();
    if required || is_there {
        files.push(path.clone());
    }
    files.extend(drop_ins(&path.with_file_name("conf.d"))?);
    Ok(files)
}

/// The files `*.toml` in a folder, sorted by name, without hidden ones: those are what editors leave.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(folder, source)),
    };
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names.map_err(|source| unreadable(folder, source))?;
    names.retain(|name| {
        let name = name.to_string_lossy();
        name.ends_with(".toml") && !name.starts_with('.')
    });
    names.sort();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Read { path: path.to_owned(), source }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A message of serde in the words of this configuration.
fn reworded(message: &str) -> String {
    let message = message.trim_end();
    [("unknown field", "unknown key"), ("unknown variant", "unknown value")]
        .iter()
        .find_map(|(theirs, ours)| Some(format!("{ours}{}", message.strip_prefix(theirs)?)))
        .unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Durability, OnStoreFailure};
    use crate::config::LogLevel;

    /// A folder with a configuration file, and others below `conf.d`.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new(main: &str, drop_ins: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("nodeaudit.toml"), main).unwrap();
            fs::create_dir(folder.path().join("conf.d")).unwrap();
            for (name, text) in drop_ins {
                fs::write(folder.path().join("conf.d").join(name), text).unwrap();
            }
            Self(folder)
        }

        fn sources(&self) -> Sources {
            Sources {
                preset: Preset::Production,
                file: ConfigFile::Required(self.0.path().join("nodeaudit.toml")),
                listen: None,
                state_dir: None,
            }
        }

        fn load(&self) -> Result<Config, ConfigError> {
            Config::load(&self.sources(), [])
        }

        /// What is wrong, without the folder's name.
        fn complaints(&self) -> String {
            let folder = format!("{}/", self.0.path().display());
            self.load().unwrap_err().to_string().replace(&folder, "")
        }
    }

    fn with_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter().map(|&(name, value)| (name.into(), value.into()));
        Config::load(&Files::new("", &[]).sources(), variables)
    }

    #[test]
    fn a_pipe_is_no_file_and_a_nul_no_path() {
        let files = Files::new("", &[("b.toml", "log.level = \"off\"")]);
        nix::unistd::mkfifo(&files.0.path().join("conf.d/a.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = files.load().unwrap_err();
        assert!(error.to_string().ends_with("conf.d/a.toml"), "{error}");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "it is a pipe");
        for key in ["state_dir", "tls.key", "server.socket", "auth.keys"] {
            let value = if key == "auth.keys" { r#"["/a\u0000"]"# } else { r#""/a\u0000""# };
            let complaints = Files::new(&format!("{key} = {value}"), &[]).complaints();
            assert!(complaints.contains(&format!("{key}: must be ")), "{complaints}");
        }
    }

    #[test]
    fn nothing_configured_is_the_default() {
        assert_eq!(Files::new("", &[]).load().unwrap(), Config::default());
        let sources = Sources {
            file: ConfigFile::Optional("/nonexistent/nodeaudit.toml".into()),
            ..Files::new("", &[]).sources()
        };
        assert_eq!(Config::load(&sources, []).unwrap(), Config::default());
    }

    #[test]
    fn a_missing_file_that_was_asked_for_is_an_error() {
        let sources = Sources {
            file: ConfigFile::Required("/nonexistent/nodeaudit.toml".into()),
            ..Files::new("", &[]).sources()
        };
        assert!(matches!(Config::load(&sources, []), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn a_refusal_names_file_line_and_key() {
        let catalogue = [
            ("\n\n[audit]\nmax_entries = 99", "4: audit.max_entries: must be 100 to 100000000"),
            ("audit.max_entries = \"many\"", "1: audit.max_entries: must be 100 to 100000000"),
            ("audit.max_entries = -1", "1: audit.max_entries: must be 100 to 100000000"),
            ("audit.max_entries = 1.5", "1: audit.max_entries: must be 100 to 100000000"),
            ("audit.read.guarantee = 300", "1: audit.read.guarantee: must be 0 to 90"),
            ("audit.change = { window_ms = 9 }", "1: audit.change.window_ms: must be 10 to 60000"),
            ("[audit.change]\ndurability = \"safe\"", "2: audit.change.durability: unknown value `safe`"),
            ("[server]\n# a comment\nlisten = \"8080\"", "3: server.listen: invalid socket address"),
            ("[server]\nbase_path = \"/api/\"", "2: server.base_path: must be empty, or segments"),
            ("state_dir = \"state\"", "1: state_dir: must be an absolute path"),
            ("state_dir = \"\"", "1: state_dir: must be an absolute path"),
            ("state_dir = {}", "1: state_dir: invalid type: map, expected path string"),
            ("state_dir.folder = \"/\"", "1: state_dir.folder: invalid type: map, expected path string"),
            ("[auth]\nkey_file = \"key\"", "2: auth.key_file: must be empty or an absolute path"),
            ("[auth]\nanonymous_permissions = [\"node:read\"]", "2: auth.anonymous_permissions: must be nothing or"),
            ("[auth]\nleeway_s = 6", "2: auth.leeway_s: must be 0 to 5"),
            ("[auth.roles]\nops = [\"node:reed\"]", "2: auth.roles.ops: unknown value `node:reed`, expected one of"),
            ("[auth.roles]\nops = [\"public\"]", "2: auth.roles.ops: unknown value `public`"),
            ("[auth.roles]\n\"\" = []", "2: auth.roles.: must be names of 1 to 64 bytes"),
            ("[log]\nlevel = \"loud\"", "2: log.level: unknown value `loud`, expected one of"),
            ("\n[audit]\nmax_entires = 1", "3: audit.max_entires: unknown key `max_entires`, expected one of"),
            ("\n[adit]\nmax_entries = 1", "3: adit.max_entries: unknown key `adit`, expected one of"),
            ("\n[adit]", "2: adit: unknown key `adit`, expected one of"),
            ("audit = 5", "1: audit: must be a table"),
            ("audit.change = [\"strict\", 2000, 40]", "1: audit.change: must be a table"),
            ("auth.roles = []", "1: auth.roles: must be a table"),
            ("[[audit]]\nmax_entries = 100", "1: audit: must be a table"),
            ("[server]\nworkers = 1\nworkers = 2", "3: duplicate key"),
            ("[server]\nworkers = = 2", "2: "),
            ("[server\nworkers = 2", "1: "),
            ("[audit]\nmax_bytes = 0x", "2: audit.max_bytes: "),
            ("[audit]\nmax_bytes = 99999999999999999999", "2: audit.max_bytes: "),
        ];
        for (text, complaint) in catalogue {
            let told = Files::new(text, &[]).complaints();
            assert!(told.starts_with(&format!("nodeaudit.toml:{complaint}")), "{text:?}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }

    #[test]
    fn every_problem_is_told_in_the_order_of_the_sources() {
        let files = Files::new(
            "[server]\nworkers = 65\n[audit]\nmax_bytes = 1\n[server.tls]",
            &[("b.toml", "state_dir = 1"), ("a.toml", "[log]\nlevel = 1")],
        );
        let variable = ("NODEAUDIT_HOST__ROOT".into(), "here".into());
        let Err(ConfigError::Refused(problems)) = Config::load(&files.sources(), [variable]) else {
            panic!("not refused")
        };
        let keys: Vec<_> = problems.iter().filter_map(|problem| problem.key.as_deref()).collect();
        let in_order = ["server.workers", "audit.max_bytes", "server.tls", "log.level", "state_dir", "host.root"];
        assert_eq!(keys, in_order);
    }

    #[test]
    fn drop_ins_come_after_the_file_sorted_and_without_hidden_ones() {
        let files = Files::new(
            "[audit]\nmax_entries = 1000\n[audit.read]\nwindow_ms = 100",
            &[
                ("20-more.toml", "audit.max_entries = 3000"),
                ("10-less.toml", "audit.max_entries = 2000"),
                (".30-hidden.toml", "audit.max_entries = 4000"),
                ("40-other.toml.bak", "audit.max_entries = 5000"),
            ],
        );
        let config = files.load().unwrap();
        assert_eq!(config.audit.max_entries, 3000);
        assert_eq!(config.audit.read.window_ms, 100);
        assert_eq!(config.audit.read.durability, Durability::Relaxed);
        assert_eq!(config.audit.change, Config::default().audit.change);
    }

    #[test]
    fn a_list_is_replaced_and_roles_are_added() {
        let files = Files::new(
            "[auth]\nanonymous_permissions = [\"health:read\"]\n[auth.roles]\none = [\"node:read\"]",
            &[("a.toml", "[auth]\nanonymous_permissions = []\nroles.two = [\"log:read\"]")],
        );
        let auth = files.load().unwrap().auth;
        assert_eq!(auth.anonymous_permissions, []);
        assert_eq!(auth.roles.keys().collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn the_environment_wins_over_files_and_flags_over_the_environment() {
        let files = Files::new("state_dir = \"/file\"\nserver.listen = \"127.0.0.1:1\"\naudit.max_entries = 1000", &[]);
        let sources = Sources { listen: Some(([127, 0, 0, 1], 3).into()), ..files.sources() };
        let environment = [
            ("NODEAUDIT_STATE_DIR".into(), "/environment".into()),
            ("NODEAUDIT_SERVER__LISTEN".into(), "127.0.0.1:2".into()),
        ];
        let config = Config::load(&sources, environment).unwrap();
        assert_eq!(config.state_dir, Path::new("/environment"));
        assert_eq!(config.server.listen.port(), 3);
        assert_eq!(config.audit.max_entries, 1000);
    }

    #[test]
    fn a_variable_is_read_as_toml_or_as_text_whichever_fits() {
        let config = with_environment(&[
            ("NODEAUDIT_AUDIT__MAX_ENTRIES", "5_000"),
            ("NODEAUDIT_AUDIT__CHANGE__WINDOW_MS", "10"),
            ("NODEAUDIT_AUDIT__ON_STORE_FAILURE", "refuse"),
            ("NODEAUDIT_LOG__LEVEL", "\"debug\""),
            ("NODEAUDIT_SERVER__BASE_PATH", ""),
            ("NODEAUDIT_AUTH__ANONYMOUS_PERMISSIONS", "[\"health:read\"]"),
            ("NODEAUDIT_AUTH__ROLES__OPS", "[\"log:read\"]"),
            ("NODEAUDITOR_X", "another program's"),
            ("PATH", "/bin"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.audit.max_entries, 5000);
        assert_eq!(config.audit.change.window_ms, 10);
        assert_eq!(config.audit.on_store_failure, OnStoreFailure::Refuse);
        assert_eq!(config.log.level, LogLevel::Debug);
        assert_eq!(config.auth.anonymous_permissions, [Permission::HealthRead]);
        assert_eq!(config.auth.roles["ops"], [Permission::LogRead]);
    }

    #[test]
    fn a_refusal_names_the_variable() {
        let catalogue = [
            ("AUDIT__MAX_ENTRIES", "5", "audit.max_entries: must be 100 to 100000000"),
            ("AUDIT__MAX_ENTRIES", "", "audit.max_entries: must be 100 to 100000000"),
            ("AUDIT__MAX_ENTIRES", "5", "audit.max_entires: unknown key `max_entires`"),
            ("AUDIT_MAX_ENTRIES", "5", "audit_max_entries: unknown key `audit_max_entries`"),
            ("LOG", "debug", "log: must be a table"),
            ("SERVER__WORKERS", "1\nstate_dir = \"/x\"", "server.workers: must be 0 to 64"),
            ("", "5", ": unknown key ``"),
        ];
        for (name, value, complaint) in catalogue {
            let name = format!("NODEAUDIT_{name}");
            let told = with_environment(&[(&name, value)]).unwrap_err().to_string();
            assert!(told.starts_with(&format!("{name}: {complaint}")), "{told}");
        }
    }

    #[test]
    fn a_contradiction_names_a_key_that_was_set() {
        let files = Files::new("", &[("a.toml", "\n[audit.read]\nguarantee = 50")]);
        let told = files.complaints();
        assert!(
            told.starts_with("conf.d/a.toml:3: audit.read.guarantee: the guarantees of the three classes are 110"),
            "{told}"
        );
    }

    #[test]
    fn development_keeps_to_its_folder_and_to_the_loopback() {
        let sources = |listen: &str| Sources {
            preset: Preset::Dev("/srv/nodeaudit-state".into()),
            file: ConfigFile::None,
            listen: Some(listen.parse().unwrap()),
            state_dir: None,
        };
        let config = Config::load(&sources("[::1]:0"), []).unwrap();
        assert_eq!(config.state_dir, Path::new("/srv/nodeaudit-state"));
        assert_eq!(config.auth.anonymous_permissions, [Permission::HealthRead]);
        let told = Config::load(&sources("0.0.0.0:8080"), []).unwrap_err().to_string();
        assert!(told.starts_with("--listen: server.listen: must be a loopback address with --dev"));
    }
}
