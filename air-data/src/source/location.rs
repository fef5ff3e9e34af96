//! What a user writes as a path → the place that it names.

use std::path::{Component, Path as LocalPath, PathBuf};

use datafusion::datasource::listing::ListingTableUrl;
use glob::Pattern;
use object_store::ObjectStoreScheme;
use url::Url;

/// What opens a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// What kind of place a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The file system.
    Local,
    /// A store of objects, which can be listed.
    Objects,
    /// A server of which each file is known by its URL.
    Web,
}

impl Kind {
    /// Or why this build cannot reach it.
    pub(crate) fn of(url: &Url) -> Result<Self, String> {
        let kind = match url.scheme() {
            "file" => return Ok(Self::Local),
            "s3" | "s3a" | "gs" | "az" | "adl" | "azure" | "abfs" | "abfss" => Self::Objects,
            "http" | "https" => match ObjectStoreScheme::parse(url) {
                Ok((ObjectStoreScheme::Http, _)) | Err(_) => Self::Web,
                Ok(_) => Self::Objects,
            },
            other => {
                return Err(format!(
                    "unknown scheme `{other}`; expected a path, file, s3, gs, az, abfs, http or https"
                ));
            }
        };
        if !cfg!(feature = "cloud") {
            return Err(format!("`{}` needs a build with the feature `cloud`", url.scheme()));
        }
        Ok(kind)
    }
}

/// The files that a path to read from names, or why it names none.
pub(super) fn parse(text: &str) -> Result<ListingTableUrl, String> {
    let Some((scheme, rest)) = url_parts(text) else { return local(LocalPath::new(text)) };
    if scheme.eq_ignore_ascii_case("file") {
        return local(&local_path(text)?);
    }
    if ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)) {
        return listing(web(text)?, None);
    }
    let Some(wild) = rest.find(WILD) else { return listing(objects(text)?, None) };
    let Some(slash) = rest[..wild].rfind('/') else {
        return Err("a pattern is for names in a bucket, not for buckets".to_owned());
    };
    let cut = scheme.len() + 3 + slash + 1;
    let pattern = Pattern::new(&text[cut..]).map_err(|e| e.to_string())?;
    listing(objects(&text[..cut])?, Some(pattern))
}

/// The place that a path to write to names, and what messages put before a path in its store.
pub(crate) fn destination(text: &str) -> Result<(Url, String), String> {
    let is_local = url_parts(text).is_none_or(|(scheme, _)| scheme.eq_ignore_ascii_case("file"));
    if is_local {
        let path = if url_parts(text).is_some() { local_path(text)? } else { PathBuf::from(text) };
        let url = Url::from_file_path(plain(&path)?).map_err(|()| "not an absolute path".to_owned())?;
        return Ok((url, "/".to_owned()));
    }
    let url = objects(text)?;
    if Kind::of(&url) == Ok(Kind::Web) {
        return Err("a web server takes no files; write to a path or an object store".to_owned());
    }
    let root = listing(url.clone(), None)?.object_store();
    Ok((url, root.as_str().to_owned()))
}

/// The scheme of a URL, and what follows `://`.
fn url_parts(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (is_scheme && !scheme.is_empty()).then_some((scheme, rest))
}

fn listing(url: Url, pattern: Option<Pattern>) -> Result<ListingTableUrl, String> {
    ListingTableUrl::try_new(url, pattern).map_err(|e| e.to_string())
}

fn local(path: &LocalPath) -> Result<ListingTableUrl, String> {
    if path.as_os_str().is_empty() {
        return Err("it is empty".to_owned());
    }
    let absolute = std::path::absolute(path).map_err(|e| e.to_string())?;
    let Some(text) = absolute.to_str() else { return Err("it is not UTF-8".to_owned()) };
    // A file whose name reads like a pattern is a file.
    if text.contains(WILD) && absolute.symlink_metadata().is_ok() {
        let absolute = plain(path)?;
        let url = if absolute.is_dir() {
            Url::from_directory_path(absolute)
        } else {
            Url::from_file_path(absolute)
        };
        return listing(url.map_err(|()| "not an absolute path".to_owned())?, None);
    }
    ListingTableUrl::parse(text).map_err(|e| e.to_string())
}

fn local_path(url: &str) -> Result<PathBuf, String> {
    // `?` and `#` belong to the name, and `*` and `[` may be a pattern.
    let url = url.replace('?', "%3F").replace('#', "%23");
    let url = Url::parse(&url).map_err(|e| e.to_string())?;
    url.to_file_path().map_err(|()| "write file:///absolute/path".to_owned())
}

/// An absolute path without `.` and `..`.
fn plain(path: &LocalPath) -> Result<PathBuf, String> {
    let absolute = std::path::absolute(path).map_err(|e| e.to_string())?;
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    Ok(plain)
}

/// A URL of an object, whose key may have any characters.
fn objects(text: &str) -> Result<Url, String> {
    let url = Url::parse(&text.replace('#', "%23").replace('?', "%3F")).map_err(|e| e.to_string())?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("no bucket; write {}://bucket/key", url.scheme()));
    }
    Ok(url)
}

/// The URL of a file of a web server.
fn web(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a `?` or `#` in a URL is not sent along; a file has to be found without".to_owned());
    }
    if text.contains(WILD) {
        return Err("a web server has no patterns; name each file".to_owned());
    }
    // Of these the store would be the host, and the bucket a part of the path.
    if let Ok((scheme, path)) = ObjectStoreScheme::parse(&url)
        && scheme != ObjectStoreScheme::Http
        && path.as_ref() != url.path().trim_matches('/')
    {
        let scheme =
            if scheme == ObjectStoreScheme::AmazonS3 { "s3://bucket/key" } else { "az://container/path" };
        return Err(format!("write it as {scheme}; the host goes into the settings of the store"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn told(text: &str) -> (String, String, Option<String>) {
        let url = parse(text).unwrap();
        let pattern = url.get_glob().as_ref().map(|pattern| pattern.as_str().to_owned());
        (url.object_store().as_str().to_owned(), url.prefix().as_ref().to_owned(), pattern)
    }

    #[test]
    fn objects_have_buckets_keys_and_patterns() {
        let of = |store: &str, key: &str, pattern: Option<&str>| {
            (store.to_owned(), key.to_owned(), pattern.map(str::to_owned))
        };
        assert_eq!(told("s3://b/logs/a.csv"), of("s3://b/", "logs/a.csv", None));
        assert_eq!(told("s3://b/logs/*.csv"), of("s3://b/", "logs", Some("*.csv")));
        assert_eq!(told("gs://b/x?/[ab].csv"), of("gs://b/", "", Some("x?/[ab].csv")));
        assert_eq!(told("az://b/a b#1/ü.csv"), of("az://b/", "a b#1/ü.csv", None));
        assert_eq!(
            told("abfss://c@acct.dfs.core.windows.net/d/"),
            of("abfss://c@acct.dfs.core.windows.net/", "d", None)
        );
        assert_eq!(told("https://example.com/a.csv"), of("https://example.com/", "a.csv", None));
        assert_eq!(told("https://b.s3.eu-west-1.amazonaws.com/k.csv").1, "k.csv");
        assert!(parse("s3://b/dir/").unwrap().is_collection());
    }

    #[test]
    fn what_cannot_be_reached_is_said_with_what_to_write_instead() {
        let refused = |text: &str, part: &str| {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(part), "{text}: {reason}");
        };
        refused("", "empty");
        refused("s3:///key", "s3://bucket/key");
        refused("s3://*/key", "not for buckets");
        refused("https://h/a.csv?signature=1", "`?`");
        refused("http://h/*.csv", "name each file");
        refused("https://s3.eu-west-1.amazonaws.com/b/k.csv", "s3://bucket/key");
        refused("https://acct.blob.core.windows.net/c/k.csv", "az://container/path");
        assert!(Kind::of(&Url::parse("hdfs://h/x").unwrap()).unwrap_err().contains("unknown scheme `hdfs`"));
        assert!(destination("http://h/out").unwrap_err().contains("takes no files"));
    }

    #[test]
    fn a_file_whose_name_reads_like_a_pattern_is_a_file() {
        let dir = std::env::temp_dir().join(format!("air-data-location-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("d[1]")).unwrap();
        std::fs::write(dir.join("a[1]?.csv"), "x").unwrap();
        let name = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let file = parse(&name("a[1]?.csv")).unwrap();
        assert!(file.get_glob().is_none() && file.prefix().as_ref().ends_with("a[1]?.csv"));
        assert!(parse(&name("d[1]")).unwrap().is_collection());
        assert!(parse(&name("b[1].csv")).unwrap().get_glob().is_some());
        let url = format!("file://{}", name("a[1]?.csv"));
        assert!(parse(&url).unwrap().prefix().as_ref().ends_with("a[1]?.csv"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
