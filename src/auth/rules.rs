//! When a token whose signature is right is accepted: its times, its issuer, its audience.
//!
//! Knows neither keys nor the clock: who asks brings the time.

use super::claims::{Claims, missing};
use super::token::TokenError;

/// What a token must fulfil beside its signature.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Seconds that the clocks of issuer and node may differ.
    pub leeway_s: u8,
    /// Seconds from a token's `iat` to its `exp` at most; none: as long as it likes, and without an `iat`.
    pub max_lifetime_s: Option<u32>,
    /// Whose tokens are accepted, by `iss`; empty: anybody's who has the key.
    pub issuers: Vec<String>,
    /// The names of this node and of what it belongs to, one of which tokens have in `aud`; empty: no token may say for whom it is.
    /// They are the operator's: what a call can change, such as the host name, must not choose which tokens are accepted.
    pub audiences: Vec<String>,
}

/// Who has a token's key, and so whether the token has to say for whom it is where no name is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Its key can be that of many nodes.
    Fleet,
    /// Its key is a secret between issuer and node.
    Node,
}

impl Rules {
    /// Whether all of them are fulfilled at `now_s`, in seconds from 1970.
    pub(super) fn check(&self, claims: &Claims, scope: Scope, now_s: i64) -> Result<(), TokenError> {
        self.check_time(claims, now_s)?;
        self.check_lifetime(claims)?;
        self.check_issuer(claims)?;
        self.check_audience(claims, scope)
    }

    /// Accepted from `nbf` on and before `exp` (RFC 7519, sections 4.1.4 and 4.1.5), and from `iat` on: a token that is still to be issued
    /// comes from a clock that is wrong. All give or take the leeway.
    fn check_time(&self, claims: &Claims, now_s: i64) -> Result<(), TokenError> {
        let leeway_s = i64::from(self.leeway_s);
        if now_s >= claims.exp.saturating_add(leeway_s) {
            return Err(TokenError::Expired { since_s: now_s.saturating_sub(claims.exp) });
        }
        let begin = claims.nbf.max(claims.iat);
        match begin {
            Some(begin) if begin > now_s.saturating_add(leeway_s) => {
                Err(TokenError::NotYetValid { for_s: begin.saturating_sub(now_s) })
            }
            _ => Ok(()),
        }
    }

    fn check_lifetime(&self, claims: &Claims) -> Result<(), TokenError> {
        let Some(max_s) = self.max_lifetime_s else { return Ok(()) };
        let iat = claims.iat.ok_or(missing("iat"))?;
        if claims.exp.saturating_sub(iat) > max_s.into() {
            return Err(TokenError::LivesTooLong { max_s });
        }
        Ok(())
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), TokenError> {
        if self.issuers.is_empty() {
            return Ok(());
        }
        let issuer = claims.iss.as_ref().ok_or(missing("iss"))?;
        if self.issuers.contains(issuer) { Ok(()) } else { Err(TokenError::Issuer) }
    }

    fn check_audience(&self, claims: &Claims, scope: Scope) -> Result<(), TokenError> {
        match &claims.aud {
            None if scope == Scope::Node && self.audiences.is_empty() => Ok(()),
            None => Err(missing("aud").into()),
            Some(audiences) if audiences.iter().any(|audience| self.audiences.contains(audience)) => Ok(()),
            Some(_) => Err(TokenError::Audience),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_767_225_600;

    fn rules() -> Rules {
        Rules { leeway_s: 5, max_lifetime_s: Some(900), issuers: Vec::new(), audiences: Vec::new() }
    }

    fn claims() -> Claims {
        Claims { sub: "ada".to_owned(), exp: NOW_S + 60, iat: Some(NOW_S), ..Claims::default() }
    }

    fn told(rules: &Rules, claims: &Claims, scope: Scope) -> String {
        rules.check(claims, scope, NOW_S).map_or_else(|error| error.to_string(), |()| "accepted".to_owned())
    }

    #[test]
    fn a_token_lives_no_longer_than_it_may() {
        let lives = |iat, exp| told(&rules(), &Claims { exp, iat, ..claims() }, Scope::Node);
        assert_eq!(lives(Some(NOW_S), NOW_S + 900), "accepted");
        assert_eq!(lives(Some(NOW_S), NOW_S + 901), "the token lives longer than 900 s");
        assert_eq!(lives(Some(NOW_S - 3_000), NOW_S + 10), "the token lives longer than 900 s");
        assert_eq!(lives(Some(i64::MIN), i64::MAX), "the token lives longer than 900 s");
        assert_eq!(lives(None, NOW_S + 60), r#"the token's claim "iat" is missing"#);
        assert_eq!(lives(Some(NOW_S + 5), NOW_S + 60), "accepted");
        assert_eq!(lives(Some(NOW_S + 6), NOW_S + 60), "the token is not valid for another 6 s");
        let eternal = Rules { max_lifetime_s: None, ..rules() };
        assert_eq!(told(&eternal, &Claims { iat: None, exp: i64::MAX, ..claims() }, Scope::Node), "accepted");
    }

    #[test]
    fn an_issuer_counts_where_issuers_are_named() {
        let from = |issuer: Option<&str>| Claims { iss: issuer.map(str::to_owned), ..claims() };
        assert_eq!(told(&rules(), &from(None), Scope::Node), "accepted");
        assert_eq!(told(&rules(), &from(Some("anyone")), Scope::Node), "accepted");
        let rules = Rules { issuers: vec!["a".to_owned(), "b".to_owned()], ..rules() };
        assert_eq!(told(&rules, &from(Some("b")), Scope::Node), "accepted");
        assert_eq!(told(&rules, &from(Some("B")), Scope::Node), "the token is from another issuer");
        assert_eq!(told(&rules, &from(None), Scope::Node), r#"the token's claim "iss" is missing"#);
    }

    #[test]
    fn a_token_of_a_fleets_key_says_for_whom_it_is() {
        let missing = r#"the token's claim "aud" is missing"#;
        let other = "the token is for another audience";
        let node = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let to =
            |audience: &[&str]| Claims { aud: Some(audience.iter().map(|&one| one.to_owned()).collect()), ..claims() };
        assert_eq!(told(&rules(), &claims(), Scope::Node), "accepted");
        assert_eq!(told(&rules(), &claims(), Scope::Fleet), missing);
        let fleet = Rules { audiences: vec!["fleet".to_owned()], ..rules() };
        for scope in [Scope::Node, Scope::Fleet] {
            assert_eq!(told(&rules(), &to(&[&node]), scope), other, "a host name is what calls make it");
            assert_eq!(told(&rules(), &to(&[]), scope), other);
            assert_eq!(told(&fleet, &claims(), scope), missing);
            assert_eq!(told(&fleet, &to(&["fleet"]), scope), "accepted");
            assert_eq!(told(&fleet, &to(&["fleet2", "Fleet"]), scope), other);
            assert_eq!(told(&fleet, &to(&["x", "fleet"]), scope), "accepted");
            assert_eq!(told(&fleet, &to(&[&node]), scope), other);
        }
    }
}
