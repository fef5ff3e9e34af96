//! A store that speaks as much of S3 as a dataset needs, on loopback, and answers as badly as it is told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// Names in one answer to a listing.
const PAGE: usize = 1000;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// This status, with a code in S3's way.
    Status(u16, &'static str),
    /// The connection is closed instead of an answer.
    Drop,
    /// The answer stops in its middle.
    Cut,
}

/// A fault for the next requests of a method whose target has a text in it.
#[derive(Debug)]
struct Rule {
    method: &'static str,
    part: &'static str,
    /// Requests that pass before.
    after: usize,
    times: usize,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    /// By their numbers: the key, and the parts by theirs.
    uploads: BTreeMap<u64, (String, BTreeMap<u32, Vec<u8>>)>,
    begun: u64,
    rules: Vec<Rule>,
    /// Method, target and authorization of each request.
    log: Vec<(String, String, String)>,
    /// The key that requests have to be signed with; anybody may ask when absent.
    access_key: Option<String>,
    virtual_hosted: bool,
}

/// The store; its buckets are whatever is asked for but `nobody`.
#[derive(Clone)]
pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    range: Option<String>,
    body: Vec<u8>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { endpoint, state: Arc::default() };
        let answering = server.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let server = answering.clone();
                std::thread::spawn(move || while server.answer(&connection).is_some() {});
            }
        });
        server
    }

    /// Only for who signs with this key.
    pub fn signed_by(self, access_key: &str) -> Self {
        self.state.lock().access_key = Some(access_key.to_owned());
        self
    }

    /// The bucket is in the host's name, not in the path.
    pub fn virtual_hosted(self) -> Self {
        self.state.lock().virtual_hosted = true;
        self
    }

    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.state.lock().objects.insert(key.to_owned(), bytes.into());
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().objects.get(key).cloned()
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// Uploads that were neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state.lock().uploads.len()
    }

    /// The next `times` requests fail.
    pub fn fail(&self, method: &'static str, part: &'static str, times: usize, fault: Fault) {
        self.fail_after(0, method, part, times, fault);
    }

    /// As [`fail`](Self::fail), after some have passed.
    pub fn fail_after(
        &self,
        after: usize,
        method: &'static str,
        part: &'static str,
        times: usize,
        fault: Fault,
    ) {
        self.state.lock().rules.push(Rule { method, part, after, times, fault });
    }

    /// How many requests there were of a method whose target has the text in it.
    pub fn asked(&self, method: &str, part: &str) -> usize {
        self.state.lock().log.iter().filter(|(m, target, _)| m == method && target.contains(part)).count()
    }

    /// The authorization of the last request.
    pub fn authorization(&self) -> String {
        self.state.lock().log.last().map(|(_, _, authorization)| authorization.clone()).unwrap()
    }

    fn answer(&self, connection: &TcpStream) -> Option<()> {
        let (request, target, authorization) = read(connection)?;
        let (fault, (status, headers, body)) = {
            let mut state = self.state.lock();
            state.log.push((request.method.clone(), target.clone(), authorization.clone()));
            let fault = state.fault(&request.method, &target);
            let answer = match fault {
                Some(Fault::Status(status, code)) => refusal(status, code),
                // What a broken connection asked for may be done all the same; here it is not.
                Some(Fault::Drop) => (0, String::new(), Vec::new()),
                _ if !state.may(&authorization) => refusal(403, "AccessDenied"),
                _ => state.handle(&request),
            };
            (fault, answer)
        };
        let mut connection = connection;
        if matches!(fault, Some(Fault::Drop)) {
            let _ = connection.shutdown(Shutdown::Both);
            return None;
        }
        let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        connection.write_all(head.as_bytes()).ok()?;
        if request.method != "HEAD" {
            let end = if matches!(fault, Some(Fault::Cut)) { body.len() / 2 } else { body.len() };
            connection.write_all(&body[..end]).ok()?;
            if end < body.len() {
                let _ = connection.shutdown(Shutdown::Both);
                return None;
            }
        }
        Some(())
    }
}

/// A request, its target as it was sent, and its authorization.
fn read(connection: &TcpStream) -> Option<(Request, String, String)> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut range, mut authorization) = (0, None, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "range" => range = Some(value.to_owned()),
            "authorization" => value.clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = query.map(|(name, value)| (plain(name), plain(value))).collect();
    let path = plain(path.trim_start_matches('/'));
    Some((Request { method, path, query, range, body }, target, authorization))
}

fn plain(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

type Answer = (u16, String, Vec<u8>);

fn refusal(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>because</Message></Error>");
    (status, String::new(), body.into_bytes())
}

fn said(body: String) -> Answer {
    (200, String::new(), body.into_bytes())
}

fn tag(bytes: &[u8]) -> String {
    format!(
        "\"{}-{}\"",
        bytes.len(),
        bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
    )
}

impl State {
    fn fault(&mut self, method: &str, target: &str) -> Option<Fault> {
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.times > 0 && rule.method == method && target.contains(rule.part))?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }

    fn may(&self, authorization: &str) -> bool {
        self.access_key.as_ref().is_none_or(|key| authorization.contains(&format!("Credential={key}/")))
    }

    fn handle(&mut self, request: &Request) -> Answer {
        let (bucket, key) = if self.virtual_hosted {
            ("", request.path.as_str())
        } else {
            request.path.split_once('/').unwrap_or((&request.path, ""))
        };
        if bucket == "nobody" {
            return refusal(404, "NoSuchBucket");
        }
        let query = |name: &str| request.query.get(name).map(String::as_str);
        let upload = query("uploadId").map(|id| id.parse::<u64>().unwrap());
        match (request.method.as_str(), key) {
            ("GET", "") => self.list(&request.query),
            ("GET" | "HEAD", key) => self.read(key, request.range.as_deref()),
            ("POST", "") => self.delete(&request.body),
            ("POST", key) if query("uploads").is_some() => {
                self.begun += 1;
                self.uploads.insert(self.begun, (key.to_owned(), BTreeMap::new()));
                said(format!(
                    "<InitiateMultipartUploadResult><UploadId>{}</UploadId></InitiateMultipartUploadResult>",
                    self.begun
                ))
            }
            ("POST", key) => match upload.and_then(|id| self.uploads.remove(&id)) {
                Some((of, parts)) if of == key => {
                    self.objects.insert(of, parts.into_values().flatten().collect());
                    said("<CompleteMultipartUploadResult><ETag>\"done\"</ETag></CompleteMultipartUploadResult>".to_owned())
                }
                _ => refusal(404, "NoSuchUpload"),
            },
            ("PUT", key) => {
                let etag = format!("ETag: {}\r\n", tag(&request.body));
                match (upload, query("partNumber")) {
                    (Some(id), Some(part)) => match self.uploads.get_mut(&id) {
                        Some((_, parts)) => {
                            parts.insert(part.parse().unwrap(), request.body.clone());
                        }
                        None => return refusal(404, "NoSuchUpload"),
                    },
                    _ => {
                        self.objects.insert(key.to_owned(), request.body.clone());
                    }
                }
                (200, etag, Vec::new())
            }
            ("DELETE", key) => {
                match upload {
                    Some(id) => drop(self.uploads.remove(&id)),
                    None => drop(self.objects.remove(key)),
                }
                (204, String::new(), Vec::new())
            }
            _ => refusal(405, "MethodNotAllowed"),
        }
    }

    fn read(&self, key: &str, range: Option<&str>) -> Answer {
        let Some(bytes) = self.objects.get(key) else { return refusal(404, "NoSuchKey") };
        let mut headers = format!("ETag: {}\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", tag(bytes));
        let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
            return (200, headers, bytes.clone());
        };
        let last = bytes.len().saturating_sub(1);
        let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), to) => (from, to.unwrap_or(last).min(last)),
            (Err(_), Ok(suffix)) => (bytes.len().saturating_sub(suffix), last),
            _ => return refusal(416, "InvalidRange"),
        };
        if from >= bytes.len() {
            return refusal(416, "InvalidRange");
        }
        let _ = write!(headers, "Content-Range: bytes {from}-{to}/{}\r\n", bytes.len());
        (206, headers, bytes[from..=to].to_vec())
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let of = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, after) = (of("prefix"), of("continuation-token").max(of("start-after")));
        let mut found =
            self.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        let mut body = "<ListBucketResult>".to_owned();
        let mut last = "";
        for (key, bytes) in found.by_ref().take(PAGE) {
            last = key;
            let _ = write!(
                body,
                "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag></Contents>",
                escaped(key),
                bytes.len()
            );
        }
        if found.next().is_some() {
            let _ = write!(body, "<NextContinuationToken>{}</NextContinuationToken>", escaped(last));
        }
        body.push_str("</ListBucketResult>");
        said(body)
    }

    /// Several at once, as `<Key>` elements.
    fn delete(&mut self, body: &[u8]) -> Answer {
        let body = String::from_utf8_lossy(body);
        let mut answer = "<DeleteResult>".to_owned();
        for key in
            body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")).map(|(key, _)| key)
        {
            self.objects.remove(key);
            let _ = write!(answer, "<Deleted><Key>{key}</Key></Deleted>");
        }
        answer.push_str("</DeleteResult>");
        said(answer)
    }
}
