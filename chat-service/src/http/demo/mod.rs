//! A page to try chats with in a browser: plain files at `/demo`, which use the API as every app does.
//!
//! Invariants: it is there only where the configuration names the members to try it as, because their
//! tokens are given to anybody who asks; nothing in it is inline or comes from elsewhere, and browsers
//! are told to run nothing else.

use std::path::Path;

use anyhow::{Context, Result};
use axum::{Json, Router, routing::get};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use serde::{Deserialize, Serialize};

/// Trusted types make the browser refuse text as markup, whoever sent it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Whom the page may be tried as.
#[derive(Clone, Debug)]
pub struct Demo(Vec<SampleMember>);

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SampleMember {
    name: String,
    token: String,
}

impl Demo {
    /// Reads the file that the configuration names.
    pub fn load(file: &Path) -> Result<Self> {
        let text =
            std::fs::read(file).with_context(|| format!("{} (DEMO) could not be read", file.display()))?;
        let members = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} (DEMO) is not a list of {{\"name\", \"token\"}}",
                file.display()
            )
        })?;
        Ok(Self(members))
    }

    pub fn routes<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let members = move || {
            let Self(members) = self.clone();
            async move { ([(CACHE_CONTROL, "no-store")], Json(members)) }
        };
        Router::new()
            .route("/demo", file("text/html", include_str!("index.html")))
            .route("/demo/demo.js", file("text/javascript", include_str!("demo.js")))
            .route("/demo/api.js", file("text/javascript", include_str!("api.js")))
            .route("/demo/dom.js", file("text/javascript", include_str!("dom.js")))
            .route("/demo/demo.css", file("text/css", include_str!("demo.css")))
            .route("/demo/members.json", get(members))
    }
}

fn file<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    content: &'static str,
) -> axum::routing::MethodRouter<S> {
    get(async move || {
        let headers = [
            (CONTENT_TYPE, format!("{kind}; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, POLICY.to_owned()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (REFERRER_POLICY, "no-referrer".to_owned()),
            // The page and its script belong together; they come from one build.
            (CACHE_CONTROL, "no-cache".to_owned()),
        ];
        (headers, content)
    })
}

impl std::fmt::Debug for SampleMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SampleMember")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
