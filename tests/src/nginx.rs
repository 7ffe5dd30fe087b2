//! An nginx in front of an API.

use std::{fs, path::PathBuf, time::Duration};

use local::{Process, Program};
use tempfile::TempDir;

/// A running nginx. It is killed on drop.
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    pub url: String,
    _folder: TempDir,
}

impl Nginx {
    /// Starts an nginx that passes requests on to `upstream`. It reads the body of a request first if `buffers_requests`, or
    /// passes it on as it comes. None, with a message, if `tests/setup` could not bring nginx: then the test checks nothing.
    pub async fn start(upstream: &str, buffers_requests: bool) -> Option<Self> {
        let program = program();
        if !program.is_file() {
            eprintln!("no nginx (tests/setup says why): nothing was tested behind one");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("darkroom-nginx-")
            .tempdir()
            .unwrap();
        let path = folder.path().display().to_string();
        let mut attempt = 1;
        loop {
            let port = local::free_port().unwrap();
            let config = folder.path().join("nginx.conf");
            let text = configuration(&path, port, upstream, buffers_requests);
            fs::write(&config, text).unwrap();
            let log = folder.path().join("nginx.log");
            let nginx = Program::new(&program)
                .args(["-e", "stderr", "-p", &path, "-c"])
                .arg(&config);
            let process = nginx.spawn(&log).unwrap();
            let listening = process.wait_listening(port, Duration::from_secs(30)).await;
            match listening {
                Ok(()) => {
                    return Some(Self {
                        _process: process,
                        url: format!("http://127.0.0.1:{port}"),
                        _folder: folder,
                    });
                }
                // Another process may have taken the port: tries again.
                Err(_) if attempt < 3 && !process.is_running() => attempt += 1,
                Err(error) => panic!("{error:#}"),
            }
        }
    }
}

/// The program that `tests/setup` unpacks.
fn program() -> PathBuf {
    let checkout = local::checkout().unwrap();
    checkout.join(".local/nginx/usr/sbin/nginx")
}

fn configuration(folder: &str, port: u16, upstream: &str, buffers_requests: bool) -> String {
    let buffering = if buffers_requests { "on" } else { "off" };
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_request_buffering {buffering};
        }}
    }}
}}
"
    )
}
