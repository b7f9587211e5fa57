//! Connector files: `NAME.json` holds the configuration of the connector NAME as a flat JSON object of
//! strings, which is also the body that `PUT /connectors/NAME/config` takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

use crate::Config;

/// A connector as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorFile {
    pub name: String,
    pub config: Config,
}

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{} cannot be read; name the connector files or their folder", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} has no .json file; name the connector files or their folder", path.display())]
    NoFiles { path: PathBuf },
    #[error("{} is not a connector file: the name has to be NAME.json, NAME being the connector's", path.display())]
    Unnamed { path: PathBuf },
    #[error("{} is not the JSON of a connector", path.display())]
    NotJson {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} must hold one flat JSON object of strings, but {found}", path.display())]
    NotStrings { path: PathBuf, found: String },
    #[error("{} must not name another connector: \"name\" is {found:?}; remove it or rename the file", path.display())]
    OtherName { path: PathBuf, found: String },
    #[error("{} and {} both describe the connector {name}; keep one of them", first.display(), second.display())]
    SameName {
        name: String,
        first: PathBuf,
        second: PathBuf,
    },
}

/// Reads the files, and all `*.json` of the folders, in order. Fails before anything is applied if one of
/// them is unfit.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<ConnectorFile>, FileError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(json_files(path)?);
        } else {
            files.push(path.clone());
        }
    }
    refuse_same_names(&files)?;
    files.iter().map(|path| read(path)).collect()
}

fn refuse_same_names(paths: &[PathBuf]) -> Result<(), FileError> {
    let mut seen = BTreeMap::new();
    for path in paths {
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        if let Some(first) = seen.insert(name, path) {
            return Err(FileError::SameName {
                name: name.to_owned(),
                first: first.clone(),
                second: path.clone(),
            });
        }
    }
    Ok(())
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(FileError::NoFiles {
            path: folder.to_owned(),
        });
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<ConnectorFile, FileError> {
    let text = fs::read_to_string(path).map_err(|source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<ConnectorFile, FileError> {
    let path_of = || path.to_owned();
    let name = match (path.file_stem().and_then(|stem| stem.to_str()), path.extension()) {
        (Some(stem), Some(extension)) if extension == "json" => stem.to_owned(),
        _ => return Err(FileError::Unnamed { path: path_of() }),
    };
    let not_json = |source| FileError::NotJson {
        path: path_of(),
        source,
    };
    let value: Value = serde_json::from_str(text).map_err(not_json)?;
    if value.is_object() {
        let EachOnce = serde_json::from_str(text).map_err(not_json)?;
    }
    let config = strings(value).map_err(|found| FileError::NotStrings {
        path: path_of(),
        found,
    })?;
    match config.get("name") {
        Some(found) if *found != name => Err(FileError::OtherName {
            path: path_of(),
            found: found.clone(),
        }),
        _ => Ok(ConnectorFile { name, config }),
    }
}

/// An object without a key that stands there twice: JSON allows it, and the last would count silently.
struct EachOnce;

impl<'de> Deserialize<'de> for EachOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = EachOnce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EachOnce, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, _)) = map.next_entry::<String, de::IgnoredAny>()? {
                    if let Some(key) = keys.replace(key) {
                        return Err(de::Error::custom(format!("{key:?} stands there twice")));
                    }
                }
                Ok(EachOnce)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The object's strings, or what it holds instead.
fn strings(value: Value) -> Result<Config, String> {
    let Value::Object(object) = value else {
        return Err(format!("it holds {}", kind(&value)));
    };
    object
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            // "config" beside "name" is the body of POST /connectors, the other shape people know.
            Value::Object(_) if key == "config" => {
                Err("its settings stand inside \"config\"; move them to the top".to_owned())
            }
            other => Err(format!("{key:?} is {}; write it as a string", kind(&other))),
        })
        .collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, text: &str) -> String {
        parse(Path::new(name), text).unwrap_err().to_string()
    }

    #[test]
    fn a_flat_object_of_strings_is_a_connector_named_like_its_file() {
        let file = parse(Path::new("some/where/trade-posts.json"), r#"{"tasks.max": "1"}"#).unwrap();
        assert_eq!(file.name, "trade-posts");
        assert_eq!(
            file.config,
            Config::from([("tasks.max".to_owned(), "1".to_owned())])
        );
    }

    #[test]
    fn anything_else_is_refused_with_the_files_name() {
        for (text, reason) in [
            ("[]", "it holds an array"),
            (
                r#"{"tasks.max": 1}"#,
                "\"tasks.max\" is a number; write it as a string",
            ),
            (r#"{"a": null}"#, "\"a\" is null"),
            (r#"{"name": "x", "config": {}}"#, "move them to the top"),
            ("{", "is not the JSON of a connector"),
            (r#"{"a": "1", "a": "2"}"#, "is not the JSON of a connector"),
            (r#"{"name": "other"}"#, "\"name\" is \"other\""),
        ] {
            let refusal = refusal("dir/x.json", text);
            assert!(refusal.starts_with("dir/x.json "), "{refusal}");
            assert!(refusal.contains(reason), "{refusal}");
        }
        assert!(refusal("dir/x.yaml", "{}").contains("NAME.json"));
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a/x.json", "b/x.json"].map(|path| folder.path().join(path));
        for file in &files {
            fs::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file, "{}").unwrap();
        }
        let folders = files.each_ref().map(|file| file.parent().unwrap().to_owned());
        let refusal = read_all(&folders).unwrap_err().to_string();
        assert!(
            refusal.ends_with("both describe the connector x; keep one of them"),
            "{refusal}"
        );
        assert!(refusal.contains("a/x.json and "), "{refusal}");
        assert_eq!(read_all(&folders[..1]).unwrap().len(), 1);
    }

    #[test]
    fn the_shipped_file_is_fit_and_keeps_secrets_and_hosts_outside() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("trade-posts.json");
        let file = read(&path).unwrap();
        assert_eq!(file.name, "trade-posts");
        for key in ["database.hostname", "database.user", "database.password"] {
            assert!(file.config[key].starts_with("${env:TRADE_DB_"), "{key}");
        }
    }
}
