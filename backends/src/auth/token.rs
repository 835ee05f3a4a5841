//! Access tokens: JWTs signed with ES256 (RFC 7519, RFC 7518 section 3.4).
//!
//! `auth` issues them and hands out the public key as a JWKS, by which Headgate proves them at the
//! edge. ES256 rather than EdDSA: every gateway and library verifies it. The key's id is its RFC 7638
//! thumbprint, so that the same key has the same id in every process.

use std::{fmt, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, problem::Problem};

/// How long an access token is good for.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// The `iss` of every token.
pub const TOKEN_ISSUER: &str = "headgate-auth";
/// The `aud` of every token.
pub const TOKEN_AUDIENCE: &str = "shop";

/// Signs and proves tokens with the one key of the database.
pub(super) struct Tokens {
    key_id: String,
    signing: EncodingKey,
    proving: DecodingKey,
    validation: Validation,
    jwks: JwkSet,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The user's id in decimal.
    sub: String,
    iat: i64,
    exp: i64,
    /// Names this token, so that it can be revoked.
    jti: String,
}

/// A fresh P-256 key pair in PKCS #8.
pub(super) fn new_key() -> Result<Vec<u8>, Error> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map(|document| document.as_ref().to_vec())
        .map_err(|error| Error::SigningKey(error.to_string()))
}

impl Tokens {
    /// Reads a key that [`new_key`] made.
    pub(super) fn new(pkcs8: &[u8]) -> Result<Self, Error> {
        // jsonwebtoken finds out only when it signs; a broken row must stop the start instead.
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|error| Error::SigningKey(error.to_string()))?;
        let unusable = |error: jsonwebtoken::errors::Error| Error::SigningKey(error.to_string());
        let signing = EncodingKey::from_ec_der(pkcs8);
        let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256).map_err(unusable)?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(unusable)?;
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let proving = DecodingKey::from_jwk(&jwk).map_err(unusable)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[TOKEN_ISSUER]);
        validation.set_audience(&[TOKEN_AUDIENCE]);
        // Time is checked against our own clock in `subject`.
        validation.validate_exp = false;
        Ok(Self {
            key_id,
            signing,
            proving,
            validation,
            jwks: JwkSet { keys: vec![jwk] },
        })
    }

    /// A token for `user`, good from `now` (Unix seconds) for [`TOKEN_LIFETIME`].
    pub(super) fn issue(&self, user: i64, now: i64) -> Result<String, Problem> {
        let lifetime = i64::try_from(TOKEN_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let claims = Claims {
            iss: TOKEN_ISSUER.to_owned(),
            aud: TOKEN_AUDIENCE.to_owned(),
            sub: user.to_string(),
            iat: now,
            exp: now.saturating_add(lifetime),
            jti: Uuid::new_v4().to_string(),
        };
        let header = Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &claims, &self.signing).map_err(|error| {
            tracing::error!(%error, "a token could not be signed");
            Problem::internal()
        })
    }

    /// The user of a token that is genuine and in its time.
    pub(super) fn subject(&self, token: &str, now: i64) -> Option<i64> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.proving, &self.validation).ok()?;
        let Claims {
            iss: _,
            aud: _,
            sub,
            iat: _,
            exp,
            jti: _,
        } = token.claims;
        if exp > now { sub.parse().ok() } else { None }
    }

    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    pub(super) const fn jwks(&self) -> &JwkSet {
        &self.jwks
    }
}

impl fmt::Debug for Tokens {
    /// The key stays out of every log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(&new_key().expect("a key")).expect("reads")
    }

    #[test]
    fn a_token_names_its_user_until_it_expires() {
        let tokens = tokens();
        let token = tokens.issue(42, 1000).expect("signs");
        assert_eq!(tokens.subject(&token, 1000), Some(42));
        assert_eq!(tokens.subject(&token, 1899), Some(42));
        assert_eq!(tokens.subject(&token, 1900), None);
    }

    #[test]
    fn a_token_of_another_key_or_a_changed_one_is_not_taken() {
        let tokens = tokens();
        let token = tokens.issue(42, 1000).expect("signs");
        assert_eq!(self::tokens().subject(&token, 1000), None);
        let mut parts = token.split('.');
        let (header, _, signature) = (parts.next(), parts.next(), parts.next());
        let other = tokens.issue(43, 1000).expect("signs");
        let claims = other.split('.').nth(1);
        let mixed = [header, claims, signature].map(Option::unwrap).join(".");
        assert_eq!(tokens.subject(&mixed, 1000), None);
    }

    #[test]
    fn the_key_set_shows_the_public_half_only() {
        let tokens = tokens();
        let document = serde_json::to_value(tokens.jwks()).expect("is JSON");
        let key = &document["keys"][0];
        assert_eq!(key["kty"], "EC");
        assert_eq!(key["crv"], "P-256");
        assert_eq!(key["alg"], "ES256");
        assert_eq!(key["use"], "sig");
        assert_eq!(key["kid"], tokens.key_id());
        assert!(key.get("d").is_none());
    }

    #[test]
    fn a_broken_key_stops_the_start() {
        assert!(Tokens::new(b"not a key").is_err());
    }
}
