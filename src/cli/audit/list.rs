//! `nodeaudit audit list`

use std::time::Duration;

use clap::Args;

use super::missing;
use crate::cli::entry_format::{EntryFormat, EntryPrinter};
use crate::cli::error::CliError;
use crate::cli::filters::Filters;
use crate::cli::output::{Reader, print, print_bytes};
use crate::cli::remote::{Remote, block_on};
use crate::client::{Caller, PAGE_MAX_BYTES, Page, Query};

/// Entries that the API gives at once.
const PAGE_ENTRIES: u64 = 100;

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// How many entries at most; they are of one moment, however many pages it takes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Pass over so many entries
    #[arg(long, value_name = "N")]
    offset: Option<u64>,
    /// Only entries with a higher seq, oldest first
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Only entries with a lower seq
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = EntryFormat::Table)]
    output: EntryFormat,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    remote: Remote,
}

impl List {
    pub(super) fn run(self) -> Result<(), CliError> {
        block_on(self.print())
    }

    async fn print(&self) -> Result<(), CliError> {
        let mut caller = self.remote.caller()?;
        let mut printer = EntryPrinter::new(self.output);
        let (mut left, mut total_items, mut gaps, mut raw_gaps) = (self.limit, None, Vec::new(), Vec::new());
        let mut next = Some(self.first_page());
        while let Some(path) = next.take().filter(|_| left > 0) {
            let (body, link) = page(&mut caller, &path).await?;
            let foreign = |error: String| caller.foreign(error);
            let page = Page::parse(&body).map_err(foreign)?;
            let wanted = page.items.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= wanted as u64;
            let text = printer.entries(&page.items[..wanted]).map_err(foreign)?;
            if print_bytes(&text)? == Reader::Gone {
                return Ok(());
            }
            total_items = total_items.or(page.total_items);
            gaps.extend(page.gap().map_err(foreign)?);
            raw_gaps.extend(page.gap.map(ToOwned::to_owned));
            // Behind the newest entry there is a link, too: to what will come. One that leads nowhere is not followed for ever.
            let has_more = page.cursor.is_none_or(|cursor| cursor.more) && wanted > 0;
            next = link.filter(|_| has_more).map(|query| format!("/audit{query}"));
        }
        print(&printer.end(total_items, &raw_gaps))?;
        missing(&gaps)
    }

    fn first_page(&self) -> String {
        let numbers = [("offset", self.offset), ("after", self.after), ("before", self.before)];
        let limit = self.limit.min(PAGE_ENTRIES).to_string();
        let query = Query::new("/audit").with("limit", &limit).with_all(self.filters.pairs());
        let given = numbers.into_iter().filter_map(|(name, number)| Some((name, number?)));
        let query = given.fold(query, |query, (name, number)| query.with(name, &number.to_string()));
        query.as_str().to_owned()
    }
}

/// A page, and the query of the next one.
async fn page(caller: &mut Caller, path: &str) -> Result<(Vec<u8>, Option<String>), CliError> {
    let answer = caller.get(path, &[], Duration::ZERO).await?;
    let next = answer.links()?.next;
    Ok((answer.whole(PAGE_MAX_BYTES, "a page").await?, next))
}
