//! Settings with a secret, from files: `--database-url-file` and `DATABASE_URL_FILE` beside `--database-url` and `DATABASE_URL`.
//!
//! The structs of the settings do not know about files. [`parse`] adds a second flag for each secret, reads the file, and gives its
//! content to the first flag as default.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{
    Arg, ArgMatches, Command, Error, Parser,
    builder::{Resettable, ValueParser},
    error::ErrorKind,
    parser::ValueSource,
};

use crate::Secret;

/// A flag with the file of a secret.
#[derive(Debug)]
struct FileFlag {
    /// Id of the flag with the secret itself.
    secret: &'static str,
    id: &'static str,
    long: &'static str,
    env: &'static str,
    help: &'static str,
    heading: &'static str,
}

/// Every secret that a program takes as a setting. Credentials of S3 come by the ways of the AWS SDK, which knows files, too.
const FILE_FLAGS: [FileFlag; 3] = [
    FileFlag {
        secret: "database_url",
        id: "database_url_file",
        long: "database-url-file",
        env: "DATABASE_URL_FILE",
        help: "File with the URL of `--database-url`, read once at start",
        heading: "Postgres",
    },
    FileFlag {
        secret: "database_direct_url",
        id: "database_direct_url_file",
        long: "database-direct-url-file",
        env: "DATABASE_DIRECT_URL_FILE",
        help: "File with the URL of `--database-direct-url`, read once at start",
        heading: "Postgres",
    },
    FileFlag {
        secret: "api_key",
        id: "api_key_file",
        long: "api-key-file",
        env: "DARKROOM_API_KEY_FILE",
        help: "File with the key of `--api-key`",
        heading: "Service",
    },
];

/// The settings of this process. Ends the process with the usual messages if they cannot be read.
pub fn parse<C: Parser>() -> C {
    let args: Vec<_> = std::env::args_os().collect();
    parse_from(&args).unwrap_or_else(|error| error.exit())
}

/// [`parse`] for these arguments. The first one is the name of the program.
///
/// # Errors
/// An argument or the environment is wrong, or the file of a secret cannot be read.
pub fn parse_from<C: Parser>(args: &[OsString]) -> Result<C, Error> {
    let command = with_file_flags(C::command());
    let matches = command.clone().try_get_matches_from(args)?;
    let mut command = fill_in(command, &matches)?;
    let mut matches = command.try_get_matches_from_mut(args)?;
    C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The command, with a second flag beside each flag of a secret; also in its subcommands.
pub fn with_file_flags(mut command: Command) -> Command {
    for flag in &FILE_FLAGS {
        let Some(secret) = find(&command, flag.secret) else {
            continue;
        };
        if secret.is_required_set() {
            command = command.mut_arg(flag.secret, |arg| {
                arg.required(false).required_unless_present(flag.id)
            });
        }
        let arg = Arg::new(flag.id)
            .long(flag.long)
            .env(flag.env)
            .help(flag.help)
            .help_heading(flag.heading)
            .value_name("FILE")
            .value_parser(ValueParser::path_buf());
        command = command.arg(arg);
    }
    command.mut_subcommands(with_file_flags)
}

/// Makes the content of each file the default of its secret, in the commands that were called.
fn fill_in(mut command: Command, matches: &ArgMatches) -> Result<Command, Error> {
    for flag in &FILE_FLAGS {
        if find(&command, flag.secret).is_none() {
            continue;
        }
        // An empty variable counts as unset.
        let path = matches.get_one::<PathBuf>(flag.id);
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            continue;
        };
        match (source(matches, flag.secret), matches.value_source(flag.id)) {
            (None, _) | (Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine)) => {}
            (Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)) => continue,
            _ => {
                let secret = flag.long.trim_end_matches("-file");
                let both = format!("give `--{secret}` or `--{}`, not both", flag.long);
                return Err(command.error(ErrorKind::ArgumentConflict, both));
            }
        }
        let secret = Secret::read_file(path).map_err(|error| {
            let why = format!("`--{}` {error}", flag.long);
            command.error(ErrorKind::ValueValidation, why)
        })?;
        // Leaked: clap keeps defaults for as long as the process lives.
        let text: &'static str = secret.expose().to_owned().leak();
        command = command.mut_arg(flag.secret, |arg| {
            arg.default_value(text)
                .hide_default_value(true)
                .env(Resettable::Reset)
        });
    }
    match matches.subcommand() {
        Some((name, called)) => {
            let subcommand = command.find_subcommand(name).cloned();
            let subcommand = subcommand.expect("it was called");
            let filled = fill_in(subcommand, called)?;
            Ok(command.mut_subcommand(name, |_| filled))
        }
        None => Ok(command),
    }
}

/// Where a secret comes from; `None` if only by default, or if it is empty.
fn source(matches: &ArgMatches, id: &str) -> Option<ValueSource> {
    let source = matches.value_source(id)?;
    let is_empty = matches
        .get_raw(id)
        .is_none_or(|mut values| values.all(OsStr::is_empty));
    (source != ValueSource::DefaultValue && !is_empty).then_some(source)
}

fn find<'a>(command: &'a Command, id: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_id() == id)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::{Args, Parser, Subcommand};

    use super::parse_from;
    use crate::Secret;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Run,
    }

    #[derive(Debug, Subcommand)]
    enum Run {
        Serve(Settings),
        Migrate(Settings),
    }

    /// The flags of a program, without the environment of the process.
    #[derive(Debug, Args)]
    struct Settings {
        #[arg(long)]
        database_url: Secret,
        #[arg(long)]
        database_direct_url: Option<Secret>,
    }

    fn parse(args: &[&str]) -> Result<Settings, String> {
        let args = ["darkroom", "serve"].iter().chain(args).map(Into::into);
        match parse_from::<Cli>(&args.collect::<Vec<_>>()) {
            Ok(Cli {
                command: Run::Serve(settings) | Run::Migrate(settings),
            }) => Ok(settings),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A file of this test that is deleted at the end.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(content: &[u8]) -> Self {
            let name = format!("darkroom-secret-{}", uuid::Uuid::now_v7().simple());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, content).expect("a temporary file");
            Self(path)
        }

        fn flag(&self) -> String {
            format!("--database-url-file={}", self.0.display())
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_secret_comes_from_a_flag_or_from_a_file_without_its_line_break() {
        let settings = parse(&["--database-url", "postgres://a"]).expect("a flag");
        assert_eq!(settings.database_url.expose(), "postgres://a");
        let file = Temporary::new(b"postgres://b\n");
        let settings = parse(&[&file.flag()]).expect("a file");
        assert_eq!(settings.database_url.expose(), "postgres://b");
        assert_eq!(settings.database_direct_url, None);
    }

    #[test]
    fn a_secret_that_is_missing_or_given_twice_is_refused() {
        let missing = parse(&[]).expect_err("required");
        assert!(missing.contains("--database-url"), "{missing}");
        let file = Temporary::new(b"postgres://b");
        let twice = parse(&[&file.flag(), "--database-url=postgres://a"]).expect_err("two");
        assert!(twice.contains("not both"), "{twice}");
        assert!(!twice.contains("postgres://"), "{twice}");
    }

    #[test]
    fn a_file_without_a_secret_is_refused_by_its_name() {
        for content in [&b""[..], b"\n", b"\xff\xfe", &vec![b'x'; 100_000]] {
            let file = Temporary::new(content);
            let refused = parse(&[&file.flag()]).expect_err("no secret");
            assert!(refused.contains("darkroom-secret-"), "{refused}");
        }
        let missing = Secret::read_file(Path::new("/nowhere/secret")).expect_err("no file");
        assert!(
            missing.to_string().starts_with("/nowhere/secret: "),
            "{missing}"
        );
    }
}
