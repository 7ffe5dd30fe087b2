//! `/console`: the page for operators. The server adds only the key to it; its script reads everything else by the REST API.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::Sha256Digest;

use super::{STYLE, escape};

const BODY: &str = include_str!("console/page.html");
const OWN_STYLE: &str = include_str!("console/page.css");
/// One JavaScript module from several files, which share their names.
const SCRIPT: &str = concat!(
    include_str!("console/draw.js"),
    include_str!("console/ask.js"),
    include_str!("console/service.js"),
    include_str!("console/jobs.js"),
);

/// The Content-Security-Policy: only the script of the page runs, and it calls only its own server. So no name of a job or worker
/// can inject a script.
pub(crate) static CONSOLE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let script = STANDARD.encode(Sha256Digest::of(SCRIPT.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
});

/// The page with this key. The key is empty if the service needs none.
pub(crate) fn console(key: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content='width=device-width, initial-scale=1'>\
         <meta name=darkroom-key content=\"{}\">\
         <title>Darkroom console</title><style>{STYLE}{OWN_STYLE}</style>\
         {BODY}<script type=module>{SCRIPT}</script></html>",
        escape(key)
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_key_stays_between_its_quotes() {
        let page = super::console("\"><script>alert(1)</script>");
        assert!(page.contains("content=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\""));
        assert_eq!(page.matches("<script").count(), 1, "its own");
        assert_eq!(
            page.matches("</script").count(),
            1,
            "which does not end early"
        );
    }
}
