//! An account at the CA.
//!
//! Kept in the state folder with what it was made from, and made when there is none, when what is kept
//! cannot be read, when it is bound to another external account, or when the CA does not know it any
//! more. Invariant: an account is kept before anything is ordered with it.

use std::sync::Arc;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use crate::config::model::Acme;

use super::AcmeError;
use super::http::Http;
use super::store::{self, Folder};

/// The config and where its state is kept.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Acme,
    pub(super) folder: Folder,
}

impl Settings {
    pub(super) fn new(config: &Acme) -> Arc<Self> {
        Arc::new(Self {
            config: config.clone(),
            folder: Folder::new(&config.state, &config.directory),
        })
    }

    /// Whether an order that was begun under the other ones may go on: only the lists of names differ.
    pub(super) fn continues(&self, other: &Self) -> bool {
        let config = Acme {
            certificates: self.config.certificates.clone(),
            ..other.config.clone()
        };
        self.folder == other.folder && self.config == config
    }
}

/// `account.json`.
#[derive(Serialize, Deserialize)]
struct Kept {
    contact: Vec<String>,
    external_account: Option<String>,
    /// As `instant_acme` writes them; the key is in here.
    credentials: serde_json::Value,
}

/// The way to the CA. Fails when nothing could be kept.
pub(super) async fn http(settings: &Arc<Settings>) -> Result<Http, AcmeError> {
    let settings = Arc::clone(settings);
    blocking(move || {
        settings.folder.prepare()?;
        Http::new(settings.config.ca.as_deref())
    })
    .await
}

/// The account, made if there is none yet.
pub(super) async fn account(settings: &Arc<Settings>, http: &Http) -> Result<Account, AcmeError> {
    let reading = Arc::clone(settings);
    let kept = blocking(move || read(&reading)).await?;
    let Some((kept, credentials)) = kept else {
        return make(settings, http).await;
    };
    let builder = Account::builder_with_http(Box::new(http.clone()));
    let account = match builder.from_credentials(credentials).await {
        Err(instant_acme::Error::KeyRejected) => {
            tracing::warn!("the key of the ACME account is broken: a new account is made");
            return make(settings, http).await;
        }
        account => account?,
    };
    if kept.contact != settings.config.contact {
        let contact = contact(&settings.config);
        account.update_contacts(&contact).await?;
        let kept = Kept {
            contact: settings.config.contact.clone(),
            ..kept
        };
        write(settings, kept).await?;
    }
    Ok(account)
}

/// The CA does not know the account: the next one is made anew.
pub(super) async fn forget(settings: &Arc<Settings>) -> Result<(), AcmeError> {
    let path = settings.folder.account();
    blocking(move || {
        store::set_aside(&path);
        Ok(())
    })
    .await
}

fn contact(config: &Acme) -> Vec<&str> {
    config.contact.iter().map(String::as_str).collect()
}

fn read(settings: &Settings) -> Result<Option<(Kept, AccountCredentials)>, AcmeError> {
    let path = settings.folder.account();
    let Some(bytes) = store::read(&path)? else {
        return Ok(None);
    };
    let read = serde_json::from_slice(&bytes).and_then(|kept: Kept| {
        let credentials = AccountCredentials::deserialize(&kept.credentials)?;
        Ok((kept, credentials))
    });
    match read {
        Ok((kept, _)) if kept.external_account.as_deref() != key_id(&settings.config) => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            // Only where it broke: the text holds a key.
            let (line, column) = (error.line(), error.column());
            tracing::warn!(path = %path.display(), line, column, "the ACME account cannot be read: a new one is made");
            store::set_aside(&path);
            Ok(None)
        }
    }
}

fn key_id(config: &Acme) -> Option<&str> {
    config.external_account.as_ref().map(|it| &*it.key_id)
}

async fn make(settings: &Arc<Settings>, http: &Http) -> Result<Account, AcmeError> {
    let config = &settings.config;
    let contact = contact(config);
    let new = NewAccount {
        contact: &contact,
        // The config is refused without.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = config
        .external_account
        .as_ref()
        .map(|it| ExternalAccountKey::new(it.key_id.clone(), &it.hmac_key.0));
    let (account, credentials) = Account::builder_with_http(Box::new(http.clone()))
        .create(&new, config.directory.to_string(), external.as_ref())
        .await?;
    let credentials =
        serde_json::to_value(&credentials).map_err(|error| AcmeError::Ours(error.to_string()))?;
    let kept = Kept {
        contact: config.contact.clone(),
        external_account: key_id(config).map(str::to_owned),
        credentials,
    };
    write(settings, kept).await?;
    tracing::info!(directory = %config.directory, account = account.id(), "ACME account made");
    Ok(account)
}

async fn write(settings: &Settings, kept: Kept) -> Result<(), AcmeError> {
    let path = settings.folder.account();
    blocking(move || {
        let bytes = serde_json::to_vec_pretty(&kept);
        store::write(
            &path,
            &bytes.map_err(|error| AcmeError::Ours(error.to_string()))?,
        )
    })
    .await
}

/// Work with files, away from the thread of the control plane.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AcmeError> + Send + 'static,
) -> Result<T, AcmeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_panic| Err(AcmeError::Ours("internal error".to_owned())))
}
