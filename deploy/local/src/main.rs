//! `darkroom-local`: the program that runs the local stack.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use local::stack::{self, UpOptions};

/// Runs Darkroom, Postgres and an S3 server on one machine.
#[derive(Parser)]
#[command(name = "darkroom-local")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts everything, classifies a sample photo, and stays in the foreground until Ctrl-C.
    ///
    /// On a running stack it starts only the missing processes.
    Up {
        /// Return when everything is ready; ./deploy/local/down (with the same --data) stops the stack.
        #[arg(long)]
        detach: bool,
        /// Number of workers.
        #[arg(long, default_value_t = 1)]
        workers: u16,
        /// Number of API processes.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        apis: u16,
        /// Port of the first API; further APIs get the ports after it.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Folder of all data [default: .local in the checkout]
        #[arg(long)]
        data: Option<PathBuf>,
        /// Do not classify a sample photo.
        #[arg(long)]
        no_sample: bool,
    },
    /// Stops a detached stack.
    Down {
        /// Remove the data too: database, objects, logs, keys.
        #[arg(long)]
        wipe: bool,
        /// Folder of all data [default: .local in the checkout]
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Shows which processes run, where, and since when; exit code 1 when the stack does not run.
    Status {
        /// Folder of all data [default: .local in the checkout]
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// The process behind a detached stack; started by `up --detach`.
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        data: PathBuf,
    },
    /// Serves the objects of a folder over S3, to clients that have the AWS_… key pair.
    S3 {
        /// Address and port to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// Folder of the objects; created if it is missing.
        #[arg(long)]
        data: PathBuf,
        #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
        access_key_id: String,
        #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
        secret_access_key: String,
    },
    /// Runs a command with a new Postgres and a new S3 server (`DATABASE_URL`, `AWS_…`), then removes both.
    With {
        /// Folder of the Postgres programs to use, e.g. /usr/lib/postgresql/15/bin.
        #[arg(long, env = "DARKROOM_PG_BIN")]
        pg_bin: Option<PathBuf>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let run = match Cli::parse().command {
        Command::Up {
            detach,
            workers,
            apis,
            port,
            data,
            no_sample,
        } => {
            let options = UpOptions {
                detach,
                apis,
                workers,
                port,
                data,
                sample: !no_sample,
            };
            stack::up(options).await.map(|()| 0)
        }
        Command::Down { wipe, data } => stack::down(data.as_deref(), wipe).await.map(|()| 0),
        Command::Status { data } => stack::status(data.as_deref())
            .await
            .map(|running| u8::from(!running)),
        Command::Supervise { data } => stack::supervise_detached(&data).await.map(|()| 0),
        Command::S3 {
            listen,
            data,
            access_key_id,
            secret_access_key,
        } => {
            tracing_subscriber::fmt()
                .json()
                .flatten_event(true)
                .with_writer(std::io::stderr)
                .init();
            let allowed = local::Credentials {
                access_key: access_key_id,
                secret_key: secret_access_key,
            };
            local::serve(listen, &data, allowed).await.map(|()| 0)
        }
        Command::With { pg_bin, command } => local::with::with(command, pg_bin).await,
    };
    match run {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
