//! Passwords: what is too weak, and argon2id off the runtime.
//!
//! A hash takes 19 MiB and tens of milliseconds, so few run at once and few wait; the next request is
//! told to come again. The permit moves into the blocking task: a client that goes away does not make
//! room for another before its hash has ended. Invariant: [`Hasher::verify`] does the work of one hash
//! whether or not there is an account.

use std::{sync::Arc, thread};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task};

use crate::problem::Problem;

/// Hashes and verifies, a bounded number at a time.
#[derive(Debug)]
pub(super) struct Hasher {
    /// Running hashes: one per core.
    running: Arc<Semaphore>,
    /// Running and waiting ones.
    admitted: Semaphore,
}

const ADMITTED: usize = 64;
/// Bytes; more would only be work for the hash.
const LONGEST: usize = 256;
/// Characters.
const SHORTEST: usize = 10;
/// The most used passwords of that length; a real shop would ask a list of leaked ones.
const COMMON: [&str; 8] = [
    "1234567890",
    "0123456789",
    "qwertyuiop",
    "password12",
    "password123",
    "password1234",
    "1q2w3e4r5t",
    "q1w2e3r4t5",
];
/// What an unknown account is verified against: same parameters, an output that no input is known for.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ibw$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

impl Hasher {
    pub(super) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            running: Arc::new(Semaphore::new(cores)),
            admitted: Semaphore::new(ADMITTED),
        }
    }

    /// The PHC string of `password` under a fresh salt.
    pub(super) async fn hash(&self, password: String) -> Result<String, Problem> {
        let hash = self.run(move || {
            let hash: Result<PasswordHash, _> =
                Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
        });
        hash.await?.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Problem::internal()
        })
    }

    /// Whether `password` is the one of `hash`; never for no hash.
    pub(super) async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Problem> {
        self.run(move || {
            let known = hash.is_some();
            let matches = PasswordHash::new(hash.as_deref().unwrap_or(NOBODY))
                .map(|hash| Argon2::default().verify_password(password.as_bytes(), &hash))
                .is_ok_and(|outcome| outcome.is_ok());
            known && matches
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(_admitted) = self.admitted.try_acquire() else {
            return Err(Problem::unavailable("too many log-ins at once"));
        };
        let Ok(running) = Arc::clone(&self.running).acquire_owned().await else {
            return Err(Problem::unavailable("the service is stopping"));
        };
        let done = task::spawn_blocking(move || {
            let value = work();
            drop(running);
            value
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "hashing failed");
            Problem::internal()
        })
    }
}

/// Refuses with 422 what would be guessed first.
pub(super) fn check(password: &str, email: &str) -> Result<(), Problem> {
    let lower = password.to_lowercase();
    let name = email.split('@').next().unwrap_or(email);
    let mut characters = lower.chars();
    let first = characters.next();
    let reason = if password.chars().count() < SHORTEST {
        "the password is too short: ten characters are the least"
    } else if password.len() > LONGEST {
        "the password is too long: 256 bytes are the most"
    } else if characters.all(|character| Some(character) == first) {
        "the password is one character over and over"
    } else if COMMON.contains(&lower.as_str()) {
        "the password is among the most used ones"
    } else if lower == email || (name.len() >= 4 && lower.contains(name)) {
        "the password holds the email address"
    } else {
        return Ok(());
    };
    Err(Problem::unprocessable(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passwords_are_refused() {
        let email = "grace@navy.mil";
        assert!(check("nanosecond-wire", email).is_ok());
        assert!(check("короткий-но-да", email).is_ok());
        let long = "x y".repeat(100);
        for weak in [
            "short",
            "aaaaaaaaaaaa",
            "Password123",
            "Grace@navy.mil",
            "i-am-GRACE-1",
            &long,
        ] {
            assert!(check(weak, email).is_err(), "{weak}");
        }
    }

    #[test]
    fn the_hash_of_nobody_costs_what_a_real_one_costs() {
        let nobody = PasswordHash::new(NOBODY).expect("a hash");
        let real: PasswordHash = Argon2::default()
            .hash_password(b"something")
            .expect("a hash");
        assert_eq!(nobody.algorithm, real.algorithm);
        assert_eq!(nobody.version, real.version);
        assert_eq!(nobody.params, real.params);
        let length = |hash: &PasswordHash| hash.hash.as_ref().map(|output| output.as_bytes().len());
        assert_eq!(length(&nobody), length(&real));
    }

    #[tokio::test]
    async fn only_the_right_password_of_an_account_is_proven() {
        let hasher = Hasher::new();
        let hash = hasher
            .hash("nanosecond-wire".to_owned())
            .await
            .expect("hashes");
        let verify = |password: &str, hash: Option<String>| {
            let password = password.to_owned();
            let hasher = &hasher;
            async move { hasher.verify(password, hash).await.expect("verifies") }
        };
        assert!(verify("nanosecond-wire", Some(hash.clone())).await);
        assert!(!verify("nanosecond-wirf", Some(hash)).await);
        assert!(!verify("nanosecond-wire", None).await);
    }

    #[tokio::test]
    async fn more_log_ins_than_are_admitted_are_sent_away() {
        let hasher = Hasher {
            running: Arc::new(Semaphore::new(1)),
            admitted: Semaphore::new(0),
        };
        assert!(hasher.verify("x".to_owned(), None).await.is_err());
    }
}
