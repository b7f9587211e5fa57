//! Where an image of a post is.
//!
//! No I/O. Invariant: what passes is shown by every client as the same address: nothing in it ends it early, is
//! invisible, or is passed over.

use http::Uri;
use utoipa::ToSchema;

use super::{Violation, add, text};

pub(super) const LENGTH_MAX: usize = 500;

/// An absolute `https` URL, without a user and without a fragment.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 500,
    pattern = "^https://[^/?#@\\s\\u0000-\\u001f\\u007f-\\u009f]+([/?][^#\\s\\u0000-\\u001f\\u007f-\\u009f]*)?$",
    examples("https://images.example/42.jpg")
)]
#[expect(dead_code, reason = "for the document alone")]
pub(super) struct ImageUrl(String);

/// Also where the URL's parser does not look: it takes no notice of what follows a `#`.
pub(super) fn check(found: &mut Vec<Violation>, field: &str, url: &str) {
    let before = found.len();
    text(found, field, url, 1, LENGTH_MAX);
    if found.len() > before {
        return;
    }
    if let Some(c) = url.chars().find(|c| is_out_of_place(*c)) {
        let message = format!("must not contain the character U+{:04X}", u32::from(c));
        return add(found, field, message);
    }
    let uri = url.parse::<Uri>().ok();
    let https = uri.filter(|uri| uri.scheme_str() == Some("https"));
    match https.as_ref().and_then(Uri::authority) {
        Some(authority) if authority.as_str().contains('@') => {
            add(found, field, format!("must not name a user, got `{authority}`"));
        }
        Some(authority) if !authority.host().is_empty() => {}
        _ => add(
            found,
            field,
            format!("must be an absolute https URL, got `{url}`"),
        ),
    }
}

/// U+FEFF is white space to JavaScript, and nothing to see for anybody.
fn is_out_of_place(c: char) -> bool {
    c == '#' || c == '\u{feff}' || c.is_whitespace() || c.is_control()
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;

    fn refusal(url: &str) -> Option<String> {
        let mut found = Vec::new();
        check(&mut found, "image_urls[0]", url);
        assert!(found.len() < 2, "{found:?}");
        let violation = found.pop()?;
        assert_eq!(violation.field, "image_urls[0]");
        Some(violation.message)
    }

    #[test]
    fn only_absolute_https_urls_are_image_urls() {
        for url in [
            "https://x.example",
            "https://x.example:8443/a/b.jpg?w=1",
            "https://127.0.0.1/%EA%B0%80.png",
            "https://x.example/@a?b=@",
        ] {
            assert_eq!(refusal(url), None, "{url}");
        }
        for url in [
            "x.example/a",
            "/a",
            "https://",
            "https:///a",
            "javascript:alert(1)",
            "ftp://x/a",
            "http://x.example/",
            "https:x.example",
        ] {
            let message = format!("must be an absolute https URL, got `{url}`");
            assert_eq!(refusal(url), Some(message));
        }
    }

    #[test]
    fn what_a_url_may_not_have_is_refused_wherever_it_is() {
        for (c, code) in [
            ('#', "0023"),
            (' ', "0020"),
            ('\n', "000A"),
            ('\u{7f}', "007F"),
            ('\u{85}', "0085"),
            ('\u{a0}', "00A0"),
            ('\u{3000}', "3000"),
            ('\u{feff}', "FEFF"),
        ] {
            for url in [
                format!("https://x.example/a{c}b"),
                format!("https://x{c}.example/"),
                format!("https://x.example/?q={c}"),
                format!("{c}https://x.example/"),
            ] {
                let message = format!("must not contain the character U+{code}");
                assert_eq!(refusal(&url), Some(message), "{url:?}");
            }
        }
        for (url, user) in [
            ("https://me@x.example/", "me@x.example"),
            ("https://me:secret@x.example:1/a", "me:secret@x.example:1"),
        ] {
            assert_eq!(refusal(url), Some(format!("must not name a user, got `{user}`")));
        }
        let long = format!("https://x.example/{}", "a".repeat(500));
        assert_eq!(refusal(&long).unwrap(), "must have 1 to 500 characters, got 518");
    }

    #[test]
    fn the_document_has_the_limit() {
        let schema = serde_json::to_value(ImageUrl::schema()).unwrap();
        assert_eq!(schema["maxLength"], LENGTH_MAX);
    }
}
