//! One conversation with the CA: from the names to a chain with its key.
//!
//! ```text
//! newOrder -> each authorization: show, ready -> wait -> finalize -> wait -> certificate
//! ```
//!
//! `keeper` gives it a deadline and may drop it half-way; what was shown goes with it. Invariant: what
//! it returns is a chain for all of the names, valid now, with the key that was made for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewOrder,
    Order, OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::sleep;

use crate::config::model::AcmeChallenge;
use crate::net::tls::Pair;

use super::AcmeError;
use super::challenges::{Outlets, Shown};
use super::http::Http;
use super::store;

/// Between two looks at an order: doubled from the first to the last.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LAST_LOOK: Duration = Duration::from_secs(8);
/// A CA that asks for more between two looks is looked at all the same.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// What is ordered, of whom.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) names: &'a [Arc<str>],
    pub(super) challenge: AcmeChallenge,
    /// The certificate that this one is to replace (RFC 9773 section 5).
    pub(super) replaces: Option<&'a CertificateIdentifier<'static>>,
    pub(super) outlets: &'a Outlets,
}

/// What was issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) pair: Pair,
    /// Key and chain, as they are kept.
    pub(super) pem: Vec<u8>,
}

impl Wish<'_> {
    /// Orders and waits, however long it takes.
    pub(super) async fn obtain(
        &self,
        account: &Account,
        http: &Http,
        now: SystemTime,
    ) -> Result<Issued, AcmeError> {
        let mut order = self.place(account).await?;
        let shown = self.answer(&mut order).await?;
        wait_while(&mut order, http, OrderStatus::Pending, self).await?;
        drop(shown);
        let (request, key) = self
            .request()
            .map_err(|error| AcmeError::Ours(error.to_string()))?;
        order.finalize_csr(&request).await?;
        wait_while(&mut order, http, OrderStatus::Processing, self).await?;
        let chain = order.certificate().await?;
        let chain = chain.ok_or_else(|| AcmeError::Unusable("there is none".to_owned()))?;
        let mut pem = key.into_bytes();
        pem.extend_from_slice(chain.as_bytes());
        let pair = judge(self.names, &pem, now)?;
        Ok(Issued { pair, pem })
    }

    async fn place(&self, account: &Account) -> Result<Order, AcmeError> {
        let names = self.names.iter();
        let identifiers: Vec<_> = names
            .map(|name| Identifier::Dns(name.to_string()))
            .collect();
        if let Some(replaced) = self.replaces {
            let new = NewOrder::new(&identifiers).replaces(replaced.clone());
            match account.new_order(&new).await.map_err(AcmeError::from) {
                Ok(order) => return Ok(order),
                Err(error) if error.is("rateLimited") || error.is("accountDoesNotExist") => {
                    return Err(error);
                }
                // It may have been replaced already, or be unknown there: that is no reason to let it
                // run out.
                Err(error) => tracing::debug!(%error, "the CA takes no order in replacement"),
            }
        }
        Ok(account.new_order(&NewOrder::new(&identifiers)).await?)
    }

    /// Shows what each authorization asks for that is not valid from before.
    async fn answer(&self, order: &mut Order) -> Result<Vec<Shown>, AcmeError> {
        let mut all = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let domain = authorization.identifier().to_string();
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => {
                    let reason = format!("the authorization is {:?}", authorization.status);
                    return Err(AcmeError::Challenge { domain, reason });
                }
            }
            // Whatever the CA answers, nothing is shown for a name that was not asked for.
            if !self.names.iter().any(|name| **name == *domain) {
                let reason = "the CA wants it proven, but it is not in the order".to_owned();
                return Err(AcmeError::Challenge { domain, reason });
            }
            let Some(mut challenge) = authorization.challenge(self.kind()) else {
                let reason = format!("the CA does not offer {}", self.kind_name());
                return Err(AcmeError::Challenge { domain, reason });
            };
            let proof = challenge.key_authorization();
            all.push(match self.challenge {
                AcmeChallenge::Http01 => {
                    self.outlets.show_token(&challenge.token, proof.as_str())?
                }
                AcmeChallenge::TlsAlpn01 => self
                    .outlets
                    .show_certificate(&domain, proof.digest().as_ref())?,
            });
            challenge.set_ready().await?;
        }
        Ok(all)
    }

    fn kind(&self) -> ChallengeType {
        match self.challenge {
            AcmeChallenge::Http01 => ChallengeType::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }

    fn kind_name(&self) -> &'static str {
        match self.challenge {
            AcmeChallenge::Http01 => "http-01",
            AcmeChallenge::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// A request with a key of its own, which no other certificate has: DER, and the key in PEM.
    fn request(&self) -> Result<(Vec<u8>, String), rcgen::Error> {
        let names: Vec<String> = self.names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        let request = params.serialize_request(&key)?;
        Ok((request.der().to_vec(), store::key_pem(&key.serialize_der())))
    }
}

/// Looks at the order until it is past `status`.
async fn wait_while(
    order: &mut Order,
    http: &Http,
    status: OrderStatus,
    wish: &Wish<'_>,
) -> Result<(), AcmeError> {
    let mut pause = FIRST_LOOK;
    let mut now = order.state().status;
    while now == status {
        let asked = http.retry_after().unwrap_or_default().min(LONGEST_LOOK);
        sleep(pause.max(asked)).await;
        pause = pause.saturating_mul(2).min(LAST_LOOK);
        now = order.refresh().await?.status;
    }
    if now != OrderStatus::Invalid {
        return Ok(());
    }
    Err(explain(order, wish).await)
}

/// Why an order became invalid: an authorization knows more than the order.
async fn explain(order: &mut Order, wish: &Wish<'_>) -> AcmeError {
    let of_order = order.state().error.clone();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let problem = state.challenges.iter().find_map(|it| it.error.as_ref());
        if let Some(problem) = problem {
            let domain = state.identifier().to_string();
            let reason = format!("{} failed: {problem}", wish.kind_name());
            return AcmeError::Challenge { domain, reason };
        }
    }
    match of_order {
        Some(problem) => instant_acme::Error::Api(problem).into(),
        None => AcmeError::Unusable("the order is invalid".to_owned()),
    }
}

/// Reads key and chain; refuses what would not do for these names now.
pub(super) fn judge(names: &[Arc<str>], pem: &[u8], now: SystemTime) -> Result<Pair, AcmeError> {
    let unusable = |reason: String| AcmeError::Unusable(reason);
    let first = names.first().map_or("", |name| name);
    let pair = Pair::from_pem(first, pem, pem).map_err(|error| unusable(error.to_string()))?;
    let missing = |name: &&Arc<str>| !pair.names().iter().any(|known| **known == ***name);
    if let Some(missing) = names.iter().find(missing) {
        return Err(unusable(format!("it is not for {missing}")));
    }
    if pair.not_after() <= now {
        return Err(unusable("it has ended already".to_owned()));
    }
    Ok(pair)
}
