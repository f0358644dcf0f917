//! The query of a request: names and values, each to be taken once.
//!
//! What nobody has taken is refused by its name, so that a misspelt filter never gives more than was asked for.

use actix_web::{HttpRequest, web};
use uuid::Uuid;

use super::ApiError;
use crate::audit::{Cursor, Filter, Known, Seq};
use crate::decimal;
use crate::host::clock;

/// No operation takes as many parameters.
const PAIRS_MAX: usize = 32;

/// What of a query nobody has taken yet.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// The query of a request.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())?.into_inner();
        if pairs.len() > PAIRS_MAX {
            // Each is compared with all others, on a thread that others wait for.
            return Err(ApiError::BadRequest(format!("The query has more than {PAIRS_MAX} parameters.")));
        }
        let twice =
            |(index, (name, _)): &(usize, &(String, String))| pairs[..*index].iter().any(|pair| pair.0 == *name);
        if let Some((_, (name, _))) = pairs.iter().enumerate().find(twice) {
            return Err(ApiError::BadRequest(format!("The query has {} twice.", name.escape_debug())));
        }
        Ok(Self(pairs))
    }

    /// Takes the value with that name.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|pair| pair.0 == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Takes a whole number of 63 bits, in decimal digits and nothing else.
    pub(super) fn take_number(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let wrong = || ApiError::BadRequest(format!("{name} takes a whole number below 2^63 in decimal digits."));
        decimal::parse(&text).map(i64::unsigned_abs).map(Some).ok_or_else(wrong)
    }

    /// Takes a number of entries, 1 to 100; 20 where it is left out.
    pub(super) fn take_limit(&mut self) -> Result<u64, ApiError> {
        let limit = self.take_number("limit")?.unwrap_or(20);
        let wrong = || ApiError::BadRequest("limit must be 1 to 100.".to_owned());
        (1..=100).contains(&limit).then_some(limit).ok_or_else(wrong)
    }

    /// Takes what says of a place in the log where it is: the ring, and what is accounted for. Without a place it would say nothing.
    pub(super) fn take_cursor(&mut self, place: Option<Seq>) -> Result<Cursor, ApiError> {
        let wrong = |details: &str| ApiError::BadRequest(details.to_owned());
        let epoch = self.take("epoch").map(|text| Uuid::try_parse(&text)).transpose();
        let known =
            self.take("known").map(|text| Known::parse(&text).ok_or(wrong("known takes what a cursor has as such.")));
        let (epoch, known) = (epoch.map_err(|_| wrong("epoch takes a UUID."))?, known.transpose()?);
        if place.is_none() && (epoch.is_some() || known.is_some()) {
            return Err(wrong("epoch and known go with a place in the log, such as after."));
        }
        Ok(Cursor { epoch, known, ..Cursor::default() })
    }

    /// Takes everything that chooses entries by what they say.
    pub(super) fn take_filter(&mut self) -> Result<Filter, ApiError> {
        let is_filter = |(name, _): &mut (String, String)| Filter::NAMES.contains(&name.as_str());
        let pairs: Vec<_> = self.0.extract_if(.., is_filter).collect();
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Filter::parse(pairs, clock::wall_clock_ms()).map_err(|error| ApiError::BadRequest(format!("{error}.")))
    }

    /// Refuses what nobody has taken.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::BadRequest(format!("There is no parameter {}.", name.escape_debug()))),
        }
    }
}
