//! `.local/env`: a shell sources this file to use the stack, or to start further processes of it.

use super::layout::{Layout, write_private};

/// Names and values of variables, in the order of the file.
pub(super) type Env = Vec<(&'static str, String)>;

pub(super) fn write(layout: &Layout, env: &Env) -> anyhow::Result<()> {
    let line = |(name, value): &(&str, String)| format!("export {name}={}\n", quoted(value));
    write_private(&layout.env(), &env.iter().map(line).collect::<String>())
}

/// Quotes `value` as one word of a shell.
pub(super) fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:@._-+,=".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_survive_a_shell() {
        for value in [
            "",
            "plain",
            "two words",
            "it's",
            "$HOME `id` \"x\"",
            "a&b;c",
            "*",
        ] {
            let script = format!("printf %s {}", super::quoted(value));
            let shell = std::process::Command::new("/bin/sh")
                .args(["-c", &script])
                .output();
            let shell = shell.expect("every machine has a shell");
            assert_eq!(String::from_utf8_lossy(&shell.stdout), value);
        }
    }
}
