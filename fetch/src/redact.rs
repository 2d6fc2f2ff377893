//! A URL as it may be shown: user information and query can hold credentials, so they are left out.

use reqwest::Url;

/// The URL without user name, password, query and fragment.
pub fn redacted(url: &str) -> String {
    let Some(mut parsed) = Url::parse(url).ok().filter(Url::has_host) else {
        // Whatever it is, what stands before an @ or after a ? could be secret.
        let text = url.split(['?', '#']).next().unwrap_or_default();
        return text.rsplit('@').next().unwrap_or_default().to_owned();
    };
    // Only refused where the URL cannot have them.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    let had_query = parsed.query().is_some();
    parsed.set_query(None);
    parsed.set_fragment(None);
    format!("{parsed}{}", if had_query { "?..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_secret_is_left_out() {
        assert_eq!(redacted("https://me:pw@host:8443/a/b.raw?sig=s3cret#x"), "https://host:8443/a/b.raw?...");
        assert_eq!(redacted("http://host/a"), "http://host/a");
        for text in ["http//me:pw@host/x", "me:pw@host?token=pw"] {
            assert!(!redacted(text).contains("pw"), "{}", redacted(text));
        }
    }
}
