//! [`Refusal`]: what a store or a disk said, and what to do about it.

use std::error::Error;
use std::io::ErrorKind;

use air_core::BoxError;

use crate::stats::Bytes;

/// As much of a store's own words is repeated.
const WORDS: usize = 200;

/// As much of an error of a store is kept: a server may answer with pages.
const KEPT: usize = 4096;

/// As many causes are looked through.
const DEPTH: usize = 16;

/// An error of a store or a disk, in short, with advice. The whole of it is its source.
#[derive(Debug, thiserror::Error)]
#[error("{said}{}{}", if advice.is_empty() { "" } else { "; " }, advice)]
pub(crate) struct Refusal {
    /// The status of the answer, where there was one.
    pub(crate) status: Option<u16>,
    said: String,
    advice: &'static str,
    source: Option<BoxError>,
}

/// The error with what to do about it, where it came from the store or the disk that `path` is on; others stay as they are.
pub(crate) fn explain(path: &str, error: BoxError) -> BoxError {
    match refusal(path, error) {
        Ok(refusal) => refusal.into(),
        Err(error) => error,
    }
}

/// As [`explain`], where so much of the file was written before; of a full disk that is worth knowing.
pub(crate) fn explain_after(path: &str, bytes: u64, error: BoxError) -> BoxError {
    let is_full = full(error.as_ref()).is_some();
    match refusal(path, error) {
        Ok(refusal) if is_full => {
            Refusal { said: format!("{} with {} of the file written", refusal.said, Bytes(bytes)), ..refusal }
                .into()
        }
        Ok(refusal) => refusal.into(),
        Err(error) => error,
    }
}

/// The status of a store's answer, where the error is one.
pub(crate) fn status(error: &BoxError) -> Option<u16> {
    error.downcast_ref::<Refusal>().and_then(|refusal| refusal.status)
}

fn refusal(path: &str, error: BoxError) -> Result<Refusal, BoxError> {
    let scheme = path.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        None | Some("file") => match full(error.as_ref()) {
            Some(said) => Ok(Refusal {
                status: None,
                said,
                advice: "free space there, or write elsewhere",
                source: Some(error),
            }),
            None => Err(error),
        },
        Some(scheme) => {
            if error.is::<Refusal>() {
                return Err(error);
            }
            let Some(text) = causes(error.as_ref()).find_map(of_store) else { return Err(error) };
            let (status, code, said) = short(&text, error.as_ref());
            let advice = advice(scheme, status, code.as_deref(), &text);
            let source = (text.len() <= KEPT).then_some(error);
            Ok(Refusal { status, said, advice, source })
        }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source()).take(DEPTH)
}

/// The text of an error of a store.
fn of_store(error: &(dyn Error + 'static)) -> Option<String> {
    let direct = error.downcast_ref::<object_store::Error>();
    direct
        .or_else(|| error.downcast_ref::<Box<object_store::Error>>().map(AsRef::as_ref))
        .map(ToString::to_string)
}

/// What the system says of a disk that takes no more.
fn full(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(|error| {
        let error = error.downcast_ref::<std::io::Error>()?;
        // Some carry the system's own error inside.
        if let Some(inner) = error.get_ref().filter(|_| error.raw_os_error().is_none()) {
            return full(inner);
        }
        let full = matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        );
        full.then(|| error.to_string())
    })
}

/// The status, the store's code for it, and both with the store's words, out of what `object_store` makes of an answer.
fn short(text: &str, error: &(dyn Error + 'static)) -> (Option<u16>, Option<String>, String) {
    let tries = text.split_once("after ").and_then(|(_, rest)| rest.split_once(" retries"));
    let tries = tries.and_then(|(tries, _)| tries.parse::<u32>().ok());
    let tries = tries.map_or_else(String::new, |tries| format!(" after {tries} retries"));
    let Some((_, answer)) = text.split_once("status code: ") else {
        let deepest = causes(error).last().map(ToString::to_string).unwrap_or_default();
        let said = if deepest.is_empty() { text } else { &deepest };
        return (None, None, format!("{}{tries}", first_line(said)));
    };
    let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
    let status = first_line(status);
    let number = status.split(' ').next().and_then(|number| number.parse().ok());
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| first_line(text))
    };
    let code = element("Code");
    let words = match (&code, element("Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!(" ({code}: {message})"),
        (Some(code), _) => format!(" ({code})"),
        (None, _) => match first_line(body) {
            words if words.is_empty() => String::new(),
            words => format!(" ({words})"),
        },
    };
    (number, code, format!("{status}{words}{tries}"))
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().take(WORDS).collect()
}

fn advice(scheme: &str, status: Option<u16>, code: Option<&str>, text: &str) -> &'static str {
    if text.contains("169.254.169.254")
        || text.contains("metadata.google.internal")
        || text.contains("/latest/api/token")
    {
        return credentials(scheme);
    }
    if text.contains("redirect without LOCATION") {
        return "the bucket is in another region; set AWS_REGION, or aws_region in storage.options";
    }
    match (status, code) {
        (_, Some("NoSuchBucket")) => "check the bucket's name, and the endpoint",
        (
            _,
            Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException"),
        ) => "set AWS_REGION, or aws_region in storage.options, to the bucket's region",
        (_, Some("RequestTimeTooSkewed")) => "set this machine's clock",
        (Some(401 | 403), _) => credentials(scheme),
        (Some(404), _) => "check the name of the bucket and the key",
        (Some(405 | 501), _) if scheme.starts_with("http") => {
            "a web server is not listed or written to; name each file"
        }
        (Some(429 | 503), _) => {
            "the store takes fewer requests than were sent; try again later, or raise storage.max_retries"
        }
        (Some(500..=599), _) => "the store failed; try again later, or raise storage.max_retries",
        (Some(_), _) => "",
        (None, _) if text.contains("URL scheme is not allowed") => {
            "without TLS only with aws_allow_http=true"
        }
        (None, _) => "check the network, and the endpoint in the settings of the store",
    }
}

fn credentials(scheme: &str) -> &'static str {
    match scheme {
        "s3" | "s3a" => {
            "give credentials that may do this in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in storage.options; for a public bucket set \
             aws_skip_signature=true"
        }
        "gs" => {
            "give credentials that may do this in GOOGLE_SERVICE_ACCOUNT; for a public bucket set google_skip_signature=true"
        }
        "http" | "https" => "the server asks for credentials, which a URL cannot carry",
        _ => {
            "give credentials that may do this in AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; for a public container set \
             azure_skip_signature=true"
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn told(path: &str, text: &str) -> (Option<u16>, String) {
        let source = text.to_owned().into();
        let error = explain(path, object_store::Error::Generic { store: "S3", source }.into());
        (status(&error), error.to_string())
    }

    #[test]
    fn an_answer_is_told_in_a_line_with_what_to_do() {
        let answer = "Error performing GET http://h/b/k in 2s, after 3 retries, max_retries: 3, retry_timeout: 1s  - Server returned non-2xx status code: \
            503 Service Unavailable: <?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        let (status, said) = told("s3://b/k", answer);
        assert_eq!(status, Some(503));
        assert_eq!(
            said,
            "503 Service Unavailable (SlowDown: Please reduce your request rate.) after 3 retries; the store takes fewer requests than were sent; \
             try again later, or raise storage.max_retries"
        );
        let (status, said) = told("gs://b/k", "status code: 403 Forbidden: ");
        assert_eq!(status, Some(403));
        assert!(
            said.starts_with("403 Forbidden; give credentials") && said.contains("google_skip_signature"),
            "{said}"
        );
        let (status, said) =
            told("s3://b/k", "status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>");
        assert_eq!(
            (status, said.as_str()),
            (Some(404), "404 Not Found (NoSuchBucket); check the bucket's name, and the endpoint")
        );
    }

    #[test]
    fn a_long_answer_is_cut() {
        let page = "x".repeat(1 << 20);
        let error = explain(
            "http://h/k",
            object_store::Error::Generic {
                store: "HTTP",
                source: format!("status code: 500 Oops: {page}").into(),
            }
            .into(),
        );
        assert!(error.to_string().len() < 400 && error.source().is_none());
    }

    #[test]
    fn what_is_not_the_store_s_stays_as_it_is() {
        let error = explain("s3://b/k", "a bad footer".into());
        assert_eq!((error.to_string(), status(&error)), ("a bad footer".to_owned(), None));
        let local = object_store::Error::Generic { store: "local", source: "x".into() };
        assert!(!explain("/tmp/x", local.into()).is::<Refusal>());
        let disk = std::io::Error::from(ErrorKind::StorageFull);
        let disk = object_store::Error::Generic { store: "local", source: Box::new(disk) };
        let said = explain("/tmp/x", disk.into()).to_string();
        assert!(said.ends_with("; free space there, or write elsewhere"), "{said}");
    }
}
