//! The versions of the servers are pinned once, in local-stack/pom.xml, and that of Rust in
//! rust-toolchain.toml. What the Docker files say has to be the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{fs, path::Path};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The value of a property of local-stack/pom.xml.
fn pinned(property: &str) -> String {
    let pom = read("local-stack/pom.xml");
    let (open, close) = (format!("<{property}>"), format!("</{property}>"));
    let (_, rest) = pom
        .split_once(&open)
        .unwrap_or_else(|| panic!("the pom has no {property}"));
    rest.split_once(&close).unwrap().0.to_owned()
}

/// The tags of every use of an image, `FROM image:tag` or `image: image:tag`.
fn tags(file: &str, image: &str) -> Vec<String> {
    let text = read(file);
    let uses = text.lines().filter_map(|line| {
        let line = line.trim();
        let reference = line
            .strip_prefix("FROM ")
            .or_else(|| line.strip_prefix("image: "))?;
        let (name, tag) = reference.split_whitespace().next()?.split_once(':')?;
        (name == image).then(|| tag.to_owned())
    });
    uses.collect()
}

#[test]
fn servers_are_those_of_the_local_stack() {
    let kafka = pinned("kafka.version");
    assert_eq!(tags("docker-compose.yml", "apache/kafka"), [kafka.as_str()]);
    assert_eq!(
        tags("docker/connect.Dockerfile", "apache/kafka"),
        [kafka.as_str()]
    );
    let registry = pinned("apicurio.version");
    assert_eq!(
        tags("docker-compose.yml", "apicurio/apicurio-registry"),
        [registry.as_str()]
    );
    let postgres = pinned("postgres.version");
    let major = postgres.split('.').next().unwrap();
    assert_eq!(tags("docker-compose.yml", "postgres"), [major, major]);
}

#[test]
fn the_doctor_knows_the_version_that_is_tested() {
    assert_eq!(connectors::shipped::DEBEZIUM_VERSION, pinned("debezium.version"));
}

/// Debezium and the converter come from the pom itself.
#[test]
fn the_worker_is_built_from_the_pom() {
    let dockerfile = read("docker/connect.Dockerfile");
    assert!(dockerfile.contains("COPY local-stack/pom.xml"));
    for property in ["debezium.version", "apicurio.converter.version"] {
        assert!(
            !dockerfile.contains(&pinned(property)),
            "{property} is pinned a second time"
        );
    }
}

#[test]
fn services_are_built_with_the_toolchain_of_the_workspace() {
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .unwrap()
        .trim_matches('"');
    let image = format!("{channel}-slim-trixie");
    assert_eq!(tags("docker/services.Dockerfile", "rust"), [image]);
    assert!(read("docker/services.Dockerfile").contains(&format!("ENV RUSTUP_TOOLCHAIN={channel}\n")));
}
