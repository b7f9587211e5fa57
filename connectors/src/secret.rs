//! What of a connector's settings may be shown. A setting is secret by its name, or because Connect's
//! validation calls its field a password; a secret can also stand inside a value, such as the password in
//! a URL. When in doubt it is masked. A placeholder like `${env:TRADE_DB_PASSWORD}` is no secret.

use std::collections::BTreeSet;

use crate::{Config, placeholder::only_placeholders};

pub const MASK: &str = "********";

/// Parts of names that mark a secret, in lower case.
const WORDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "jaas",
    "authorization",
    "auth.user.info",
    "private.key",
    "private_key",
];

/// Which settings are secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    typed: BTreeSet<String>,
}

impl Secrets {
    /// `typed` are the fields that the connector itself declares as passwords.
    pub fn new(typed: BTreeSet<String>) -> Self {
        Self { typed }
    }

    pub fn is_secret(&self, key: &str) -> bool {
        self.typed.contains(key) || named_secret(key)
    }

    /// The value as people may see it.
    pub fn shown(&self, key: &str, value: &str) -> String {
        if !self.is_secret(key) {
            return without_assignments(&without_url_passwords(value));
        }
        if value.is_empty() || only_placeholders(value) {
            value.to_owned()
        } else {
            MASK.to_owned()
        }
    }

    /// A text of Connect's, which may repeat values of this configuration, without the secret ones.
    pub fn redacted(&self, text: &str, config: &Config) -> String {
        let mut secrets: Vec<&String> = config
            .iter()
            .filter(|(key, value)| {
                self.is_secret(key) && !value.trim().is_empty() && !only_placeholders(value)
            })
            .map(|(_, value)| value)
            .collect();
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let masked = secrets.into_iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), MASK)
        });
        without_assignments(&without_url_passwords(&masked))
    }
}

fn named_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let last = name.rsplit(['.', '_', '-']).next().unwrap_or(&name);
    // `ssl.keystore.key` and `apiKey`, but neither `key.converter` nor `message.key.columns`.
    WORDS.iter().any(|word| name.contains(word)) || (last.ends_with("key") && name != "key")
}

/// `scheme://user:password@host` without the password.
fn without_url_passwords(value: &str) -> String {
    let mut shown = String::new();
    let mut rest = value;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\''))
            .unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        // A password may hold anything, also an @ or a slash: better too much is masked than too little.
        match url.rfind('@').map(|at| url.split_at(at)) {
            Some((user, host)) => match user.split_once(':') {
                Some((name, password)) if !only_placeholders(password) => {
                    shown.extend([name, ":", MASK, host]);
                }
                _ => shown.push_str(url),
            },
            None => shown.push_str(url),
        }
        rest = behind;
    }
    shown + rest
}

/// `password=…`, `"token": "…"` and the like inside of a value, without what is assigned.
fn without_assignments(value: &str) -> String {
    let mut shown = String::new();
    let mut rest = value;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        shown.push_str(before);
        rest = after;
        let name = before[..at].trim_end().trim_end_matches(['"', '\'']);
        let name = name
            .rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-')))
            .next()
            .unwrap_or_default();
        if !named_secret(name) {
            continue;
        }
        let start = after.len() - after.trim_start().len();
        let (space, assigned) = after.split_at(start);
        let quote = assigned.chars().next().filter(|c| matches!(c, '"' | '\''));
        let body = quote.map_or(assigned, |quote| &assigned[quote.len_utf8()..]);
        // `Authorization: Bearer …` has a space before what is secret.
        let is_header = name.to_lowercase().contains("authorization");
        let end = match quote {
            Some(quote) => body.find(quote),
            None if is_header => body.find(['\n', '\r', ',', ';']),
            None => body.find(|c: char| c.is_whitespace() || matches!(c, '&' | ';' | ',' | '}')),
        };
        // A placeholder's own brace does not end it.
        let end = match body.strip_prefix("${").and_then(|inner| inner.find('}')) {
            Some(brace) if quote.is_none() && !is_header => Some(brace + 3),
            _ => end,
        };
        let end = end.unwrap_or(body.len());
        let text = &body[..end];
        shown.push_str(space);
        shown.extend(quote);
        shown.push_str(if text.is_empty() || text == MASK || only_placeholders(text) {
            text
        } else {
            MASK
        });
        rest = &body[end..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(key: &str, value: &str) -> String {
        Secrets::default().shown(key, value)
    }

    #[test]
    fn secrets_are_known_by_name() {
        for key in [
            "database.password",
            "DATABASE.PASSWORD",
            "ssl.key.password",
            "ssl.keystore.key",
            "sasl.jaas.config",
            "oauth.client.secret",
            "s3.accessKey",
            "api_key",
            "bearer.auth.token",
            "aws.credentials",
            "basic.auth.user.info",
        ] {
            assert_eq!(shown(key, "hunter2"), MASK, "{key}");
            assert_eq!(shown(key, "${env:SECRET}"), "${env:SECRET}", "{key}");
            assert_eq!(shown(key, "${env:SECRET}x"), MASK, "{key}");
        }
    }

    #[test]
    fn what_the_connector_declares_as_a_password_is_secret() {
        let secrets = Secrets::new(BTreeSet::from(["the.phrase".to_owned()]));
        assert_eq!(secrets.shown("the.phrase", "hunter2"), MASK);
        assert_eq!(shown("the.phrase", "hunter2"), "hunter2");
    }

    #[test]
    fn a_secret_inside_a_value_is_masked_alone() {
        for (value, expected) in [
            ("https://u:p@h:1/x", "https://u:********@h:1/x"),
            (
                "http://a:b@c, http://d:e@f",
                "http://a:********@c, http://d:********@f",
            ),
            ("https://u:${env:P}@h", "https://u:${env:P}@h"),
            ("https://h:8081/apis", "https://h:8081/apis"),
            (
                "jdbc:postgresql://h/db?user=u&password=p&ssl=true",
                "jdbc:postgresql://h/db?user=u&password=********&ssl=true",
            ),
            (
                "Module required user=\"u\" password=\"p w\";",
                "Module required user=\"u\" password=\"********\";",
            ),
            (
                "{\"token\": \"abc\", \"a\": 1}",
                "{\"token\": \"********\", \"a\": 1}",
            ),
            ("x?token=${env:T}&y=1", "x?token=${env:T}&y=1"),
            (
                "Authorization: Bearer abc def, X-Other: 1",
                "Authorization: ********, X-Other: 1",
            ),
            (
                "X-Other: 1; proxy-authorization: Basic abc=\nX-Third: 2",
                "X-Other: 1; proxy-authorization: ********\nX-Third: 2",
            ),
            ("Authorization: ${env:A}", "Authorization: ${env:A}"),
            ("Authorization: Bearer ${env:A}", "Authorization: ********"),
            (
                "\"Authorization\": \"Bearer abc\"}",
                "\"Authorization\": \"********\"}",
            ),
            (
                "INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at",
                "INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at",
            ),
        ] {
            assert_eq!(shown("some.setting", value), expected);
        }
    }

    #[test]
    fn all_of_the_shipped_configuration_can_be_shown() {
        let text = include_str!("../trade-posts.json");
        let config: Config = serde_json::from_str(text).unwrap();
        for (key, value) in &config {
            assert_eq!(shown(key, value), *value, "{key}");
        }
    }

    #[test]
    fn what_connect_says_is_shown_without_the_values_of_secrets() {
        let config = Config::from([
            ("a.password".to_owned(), "hunter2".to_owned()),
            ("b.password".to_owned(), "hunter22".to_owned()),
            ("c.password".to_owned(), "${env:C}".to_owned()),
        ]);
        let text = "Invalid value hunter22 or hunter2 or ${env:C}; postgres://u:hunter3@h";
        assert_eq!(
            Secrets::default().redacted(text, &config),
            "Invalid value ******** or ******** or ${env:C}; postgres://u:********@h"
        );
    }

    proptest! {
        #[test]
        fn no_password_of_a_url_is_ever_shown(
            user in "[a-z]{0,4}",
            password in "QZ[a-zA-Z0-9@:/?=&;{}$%]{0,12}QZ",
            before in "[a-z =,;]{0,6}",
        ) {
            let value = format!("{before}https://{user}:{password}@host:8081/path");
            prop_assert!(!shown("registry.url", &value).contains(&password));
            prop_assert_eq!(shown("registry.password", &value), MASK);
        }

        #[test]
        fn any_value_can_be_shown_and_a_shown_one_again(value in "\\PC{0,40}", key in "[a-z.]{0,12}") {
            let once = shown(&key, &value);
            prop_assert_eq!(shown(&key, &once), once);
        }
    }
}
