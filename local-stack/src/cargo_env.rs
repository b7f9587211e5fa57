//! Calls of cargo from within a program that cargo runs.

use crate::process::Launch;

/// Takes from a call what cargo tells the programs it runs about their own package: build scripts of
/// the call would see it, take it for a change and build again what is built already.
pub(crate) fn without_build_variables(mut launch: Launch) -> Launch {
    launch.hidden_envs = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_BIN_")
                || name.starts_with("CARGO_MANIFEST_")
                || [
                    "CARGO_CRATE_NAME",
                    "CARGO_PRIMARY_PACKAGE",
                    "CARGO_TARGET_TMPDIR",
                    "OUT_DIR",
                ]
                .contains(&name.as_str())
        })
        .collect();
    launch
}
