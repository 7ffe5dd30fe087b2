//! `darkroom-local`: the local stack's only program.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs Darkroom and what it needs on one machine.
#[derive(Parser)]
#[command(name = "darkroom-local")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves S3 over a folder, to the holder of the AWS_… key pair.
    S3 {
        /// Address and port to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// Folder of the objects; made when missing.
        #[arg(long)]
        data: PathBuf,
        #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
        access_key_id: String,
        #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
        secret_access_key: String,
    },
    /// Runs a command with a fresh Postgres and S3 server (DATABASE_URL, AWS_…), then removes both.
    With {
        /// Folder of other Postgres programs, e.g. /usr/lib/postgresql/15/bin.
        #[arg(long, env = "DARKROOM_PG_BIN")]
        pg_bin: Option<PathBuf>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let run = match Cli::parse().command {
        Command::S3 { listen, data, access_key_id, secret_access_key } => {
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).init();
            let allowed =
                local::Credentials { access_key: access_key_id, secret_key: secret_access_key };
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
