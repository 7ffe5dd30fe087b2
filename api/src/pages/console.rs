//! `/console`: what operators look at. The server adds nothing but the key; all the rest comes through the REST API.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::Sha256Digest;

use super::{STYLE, escape};

const BODY: &str = include_str!("console/page.html");
const OWN_STYLE: &str = include_str!("console/page.css");
/// One module: its files are cut by subject, and know each other's names.
const SCRIPT: &str = concat!(
    include_str!("console/draw.js"),
    include_str!("console/ask.js"),
    include_str!("console/service.js"),
    include_str!("console/jobs.js"),
);

/// The page may run its own script and ask its own server. Nothing else runs, whatever a job or a worker is called.
pub(crate) static CONSOLE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let script = STANDARD.encode(Sha256Digest::of(SCRIPT.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
});

/// The page, for whoever came with this key; without one where the service asks for none.
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
