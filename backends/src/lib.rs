//! Headgate's reference services: products, orders, carts and auth.
//!
//! Four small HTTP services that stand behind Headgate in the demo and in its tests. Each is an axum
//! router over one embedded SQLite file; `headgate backend NAME` calls [`bind`] and [`serve`].
//!
//! ```text
//! server (sockets, deadlines, drain) -> app (what all services share)
//!     -> products | orders | carts | auth (handlers) -> their store (SQL) -> database (one thread)
//! ```
//!
//! Invariant: SQL runs only on the `database` thread, so a slow disk never stalls the runtime, and
//! every answer, an error included, names the process that gave it in `X-Served-By`.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use axum::{
    Router,
    http::{HeaderValue, header::InvalidHeaderValue},
};
use tokio::net::TcpListener;

use crate::{app::App, database::Database};

mod app;
mod auth;
mod carts;
mod clock;
mod conditional;
mod database;
mod extract;
mod fields;
mod orders;
mod problem;
mod products;
mod server;

pub use crate::{
    auth::{TOKEN_AUDIENCE, TOKEN_ISSUER, TOKEN_LIFETIME},
    carts::CART_LIFETIME,
    clock::Clock,
};

/// Binds the address that `options.listen` names; port 0 lets the system choose one.
///
/// # Errors
///
/// The system's error with the address in its text, and a hint where the port is taken.
pub async fn bind(options: &Options) -> io::Result<TcpListener> {
    let address = options.listen;
    TcpListener::bind(address).await.map_err(|error| {
        let text = if error.kind() == io::ErrorKind::AddrInUse {
            format!(
                "{}: {address} is already in use; stop the process that holds it or choose another port",
                options.name
            )
        } else {
            format!("{}: cannot listen on {address}: {error}", options.name)
        };
        io::Error::new(error.kind(), text)
    })
}

/// Runs one service on `listener` until `shutdown` resolves, then drains and closes its database.
///
/// Requests in flight get ten seconds to finish. Several processes may serve the same database file.
/// The runtime needs its IO and time drivers; one on the current thread is enough.
///
/// # Errors
///
/// [`Error`] when the service cannot start. Once it runs, a fault costs a request, not the service.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Options {
        service,
        name,
        listen: _,
        database,
        clock,
    } = options;
    let served_by = HeaderValue::from_str(&name).map_err(|source| Error::Name { name, source })?;
    let (database, closed) = Database::open(&database, schema_of(service)).await?;
    let router = router_of(service, App { database, clock }).await?;
    server::run(listener, app::finish(router, &served_by), shutdown).await;
    closed.wait().await;
    Ok(())
}

/// What one process needs to know to run a service.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which service this process is.
    pub service: Service,
    /// This process in `X-Served-By` and in messages, for example `products-1`.
    pub name: String,
    /// Where [`bind`] listens.
    pub listen: SocketAddr,
    /// The SQLite file, created with its tables (and readable by its owner only) when missing.
    pub database: PathBuf,
    /// Where the time of day comes from.
    pub clock: Clock,
}

impl Options {
    /// Options on the system's clock.
    pub fn new(
        service: Service,
        name: impl Into<String>,
        listen: SocketAddr,
        database: impl AsRef<Path>,
    ) -> Self {
        Self {
            service,
            name: name.into(),
            listen,
            database: database.as_ref().to_path_buf(),
            clock: Clock::system(),
        }
    }
}

/// The reference services, by the names that the command line uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// The catalogue and its stock.
    Products,
    /// Orders of users.
    Orders,
    /// Short-lived carts.
    Carts,
    /// Accounts and access tokens.
    Auth,
}

impl Service {
    /// All services, in the order in which the demo starts them.
    pub const ALL: [Self; 4] = [Self::Products, Self::Orders, Self::Carts, Self::Auth];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Orders => "orders",
            Self::Carts => "carts",
            Self::Auth => "auth",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(name: &str) -> Result<Self, UnknownService> {
        Self::ALL
            .into_iter()
            .find(|service| service.name() == name)
            .ok_or_else(|| UnknownService(name.to_owned()))
    }
}

/// A name that is none of the services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no service is called `{0}`; there are products, orders, carts and auth")]
pub struct UnknownService(String);

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened, or its tables cannot be made.
    #[error("cannot open the database {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file cannot be created.
    #[error("cannot create the database {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file holds something else than this service's tables in this version.
    #[error("{} is not a database of this service: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found in it.
        reason: String,
    },
    /// The thread that runs the SQL could not be started.
    #[error("cannot start the database thread")]
    Thread(#[source] io::Error),
    /// The name cannot stand in a header.
    #[error("`{name}` cannot be the name of a service process")]
    Name {
        /// The name as given.
        name: String,
        /// Why not.
        #[source]
        source: InvalidHeaderValue,
    },
    /// The signing key cannot be made, stored or read.
    #[error("cannot prepare the signing key: {0}")]
    SigningKey(String),
}

const fn schema_of(service: Service) -> database::Schema {
    match service {
        Service::Products => products::SCHEMA,
        Service::Orders => orders::SCHEMA,
        Service::Carts => carts::SCHEMA,
        Service::Auth => auth::SCHEMA,
    }
}

async fn router_of(service: Service, app: App) -> Result<Router, Error> {
    let health = app::health(app.clone());
    let routes = match service {
        Service::Products => products::routes(app),
        Service::Orders => orders::routes(app),
        Service::Carts => carts::routes(app),
        Service::Auth => auth::routes(app).await?,
    };
    Ok(routes.merge(health))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_as_it_is_parsed() {
        for service in Service::ALL {
            assert_eq!(service.to_string().parse(), Ok(service));
        }
        assert_eq!(
            "prducts".parse::<Service>(),
            Err(UnknownService("prducts".to_owned()))
        );
    }
}
