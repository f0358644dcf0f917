//! The filters of the API as options.

use clap::Args;

/// Which entries.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "it is read on a terminal")]
#[command(next_help_heading = "Filters, all of which an entry has to meet")]
pub(super) struct Filters {
    /// Calls of this user; an empty one: of nobody in particular
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    user: Option<String>,
    /// Calls of users with this role, among others
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    role: Option<String>,
    /// Calls with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Calls of this path; of each that begins so where it ends in *
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Calls of this operation, such as PutNodeHostname
    #[arg(long, alias = "operation_id", value_name = "ID")]
    operation_id: Option<String>,
    /// Calls from this address or network, such as 10.0.0.0/8
    #[arg(long, alias = "source_ip", value_name = "ADDRESS")]
    source_ip: Option<String>,
    /// Calls answered so: 403, 4xx, >=500
    #[arg(long, alias = "response_code", value_name = "CODES")]
    response_code: Option<String>,
    /// Calls that ended so: completed, aborted, panicked, interrupted, rejected
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Entries of this class: change, read, denied
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Calls from then on: RFC 3339, or -15m (also s, h, d, w)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Calls before then
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Calls that took so many milliseconds or longer
    #[arg(long, alias = "min_duration_ms", value_name = "MS")]
    min_duration_ms: Option<String>,
}

impl Filters {
    /// Names and values as the API has them. What a value may be is the agent's to say.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.all().into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    fn all(&self) -> [(&'static str, &Option<String>); 12] {
        [
            ("user", &self.user),
            ("role", &self.role),
            ("method", &self.method),
            ("path", &self.path),
            ("operation_id", &self.operation_id),
            ("source_ip", &self.source_ip),
            ("response_code", &self.response_code),
            ("outcome", &self.outcome),
            ("class", &self.class),
            ("since", &self.since),
            ("until", &self.until),
            ("min_duration_ms", &self.min_duration_ms),
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::audit::Filter;
    use crate::cli::Cli;

    #[test]
    fn each_filter_of_the_api_is_an_option_under_its_name_and_with_hyphens() {
        for name in Filter::NAMES {
            for option in [name.to_owned(), name.replace('_', "-")] {
                let line = ["nodeaudit", "audit", "list", &format!("--{option}"), "-15m"];
                let line = if ["since", "until", "user", "role"].contains(&name) {
                    line.map(str::to_owned).to_vec()
                } else {
                    vec!["nodeaudit".into(), "audit".into(), "list".into(), format!("--{option}=-15m")]
                };
                let matches = Cli::command().try_get_matches_from(line).unwrap();
                let list = matches.subcommand().unwrap().1.subcommand().unwrap().1;
                let filters = Filters::from_arg_matches(list).unwrap();
                assert_eq!(filters.pairs().collect::<Vec<_>>(), [(name, "-15m")]);
            }
        }
    }
}
