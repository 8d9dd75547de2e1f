//! A hub on loopback: the paths, headers and redirects of huggingface.co, and its storage on another port.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit of what is served.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The one repository; its one-word name is redirected to it, as the real hub does.
pub(crate) const REPO: &str = "openai-community/gpt2";

/// What a request gets instead of the proper answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A status, with `X-Error-Code` if not empty.
    Status(u16, &'static str),
    /// The proper header, but the connection ends after so many bytes of the body.
    Break(usize),
    /// As `Break`, but the connection stays open and silent.
    Stall(usize),
    /// Other content, of its own length.
    Content(Vec<u8>),
    /// The whole file though a range was asked for.
    NoRange,
    /// A range that begins elsewhere.
    WrongRange,
    /// Away to this address.
    Redirect(String),
}

/// A request as it came, and what was sent.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whether it came to the storage rather than to the hub itself.
    pub(crate) storage: bool,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
    /// Bytes of the body that were sent.
    pub(crate) sent: u64,
}

/// Chooses a fault from the request and how many were made before for the same path on the same port.
type Script = dyn Fn(&Seen, usize) -> Option<Fault> + Send + Sync;

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    script: Box<Script>,
    /// Whether the list of files tells sizes and hashes.
    blobs: bool,
    storage: SocketAddr,
    seen: Mutex<Vec<Seen>>,
    over: AtomicBool,
}

pub(crate) struct Hub {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
    ports: [SocketAddr; 2],
}

impl Hub {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Hub {
        Hub::scripted(files, true, |_, _| None)
    }

    pub(crate) fn scripted(
        files: &[(&str, &[u8])],
        blobs: bool,
        script: impl Fn(&Seen, usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Hub {
        let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let ports = [listeners[0].local_addr().unwrap(), listeners[1].local_addr().unwrap()];
        let shared = Arc::new(Shared {
            files: files.iter().map(|(name, content)| (name.to_string(), content.to_vec())).collect(),
            script: Box::new(script),
            blobs,
            storage: ports[1],
            seen: Mutex::default(),
            over: AtomicBool::new(false),
        });
        for (listener, storage) in listeners.into_iter().zip([false, true]) {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if shared.over.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = shared.clone();
                    std::thread::spawn(move || stream.map(|stream| serve(&shared, stream, storage)));
                }
            });
        }
        Hub { endpoint: format!("http://{}", ports[0]), shared, ports }
    }

    /// The requests since the last call.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    /// Waits until a request has been answered (or stalled) that the test accepts.
    pub(crate) fn wait_for(&self, test: impl Fn(&Seen) -> bool) {
        let start = Instant::now();
        while !self.shared.seen.lock().unwrap().iter().any(&test) {
            assert!(start.elapsed() < Duration::from_secs(20), "the request did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for port in self.ports {
            let _ = TcpStream::connect(port); // wakes the listener
        }
    }
}

/// Large files are those the real hub keeps in its storage.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

pub(crate) fn sha256(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

pub(crate) fn git_sha1(content: &[u8]) -> String {
    let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hasher.update(content);
    format!("{:x}", hasher.finalize())
}

pub(crate) fn etag(name: &str, content: &[u8]) -> String {
    if is_large(name) { sha256(content) } else { git_sha1(content) }
}

/// Requests on one connection, until one side has enough.
fn serve(shared: &Shared, mut stream: TcpStream, storage: bool) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some((path, headers)) = read_head(&mut reader) {
        let header = |name: &str| headers.get(name).cloned();
        let mut seen = Seen { storage, path, range: header("range"), token: header("authorization"), sent: 0 };
        let before = shared.seen.lock().unwrap().iter().filter(|s| s.path == seen.path && s.storage == storage).count();
        let fault = (shared.script)(&seen, before);
        let answer = answer(shared, &seen, fault.as_ref());
        let keep = matches!(fault, None | Some(Fault::NoRange | Fault::WrongRange | Fault::Redirect(_)));
        let body = match fault {
            Some(Fault::Break(n) | Fault::Stall(n)) => &answer.body[..n.min(answer.body.len())],
            _ => &answer.body[..],
        };
        seen.sent = body.len() as u64;
        shared.seen.lock().unwrap().push(seen);
        let sent = stream
            .write_all(answer.head.as_bytes())
            .and_then(|()| stream.write_all(body))
            .and_then(|()| stream.flush());
        if let Some(Fault::Stall(_)) = fault {
            std::thread::sleep(Duration::from_secs(20));
        }
        if sent.is_err() || !keep {
            return;
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<(String, HashMap<String, String>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { return Some((path, headers)) };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

fn head(status: u16, headers: &[String], len: usize) -> String {
    let mut head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {len}\r\n");
    headers.iter().for_each(|header| head += &format!("{header}\r\n"));
    head + "\r\n"
}

fn answer(shared: &Shared, seen: &Seen, fault: Option<&Fault>) -> Answer {
    let plain = |status, headers: &[String], body: Vec<u8>| Answer { head: head(status, headers, body.len()), body };
    match fault {
        Some(Fault::Status(status, code)) => {
            let code: Vec<String> = (!code.is_empty()).then(|| format!("X-Error-Code: {code}")).into_iter().collect();
            return plain(*status, &code, b"{\"error\":\"as told\"}".to_vec());
        }
        Some(Fault::Content(other)) => return plain(200, &[], other.clone()),
        Some(Fault::Redirect(to)) => return plain(302, &[format!("Location: {to}")], Vec::new()),
        _ => {}
    }
    let path = seen.path.split('?').next().unwrap();
    if seen.storage {
        let content = shared.files.values().find(|content| path == format!("/xet/{}", sha256(content)));
        return content.map_or_else(|| plain(403, &[], Vec::new()), |content| file(content, seen, fault, Vec::new()));
    }
    if let Some(rest) = path.strip_prefix("/api/models/gpt2/") {
        let query = seen.path.split_once('?').map_or("", |(_, query)| query);
        return plain(307, &[format!("Location: /api/models/{REPO}/{rest}?{query}")], Vec::new());
    }
    if let Some(rest) = path.strip_prefix("/gpt2/") {
        return plain(307, &[format!("Location: /{REPO}/{rest}")], Vec::new());
    }
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{REPO}/revision/")) {
        return match revision {
            "main" | "refs%2Fpr%2F1" | COMMIT => plain(200, &[], info(shared)),
            _ => plain(404, &["X-Error-Code: RevisionNotFound".into()], Vec::new()),
        };
    }
    let name = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")).unwrap_or("");
    let Some(content) = shared.files.get(name) else {
        let code = if path.starts_with(&format!("/{REPO}/")) { "EntryNotFound" } else { "RepoNotFound" };
        return plain(404, &[format!("X-Error-Code: {code}")], Vec::new());
    };
    let mut headers = vec![format!("X-Repo-Commit: {COMMIT}"), "Accept-Ranges: bytes".into()];
    if is_large(name) {
        headers.push(format!("X-Linked-Etag: \"{}\"", sha256(content)));
        headers.push(format!("X-Linked-Size: {}", content.len()));
        headers.push(format!("Location: http://{}/xet/{}?signature=x", shared.storage, sha256(content)));
        return plain(302, &headers, Vec::new());
    }
    headers.push(format!("ETag: W/\"{}\"", git_sha1(content)));
    file(content, seen, fault, headers)
}

/// A file or the part of it that was asked for.
fn file(content: &[u8], seen: &Seen, fault: Option<&Fault>, mut headers: Vec<String>) -> Answer {
    headers.push("ETag: \"of-the-storage\"".into());
    let start: Option<usize> =
        seen.range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start.filter(|_| !matches!(fault, Some(Fault::NoRange))) {
        Some(start) if start >= content.len() => Answer { head: head(416, &headers, 0), body: Vec::new() },
        Some(mut start) => {
            if let Some(Fault::WrongRange) = fault {
                start = start.saturating_sub(1);
            }
            headers.push(format!("Content-Range: bytes {start}-{}/{}", content.len() - 1, content.len()));
            Answer { head: head(206, &headers, content.len() - start), body: content[start..].to_vec() }
        }
        None => Answer { head: head(200, &headers, content.len()), body: content.to_vec() },
    }
}

/// The repository as `/api/models/…` tells it.
fn info(shared: &Shared) -> Vec<u8> {
    let siblings: Vec<serde_json::Value> = shared
        .files
        .iter()
        .map(|(name, content)| match (shared.blobs, is_large(name)) {
            (false, _) => serde_json::json!({"rfilename": name}),
            (true, false) => {
                serde_json::json!({"rfilename": name, "blobId": git_sha1(content), "size": content.len()})
            }
            (true, true) => serde_json::json!({
                "rfilename": name, "blobId": git_sha1(b"pointer"), "size": content.len(),
                "lfs": {"sha256": sha256(content), "size": content.len(), "pointerSize": 134},
            }),
        })
        .collect();
    let info = serde_json::json!({
        "id": REPO, "modelId": REPO, "private": false, "gated": false, "sha": COMMIT, "siblings": siblings,
    });
    info.to_string().into_bytes()
}
