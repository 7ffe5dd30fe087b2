//! The section of one operation: a method of a path.

use serde_json::Value;

use super::{example::curl, put, shapes::kind, text};
use crate::pages::{escape, inline, markdown};

pub(super) fn section(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let id = operation["operationId"].as_str().unwrap_or_default();
    format!(
        "<section id='{id}'><h3><a class=anchor href='#{id}'><span class='verb {method}'>{}</span>{}</a></h3>\
         <p><strong>{}</strong></p>{}<pre><code>{}</code></pre>{}{}{}{}</section>",
        method.to_uppercase(),
        escape(path),
        inline(&operation["summary"]),
        markdown(operation["description"].as_str().unwrap_or_default()),
        escape(&curl(document, path, method, operation)),
        parameters(operation),
        request_body(operation),
        answers(operation),
        refusals(operation),
    )
}

fn parameters(operation: &Value) -> String {
    let Some(parameters) = operation["parameters"].as_array() else {
        return String::new();
    };
    let mut rows = String::from("<table><tr><th>Parameter<th>In<th>Type<th></tr>");
    for parameter in parameters {
        let needed = if parameter["required"] == true && parameter["in"] != "path" {
            " <span class=soft>required</span>"
        } else {
            ""
        };
        put(
            &mut rows,
            format_args!(
                "<tr><td><code>{}</code>{needed}<td>{}<td>{}<td>{}</tr>",
                text(&parameter["name"]),
                text(&parameter["in"]),
                kind(&parameter["schema"]),
                inline(&parameter["description"]),
            ),
        );
    }
    rows + "</table>"
}

fn request_body(operation: &Value) -> String {
    let Some(content) = operation["requestBody"]["content"].as_object() else {
        return String::new();
    };
    let mut rows = String::from("<table><tr><th>Request body<th>Type</tr>");
    for (media_type, body) in content {
        let kind = match kind(&body["schema"]) {
            bytes if body["schema"]["type"] == "array" => {
                if media_type.starts_with("multipart") {
                    "parts".to_owned()
                } else if bytes.contains("integer") {
                    "bytes".to_owned()
                } else {
                    bytes
                }
            }
            kind => kind,
        };
        put(
            &mut rows,
            format_args!("<tr><td><code>{}</code><td>{kind}</tr>", escape(media_type)),
        );
    }
    rows + "</table>"
}

fn is_refusal(status: &str) -> bool {
    status.starts_with(['4', '5'])
}

/// The table of successful answers: status, body, headers.
fn answers(operation: &Value) -> String {
    let mut rows = String::from("<table><tr><th>Answer<th><th>Body<th>Headers</tr>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if is_refusal(status) {
            continue;
        }
        let content = response["content"].as_object().into_iter().flatten();
        let bodies: Vec<_> = content
            .map(|(media_type, body)| match media_type.as_str() {
                "application/json" => kind(&body["schema"]),
                other => format!("<code>{}</code>", escape(other)),
            })
            .collect();
        let headers = response["headers"].as_object().into_iter().flatten();
        let headers: Vec<_> = headers
            .map(|(name, _)| format!("<code>{}</code>", escape(name)))
            .collect();
        put(
            &mut rows,
            format_args!(
                "<tr><td><code>{status}</code><td>{}<td>{}<td>{}</tr>",
                inline(&response["description"]),
                bodies.join(" or "),
                headers.join(", "),
            ),
        );
    }
    rows + "</table>"
}

/// The list of refusals. Each problem code links to its page.
fn refusals(operation: &Value) -> String {
    let responses = operation["responses"].as_object().into_iter().flatten();
    let refusals = responses.filter(|(status, _)| is_refusal(status));
    let items: Vec<_> = refusals
        .map(|(status, response)| {
            let words = response["description"].as_str().unwrap_or_default();
            format!("<li><code>{status}</code> {}</li>", linked(words))
        })
        .collect();
    format!(
        "<details><summary>Refusals</summary><ul class=refusals>{}</ul></details>",
        items.concat()
    )
}

/// Links the problem codes in a text to their pages.
fn linked(words: &str) -> String {
    let is_code = |word: &str| {
        jobs::ProblemCode::ALL
            .iter()
            .any(|code| code.as_str() == word)
    };
    words
        .split_inclusive([' ', ',', ':', ';'])
        .map(|word| {
            let bare = word.trim_end_matches([' ', ',', ':', ';']);
            let rest = &word[bare.len()..];
            if is_code(bare) {
                format!("<a href='/problems/{bare}'>{bare}</a>{rest}")
            } else {
                inline(&word.into()) + if word.ends_with(' ') { " " } else { "" }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::linked;

    #[test]
    fn codes_in_words_are_links_and_other_words_are_not() {
        assert_eq!(
            linked("queue_full, not_found: no such model"),
            "<a href='/problems/queue_full'>queue_full</a>, <a href='/problems/not_found'>not_found</a>: no such model"
        );
    }
}
