//! A password in a file, which may be rotated while the process runs.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::{Secret, tasks};

/// How often the file is read. New connections fail for no longer than this after a rotation.
const READ_EVERY: Duration = Duration::from_secs(2);
/// The longest password that Postgres takes, in bytes.
const PASSWORD_BYTES_MAX: usize = 1024;

/// The file with the password, and what it held. `None`: the password is in the URL.
#[derive(Debug)]
pub(super) struct PasswordFile(Option<(PathBuf, Secret)>);

impl PasswordFile {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or holds no password.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, sqlx::Error> {
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(Self(None));
        };
        let password = read_password(path).map_err(|error| {
            let why = format!("DATABASE_PASSWORD_FILE {error}");
            sqlx::Error::Configuration(why.into())
        })?;
        Ok(Self(Some((path.to_owned(), password))))
    }

    pub(super) fn set_in(&self, options: PgConnectOptions) -> PgConnectOptions {
        match &self.0 {
            Some((_, password)) => options.password(password.expose()),
            None => options,
        }
    }

    /// Gives new passwords to the pools in a background task, for as long as the process lives. A file that is unreadable or
    /// empty for a moment changes nothing.
    pub(super) fn follow(self, pools: Vec<PgPool>) {
        let Some((path, password)) = self.0 else {
            return;
        };
        tasks::restart("database password", move || {
            follow(path.clone(), password.clone(), pools.clone())
        });
    }
}

async fn follow(path: PathBuf, mut last: Secret, pools: Vec<PgPool>) {
    loop {
        tokio::time::sleep(READ_EVERY).await;
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read_password(&file)).await;
        let password = match read.map_err(io::Error::from).flatten() {
            Ok(password) => password,
            Err(error) => {
                tracing::warn!(error.cause = %error, "cannot read the password; the last one stays");
                continue;
            }
        };
        if password == last {
            continue;
        }
        for pool in &pools {
            let options = pool.connect_options();
            pool.set_connect_options(options.as_ref().clone().password(password.expose()));
        }
        tracing::info!(file = %path.display(), "new connections use a new password");
        last = password;
    }
}

/// The first line of the file. The error names the file.
fn read_password(path: &Path) -> io::Result<Secret> {
    let text = Secret::read_file(path).map_err(io::Error::other)?;
    password_in(text.expose())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The first line.
fn password_in(text: &str) -> io::Result<Secret> {
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        let why = format!("the first line must be a password of 1 to {PASSWORD_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Secret::new(password))
}

#[cfg(test)]
mod tests {
    use super::{PasswordFile, password_in};

    #[test]
    fn the_password_is_the_first_line() {
        for text in ["one two", "one two\n", "one two\r\nthree"] {
            let password = password_in(text).expect("a password");
            assert_eq!(password.expose(), "one two");
        }
        assert!(password_in("").is_err());
        assert!(password_in("\nthree").is_err());
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let missing = std::path::Path::new("/nonexistent/password");
        let refused = PasswordFile::read(Some(missing)).expect_err("no such file");
        assert!(refused.to_string().contains("/nonexistent/password"));
        assert!(PasswordFile::read(None).expect("no file").0.is_none());
    }
}
