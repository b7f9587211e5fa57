//! Placeholders of Kafka's config providers in a setting's value, such as `${env:TRADE_DB_HOST}`: the
//! worker fills them in. One that it cannot fill in it leaves as it stands, and goes on.

/// Every `${provider:key}` and `${provider:path:key}` of the text, as written.
pub(crate) fn placeholders(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        rest = &rest[start..];
        let Some(end) = rest.find('}') else { break };
        let placeholder = &rest[..=end];
        if placeholder.contains(':') {
            found.push(placeholder);
        }
        rest = &rest[end + 1..];
    }
    found
}

/// Whether the text is made of placeholders alone, so that it tells nothing of what they stand for.
pub(crate) fn only_placeholders(text: &str) -> bool {
    let mut rest = text.to_owned();
    let found = placeholders(text);
    for placeholder in &found {
        rest = rest.replace(placeholder, "");
    }
    !found.is_empty() && rest.is_empty()
}

/// Why a name that is taken from a configuration is none that could be looked for, if it has a placeholder.
pub(crate) fn unknown(name: &str) -> Option<String> {
    let placeholder = placeholders(name).into_iter().next()?;
    Some(format!("only the worker knows what {placeholder} stands for"))
}

/// What to do about a placeholder that the worker cannot fill in.
pub(crate) fn unresolved(placeholder: &str) -> String {
    let inner = placeholder.trim_start_matches("${").trim_end_matches('}');
    let (provider, key) = inner.split_once(':').unwrap_or((inner, ""));
    if provider == "env" {
        let variable = key.trim_start_matches(':');
        return format!(
            "{placeholder} has no value: the worker has no environment variable {variable}, or its \
             config.providers.env settings do not allow it; set it for every Kafka Connect worker and \
             start the worker again"
        );
    }
    format!(
        "{placeholder} has no value: the worker has no config provider {provider}, or that has no such \
         key; see config.providers in the worker's properties"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_wherever_they_stand() {
        assert_eq!(
            placeholders("${env:REGISTRY}/v2 ${file:/run/s.properties:key}"),
            ["${env:REGISTRY}", "${file:/run/s.properties:key}"]
        );
        for none in ["", "plain", "${", "${open:", "${no_provider}", "$env:X"] {
            assert!(placeholders(none).is_empty(), "{none}");
        }
        assert!(only_placeholders("${env:A}${env:B}"));
        assert!(!only_placeholders("${env:A}x"));
        assert!(!only_placeholders(""));
        let told = unknown("a_${env:A}_${env:B}").unwrap();
        assert_eq!(told, "only the worker knows what ${env:A} stands for");
        assert_eq!(unknown("a"), None);
    }

    #[test]
    fn what_has_no_value_names_the_variable_or_the_provider() {
        assert!(unresolved("${env:TRADE_DB_HOST}").contains("no environment variable TRADE_DB_HOST,"));
        assert!(unresolved("${vault:a:b}").contains("no config provider vault,"));
    }
}
