//! One SQLite file, one connection, one thread.
//!
//! The stores hand closures to [`Database`]; they run in turn on a thread of their own, behind a
//! bounded queue, so that no statement ever blocks the runtime and an idle service uses no CPU. Other
//! processes may work on the same file: WAL lets readers pass a writer, and writers take the lock when
//! they begin ([`Database::write`] is `BEGIN IMMEDIATE`), so that none fails halfway for want of it.
//!
//! Invariant: every closure runs inside one transaction, committed only when it returns `Ok`. A panic
//! rolls back and costs its own request; a request that went away before its turn is not run.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::{Error, problem::Problem};

/// What a service keeps in its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema {
    /// SQLite's `application_id`: keeps one service from opening the file of another.
    pub(crate) application: i32,
    /// Makes the tables and what the demo shows; runs once in the life of a file.
    pub(crate) setup: &'static str,
    pub(crate) durability: Durability,
}

/// What a commit survives. A killed process loses nothing in either case.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Durability {
    /// A power cut may take the last commits back; nothing is torn.
    Relaxed,
    /// A commit is on disk before it is answered.
    Full,
}

/// A handle to the thread; clones share it, and the last one dropped ends it.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    jobs: mpsc::Sender<Job>,
}

/// Resolves once the file is closed.
#[derive(Debug)]
pub(crate) struct Closed(oneshot::Receiver<()>);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Beyond this many waiting statements, requests wait for a place and then for their deadline.
const QUEUE: usize = 256;
/// How long a statement waits for another process's lock; less than a request's deadline.
const BUSY: Duration = Duration::from_secs(3);
/// The layout of the tables; a file of another version is refused.
const VERSION: i32 = 1;

impl Database {
    /// Opens `path`, making file and tables when they are missing.
    pub(crate) async fn open(path: &Path, schema: Schema) -> Result<(Self, Closed), Error> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (opened, is_open) = oneshot::channel();
        let (closing, closed) = oneshot::channel();
        let path = path.to_path_buf();
        thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || {
                let outcome = open(&path, schema);
                let (connection, outcome) = match outcome {
                    Ok(connection) => (Some(connection), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                if opened.send(outcome).is_ok()
                    && let Some(connection) = connection
                {
                    work(connection, queue);
                }
                drop(closing);
            })
            .map_err(Error::Thread)?;
        match is_open.await {
            Ok(outcome) => outcome.map(|()| (Self { jobs }, Closed(closed))),
            Err(_gone) => Err(Error::Thread(std::io::Error::other(
                "it ended while opening",
            ))),
        }
    }

    /// Runs `statements` in a transaction that sees one state of the file.
    pub(crate) async fn read<T, W>(&self, statements: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, Problem> + Send + 'static,
    {
        self.transaction(TransactionBehavior::Deferred, statements)
            .await
    }

    /// Runs `statements` in a transaction that holds the write lock from its start.
    pub(crate) async fn write<T, W>(&self, statements: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, Problem> + Send + 'static,
    {
        self.transaction(TransactionBehavior::Immediate, statements)
            .await
    }

    async fn transaction<T, W>(&self, kind: TransactionBehavior, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, Problem> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if reply.is_closed() {
                return;
            }
            let outcome = in_transaction(connection, kind, work);
            if reply.send(outcome).is_err() {
                tracing::debug!("a request went away while its statements ran");
            }
        });
        if self.jobs.send(job).await.is_err() {
            return Err(Problem::unavailable("the database is closed"));
        }
        // The sender is dropped unused only by a panic, which `work` has logged.
        answer
            .await
            .unwrap_or_else(|_panicked| Err(Problem::internal()))
    }
}

impl Closed {
    /// Waits until the last handle is gone and the file is closed.
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the sender's end is the signal.
        if self.0.await.is_ok() {
            tracing::debug!("the database thread spoke");
        }
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    kind: TransactionBehavior,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let transaction = connection.transaction_with_behavior(kind)?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn work(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
            tracing::error!("a statement panicked; its transaction was rolled back");
        }
    }
    if let Err((_connection, error)) = connection.close() {
        tracing::warn!(%error, "the database did not close cleanly");
    }
}

fn open(path: &Path, schema: Schema) -> Result<Connection, Error> {
    create(path).map_err(|source| Error::Create {
        path: path.to_path_buf(),
        source,
    })?;
    let failed = |source| Error::Database {
        path: path.to_path_buf(),
        source,
    };
    let mut connection = Connection::open(path).map_err(failed)?;
    tune(&connection, schema.durability).map_err(failed)?;
    match set_up(&mut connection, schema).map_err(failed)? {
        None => Ok(connection),
        Some(reason) => Err(Error::Foreign {
            path: path.to_path_buf(),
            reason,
        }),
    }
}

/// SQLite would create the file for everybody to read; it gives its side files the same mode.
fn create(path: &Path) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn tune(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    enter_wal(connection)?;
    let synchronous = match durability {
        Durability::Relaxed => "normal",
        Durability::Full => "full",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// Switches the file to WAL. Processes that start together collide here, and SQLite does not apply
/// the busy timeout to this switch, so the waiting is done by hand.
fn enter_wal(connection: &Connection) -> rusqlite::Result<()> {
    const STEP: Duration = Duration::from_millis(20);
    let mut left = BUSY;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "wal", |_row| Ok(())) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && left > Duration::ZERO =>
            {
                left = left.saturating_sub(STEP);
                #[expect(clippy::disallowed_methods, reason = "the database's own thread")]
                thread::sleep(STEP);
            }
            outcome => return outcome,
        }
    }
}

/// Makes the tables in an empty file, once, whichever process comes first. Returns why a file that
/// already holds something cannot be used.
fn set_up(connection: &mut Connection, schema: Schema) -> rusqlite::Result<Option<String>> {
    let number = |tx: &Transaction<'_>, sql| tx.query_row(sql, [], |row| row.get::<_, i32>(0));
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if number(&tx, "SELECT count(*) FROM sqlite_schema")? == 0 {
        tx.execute_batch(schema.setup)?;
        tx.pragma_update(None, "application_id", schema.application)?;
        tx.pragma_update(None, "user_version", VERSION)?;
        tx.commit()?;
        return Ok(None);
    }
    let application = number(&tx, "PRAGMA application_id")?;
    if application != schema.application {
        return Ok(Some(format!("its application id is {application}")));
    }
    let version = number(&tx, "PRAGMA user_version")?;
    Ok((version != VERSION).then(|| format!("its layout is version {version}, not {VERSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = Schema {
        application: 7,
        setup: "CREATE TABLE notes (text TEXT NOT NULL) STRICT;",
        durability: Durability::Relaxed,
    };

    async fn notes(database: &Database) -> i64 {
        let count = |tx: &Transaction<'_>| {
            Ok(tx.query_row("SELECT count(*) FROM notes", [], |row| row.get(0))?)
        };
        database.read(count).await.expect("counts")
    }

    fn note(tx: &Transaction<'_>) -> Result<(), Problem> {
        tx.execute("INSERT INTO notes (text) VALUES ('x')", [])?;
        Ok(())
    }

    #[tokio::test]
    async fn a_refused_transaction_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let (database, _closed) = Database::open(&folder.path().join("n.db"), SCHEMA)
            .await
            .expect("opens");

        let refused = database
            .write(|tx| note(tx).and(Err::<(), _>(Problem::internal())))
            .await;

        assert!(refused.is_err());
        assert_eq!(notes(&database).await, 0);
    }

    #[tokio::test]
    async fn a_write_keeps_other_processes_out_from_its_first_read_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n.db");
        let (database, _closed) = Database::open(&path, SCHEMA).await.expect("opens");
        let other = Connection::open(&path).expect("opens");
        other.busy_timeout(Duration::ZERO).expect("sets");

        let outcome = database.write(move |tx| {
            tx.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, i64>(0))?;
            let meanwhile = other.execute("INSERT INTO notes (text) VALUES ('y')", []);
            note(tx)?;
            Ok(meanwhile.map_err(|error| error.sqlite_error_code()))
        });

        assert_eq!(
            outcome.await.expect("writes"),
            Err(Some(ErrorCode::DatabaseBusy))
        );
        assert_eq!(notes(&database).await, 1);
    }

    #[tokio::test]
    async fn a_panic_rolls_back_and_the_thread_lives_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let (database, _closed) = Database::open(&folder.path().join("n.db"), SCHEMA)
            .await
            .expect("opens");

        let broken = database
            .write::<(), _>(|tx| {
                note(tx)?;
                panic!("on purpose");
            })
            .await;

        assert!(broken.is_err());
        assert_eq!(notes(&database).await, 0);
        database.write(note).await.expect("works again");
        assert_eq!(notes(&database).await, 1);
    }

    #[tokio::test]
    async fn a_file_of_another_service_or_version_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n.db");
        let (database, closed) = Database::open(&path, SCHEMA).await.expect("opens");
        drop(database);
        closed.wait().await;

        let other = Schema {
            application: 8,
            ..SCHEMA
        };
        let error = Database::open(&path, other)
            .await
            .map(drop)
            .expect_err("is refused");
        assert!(error.to_string().contains("application id is 7"), "{error}");

        let connection = Connection::open(&path).expect("opens");
        connection
            .pragma_update(None, "user_version", 2)
            .expect("writes");
        let error = Database::open(&path, SCHEMA)
            .await
            .map(drop)
            .expect_err("is refused");
        assert!(error.to_string().contains("version 2, not 1"), "{error}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("n.db");
        let _open = Database::open(&path, SCHEMA).await.expect("opens");

        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}
