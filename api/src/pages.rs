//! HTML pages: `/docs`, made from the OpenAPI document; `/problems`, made from `docs/problems.md`; `/console`. They load nothing
//! from other servers.

mod console;
mod reference;

use std::fmt::Write;

use pulldown_cmark::{Options, Parser, html::push_html};

pub(crate) use console::{CONSOLE_POLICY, console};
pub(crate) use reference::reference;

const STYLE: &str = include_str!("pages/style.css");
const PROBLEMS: &str = include_str!("../../docs/problems.md");

/// Escapes text for HTML, also within attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn markdown(text: &str) -> String {
    let mut html = String::new();
    push_html(&mut html, Parser::new_ext(text, Options::ENABLE_TABLES));
    html
}

/// One line of Markdown as HTML, for a table cell.
fn inline(text: &serde_json::Value) -> String {
    let html = markdown(text.as_str().unwrap_or_default());
    html.trim()
        .trim_start_matches("<p>")
        .trim_end_matches("</p>")
        .to_owned()
}

fn page(title: &str, nav: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content='width=device-width, initial-scale=1'>\
         <title>{title}</title><style>{STYLE}</style>\
         <nav><a class=brand href=/docs>Darkroom</a>{nav}</nav><main>{body}</main></html>"
    )
}

/// The sections of `docs/problems.md`: heading (the code) and text.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROBLEMS
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .map(|(heading, text)| (heading.trim().trim_matches('`'), text))
}

/// The page of one problem code.
pub(crate) fn problem(code: &str) -> Option<String> {
    let (code, text) = sections().find(|(heading, _)| *heading == code)?;
    let body = format!("<h1><code>{}</code></h1>{}", escape(code), markdown(text));
    Some(page(
        code,
        "<a href=/problems>All problems</a><a href=/docs>API reference</a>",
        &body,
    ))
}

/// Every code on one page.
pub(crate) fn all_problems() -> String {
    let mut nav = String::from("<a href=/docs>API reference</a>");
    for (code, _) in sections() {
        write!(nav, "<a href=/problems/{code}>{code}</a>").expect("a String takes all");
    }
    page("Problems", &nav, &markdown(PROBLEMS))
}

#[cfg(test)]
mod tests {
    use jobs::ProblemCode;

    #[test]
    fn every_problem_code_has_its_page() {
        for code in ProblemCode::ALL {
            let page = super::problem(code.as_str());
            assert!(
                page.is_some_and(|page| page.contains(code.as_str())),
                "{}",
                code.as_str()
            );
        }
    }
}
