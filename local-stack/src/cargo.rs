//! Calls of cargo from within programs that cargo runs.

use std::path::Path;

use crate::process::Launch;

/// A call of cargo that says in its log how far it is.
pub(crate) fn launch(name: &str, cargo: &Path, folder: &Path, log: &Path) -> Launch {
    let mut launch = Launch::new(name, cargo, folder, log)
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "60")
        .env("CARGO_TERM_COLOR", "never");
    // What cargo tells a program about the program's own package: build scripts of the call would see
    // it, take it for a change and build again what is built already.
    launch.hidden_envs = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| {
            ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
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

/// The last `n/m` of `Building [====>   ] 120/215: name` in such a log.
pub(crate) fn built(log: &Path) -> Option<(u64, u64)> {
    let log = std::fs::read(log).unwrap_or_default();
    parse_built(&String::from_utf8_lossy(&log[log.len().saturating_sub(4096)..]))
}

fn parse_built(text: &str) -> Option<(u64, u64)> {
    let (position, total) = text
        .rsplit("] ")
        .find_map(|piece| piece.split_once(':')?.0.split_once('/'))?;
    Some((position.trim().parse().ok()?, total.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_built;

    #[test]
    fn the_last_position_is_read() {
        let log = "   Compiling a v1.0.0\r    Building [=>   ] 41/215: ring, cc\r    Building [==>  ] 42/215: cc(build)\r";
        assert_eq!(parse_built(log), Some((42, 215)));
        assert_eq!(parse_built("  Downloaded a v1.0.0\n"), None);
    }
}
