//! Has Connect validate a configuration, and makes of its answer what people can act on: every field that
//! is wrong, placeholders that have no value on the worker, a connector that is not installed.

use std::collections::BTreeSet;

use crate::{
    Config, ConnectError, FieldError,
    connect_api::Plugin,
    placeholder::{placeholders, unresolved},
    reach::Awaited,
    secret::Secrets,
};

/// The fields that the connector declares as passwords, or all that is wrong.
pub(crate) async fn validate(
    awaited: &Awaited<'_>,
    wanted: &Config,
) -> Result<BTreeSet<String>, ConnectError> {
    let invalid = |fields| ConnectError::InvalidConfig {
        connector: awaited.name.to_owned(),
        fields,
    };
    let field = |message| {
        vec![FieldError {
            field: "connector.class".to_owned(),
            message,
        }]
    };
    let Some(class) = wanted.get("connector.class") else {
        let missing = "is missing; it says which connector this is".to_owned();
        return Err(invalid(field(missing)));
    };
    let validation = match awaited.ask(|| awaited.api.validation(class, wanted)).await {
        Ok(validation) => validation,
        // Connect answers 500 and a list of Java objects.
        Err(refusal @ ConnectError::Refused { .. }) => {
            let plugins = awaited.ask(|| awaited.api.plugins()).await?;
            if is_installed(class, &plugins) {
                return Err(refusal);
            }
            return Err(invalid(field(not_installed(class, &plugins))));
        }
        Err(error) => return Err(error),
    };
    let passwords = validation.passwords();
    let secrets = Secrets::new(passwords.clone());
    let unresolved = without_value(awaited, class, wanted, &secrets).await?;
    let fields = all_errors(validation.errors(), &unresolved, wanted, &secrets);
    if fields.is_empty() {
        Ok(passwords)
    } else {
        Err(invalid(fields))
    }
}

/// Connect's `PostgresConnector` or `Postgres` for the whole name.
fn is_installed(class: &str, plugins: &[Plugin]) -> bool {
    plugins.iter().any(|plugin| {
        let simple = plugin.class.rsplit('.').next().unwrap_or_default();
        class == plugin.class || class == simple || Some(class) == simple.strip_suffix("Connector")
    })
}

fn not_installed(class: &str, plugins: &[Plugin]) -> String {
    let installed: Vec<String> = plugins
        .iter()
        .map(|plugin| {
            format!(
                "{} {}",
                plugin.class,
                plugin.version.as_deref().unwrap_or_default()
            )
        })
        .map(|plugin| plugin.trim_end().to_owned())
        .collect();
    format!(
        "the worker has no connector {class}; it has {}. Install the plug-in in the plugin.path of every \
         worker, or correct the name",
        if installed.is_empty() {
            "none".to_owned()
        } else {
            installed.join(", ")
        }
    )
}

/// The placeholders that the worker cannot fill in. It says so nowhere, so it is asked to validate a name
/// that is made of them, and answers what it made of that. Those of secret settings are left out, because
/// it would answer their values.
async fn without_value(
    awaited: &Awaited<'_>,
    class: &str,
    wanted: &Config,
    secrets: &Secrets,
) -> Result<BTreeSet<String>, ConnectError> {
    let asked = asked_for(wanted, secrets);
    if asked.is_empty() {
        return Ok(BTreeSet::new());
    }
    let name: Vec<&str> = asked.iter().map(String::as_str).collect();
    let probe = Config::from([
        ("connector.class".to_owned(), class.to_owned()),
        ("name".to_owned(), name.join(" ")),
    ]);
    let validation = awaited.ask(|| awaited.api.validation(class, &probe)).await?;
    let filled_in = validation.value("name").unwrap_or_default();
    Ok(asked
        .into_iter()
        .filter(|placeholder| filled_in.contains(placeholder))
        .collect())
}

fn asked_for(wanted: &Config, secrets: &Secrets) -> BTreeSet<String> {
    let open = wanted.iter().filter(|(key, _)| !secrets.is_secret(key));
    let secret: BTreeSet<&str> = wanted
        .iter()
        .filter(|(key, _)| secrets.is_secret(key))
        .flat_map(|(_, value)| placeholders(value))
        .collect();
    open.flat_map(|(_, value)| placeholders(value))
        .filter(|placeholder| !secret.contains(placeholder))
        .map(ToOwned::to_owned)
        .collect()
}

/// Connect's errors, without values of secrets. What a placeholder without value has caused gives way to
/// that; where the cause can be the placeholder of a secret, it is named.
fn all_errors(
    errors: Vec<FieldError>,
    without_value: &BTreeSet<String>,
    wanted: &Config,
    secrets: &Secrets,
) -> Vec<FieldError> {
    let mut fields = Vec::new();
    let mut caused = BTreeSet::new();
    for (key, value) in wanted {
        let found = placeholders(value).into_iter();
        for placeholder in found.filter(|placeholder| without_value.contains(*placeholder)) {
            caused.insert(key);
            fields.push(FieldError {
                field: key.clone(),
                message: unresolved(placeholder),
            });
        }
    }
    let hints = hints_at_secrets(wanted, secrets);
    for error in errors.into_iter().filter(|error| !caused.contains(&error.field)) {
        let mut message = secrets.redacted(&error.message, wanted);
        if is_about_login(&message) {
            message += &hints;
        }
        fields.push(FieldError { message, ..error });
    }
    fields.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    fields
}

fn hints_at_secrets(wanted: &Config, secrets: &Secrets) -> String {
    let secret = wanted.iter().filter(|(key, _)| secrets.is_secret(key));
    let hints = secret.flat_map(|(key, value)| {
        let found = placeholders(value).into_iter();
        found.map(move |placeholder| format!(" ({key} is {placeholder}: check its value on every worker)"))
    });
    hints.collect()
}

fn is_about_login(message: &str) -> bool {
    let message = message.to_lowercase();
    ["password", "authentication", "login"]
        .iter()
        .any(|word| message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[(&str, &str)]) -> Config {
        let pairs = settings.iter();
        pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn error(field: &str, message: &str) -> FieldError {
        FieldError {
            field: field.to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn values_of_secrets_are_not_asked_for() {
        let wanted = config(&[
            ("host", "${env:HOST}"),
            ("url", "${env:REGISTRY}/v2?x=${env:BOTH}"),
            ("a.password", "${env:PASSWORD}"),
            ("b.password", "${env:BOTH}"),
        ]);
        let asked = asked_for(&wanted, &Secrets::default());
        assert_eq!(
            asked.into_iter().collect::<Vec<_>>(),
            ["${env:HOST}", "${env:REGISTRY}"]
        );
    }

    #[test]
    fn a_placeholder_without_value_takes_the_place_of_what_it_caused() {
        let wanted = config(&[("host", "${env:HOST}"), ("port", "x"), ("url", "${env:HOST}/v2")]);
        let fields = all_errors(
            vec![error("host", "has invalid format"), error("port", "no integer")],
            &BTreeSet::from(["${env:HOST}".to_owned()]),
            &wanted,
            &Secrets::default(),
        );
        let shown: Vec<String> = fields.iter().map(ToString::to_string).collect();
        assert!(
            shown[0].starts_with("host: ${env:HOST} has no value"),
            "{shown:?}"
        );
        assert_eq!(shown[1], "port: no integer");
        assert!(shown[2].starts_with("url: ${env:HOST} has no value"), "{shown:?}");
    }

    #[test]
    fn a_refused_login_names_the_placeholders_of_secrets_and_no_value() {
        let wanted = config(&[("a.password", "${env:PASSWORD}"), ("b.password", "hunter2")]);
        let fields = all_errors(
            vec![error("host", "password authentication failed with hunter2")],
            &BTreeSet::new(),
            &wanted,
            &Secrets::default(),
        );
        assert_eq!(
            fields[0].message,
            "password authentication failed with ******** (a.password is ${env:PASSWORD}: check its value \
             on every worker)"
        );
    }

    #[test]
    fn a_connector_that_is_not_installed_is_told_with_those_that_are() {
        let plugins = [Plugin {
            class: "io.example.PostgresConnector".to_owned(),
            kind: "source".to_owned(),
            version: Some("3.6".to_owned()),
        }];
        for name in ["io.example.PostgresConnector", "PostgresConnector", "Postgres"] {
            assert!(is_installed(name, &plugins), "{name}");
        }
        assert!(!is_installed("io.example.MySqlConnector", &plugins));
        let told = not_installed("MySql", &plugins);
        assert!(
            told.contains("no connector MySql; it has io.example.PostgresConnector 3.6."),
            "{told}"
        );
    }
}
