//! Requests to the hub: addresses, redirects, the token, and what answers mean.

use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use super::hash::Identity;
use super::id::{Id, is_commit};
use super::plan::Info;
use super::settings::Settings;
use crate::Error;

/// More than a list of files takes.
const LARGEST_INFO: u64 = 64 << 20;
/// As many as browsers follow, roughly.
const REDIRECTS: usize = 10;

/// Why a request gave nothing.
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// One sentence with what to do.
    pub(super) sentence: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No connection came about.
    Unreachable,
    /// The connection broke or the hub failed; trying again may help.
    Passing,
    /// The bytes asked for are not there: what is here already is longer than the file.
    Range,
    /// Trying again will not help.
    Final,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Unsupported(failure.sentence)
    }
}

/// A good answer.
pub(super) struct Answer {
    /// 200 or 206, or a redirect that was not followed.
    pub(super) status: u16,
    /// The last ETag that the hub itself gave, and the size it gave with it.
    etag: Option<String>,
    size: Option<u64>,
    response: Response<Body>,
}

impl Answer {
    /// The value of a header of the final response.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(self.response.headers(), name)
    }

    pub(super) fn into_body(self) -> Body {
        self.response.into_body()
    }
}

/// Speaks to one hub about one model.
pub(super) struct Client<'a> {
    agent: Agent,
    settings: &'a Settings,
    id: &'a Id,
}

impl<'a> Client<'a> {
    pub(super) fn new(settings: &'a Settings, id: &'a Id) -> Client<'a> {
        // Redirects are followed by `get`, because the hash stands in the header of the one that leads away from the hub.
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .https_only(settings.endpoint.starts_with("https://"))
            .user_agent(concat!("penwright/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity") // ranges and hashes are of the content as it is
            .timeout_resolve(Some(Duration::from_secs(10)))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience));
        if is_loopback(&settings.endpoint) {
            config = config.proxy(None);
        }
        Client { agent: config.build().new_agent(), settings, id }
    }

    pub(super) fn settings(&self) -> &Settings {
        self.settings
    }

    pub(super) fn id(&self) -> &Id {
        self.id
    }

    /// The commit of the revision and its files, in one request.
    pub(super) fn info(&self) -> Result<Info, Failure> {
        let revision = self.id.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.settings.endpoint, self.id.repo);
        let answer = self.get(&url, 0, true)?;
        let raw = answer.into_body().into_with_config().limit(LARGEST_INFO).read_to_vec();
        let raw = raw.map_err(|e| self.broken(&url, e))?;
        let info: Option<Info> = serde_json::from_slice(&raw).ok();
        info.filter(|info| is_commit(&info.sha)).ok_or_else(|| Failure {
            kind: Kind::Final,
            sentence: format!(
                "{} did not answer as the Hugging Face hub does when asked about {}; check HF_ENDPOINT, or sign in if \
                 this network asks for it",
                self.settings.endpoint, self.id
            ),
        })
    }

    /// The address of a file at a commit.
    pub(super) fn file_url(&self, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{name}", self.settings.endpoint, self.id.repo)
    }

    /// Hash and size of a file from the header of the hub's answer, without the file.
    pub(super) fn identify(&self, url: &str) -> Result<Identity, Failure> {
        let answer = self.get(url, 0, false)?;
        let identity = answer.etag.as_deref().zip(answer.size).and_then(|(etag, size)| Identity::new(etag, size));
        identity.ok_or_else(|| Failure {
            kind: Kind::Final,
            sentence: format!(
                "{url} comes without a hash or without its size and so cannot be verified; check HF_ENDPOINT"
            ),
        })
    }

    /// Asks for an address, from a byte on. Redirects to other hosts are followed if `away`.
    pub(super) fn get(&self, url: &str, from: u64, away: bool) -> Result<Answer, Failure> {
        let (mut url, mut etag, mut size) = (url.to_owned(), None, None);
        for _ in 0..=REDIRECTS {
            let at_home = origin(&url) == origin(&self.settings.endpoint);
            let mut request = self.agent.get(&url);
            if let Some(token) = self.settings.token.as_ref().filter(|_| at_home) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| self.unreachable(&url, e))?;
            let (status, headers) = (response.status(), response.headers());
            let next = status.is_redirection().then(|| header(headers, "location")).flatten();
            let next = next.and_then(|location| join(&url, location));
            if at_home && let Some(tag) = header(headers, "x-linked-etag").or_else(|| header(headers, "etag")) {
                let length = if status == StatusCode::OK { "content-length" } else { "x-linked-size" };
                let told = header(headers, "x-linked-size").or_else(|| header(headers, length));
                (etag, size) = (Some(tag.to_owned()), told.and_then(|text| text.trim().parse().ok()));
            }
            match next {
                Some(next) if away || origin(&next) == origin(&self.settings.endpoint) => url = next,
                next if next.is_some() || matches!(status.as_u16(), 200 | 206) => {
                    return Ok(Answer { status: status.as_u16(), etag, size, response });
                }
                _ => return Err(self.refused(&url, status, headers)),
            }
        }
        Err(Failure { kind: Kind::Final, sentence: format!("{url} is redirected without end; check HF_ENDPOINT") })
    }

    /// What a status that is not success means.
    fn refused(&self, url: &str, status: StatusCode, headers: &HeaderMap) -> Failure {
        let (id, endpoint) = (self.id, self.settings.endpoint.as_str());
        let at_home = origin(url) == origin(endpoint);
        let token = match self.settings.token {
            Some(_) => "the token in HF_TOKEN or the token file must be valid and allowed to read it",
            None => "set HF_TOKEN to an access token of an account that may read it",
        };
        let sentence = match (status.as_u16(), header(headers, "x-error-code").unwrap_or_default()) {
            (_, "GatedRepo") => {
                format!("{id} is gated: accept its conditions at {endpoint}/{}, then {token}", self.id.repo)
            }
            (404, "RevisionNotFound") => {
                format!(
                    "{} has no branch, tag or commit {}; check what stands after the @",
                    self.id.repo, self.id.revision
                )
            }
            (404, "EntryNotFound") => format!("{endpoint} does not have {url}, which {id} should; try again later"),
            // Without a token the hub answers the same whether a model is private or does not exist.
            (401, _) => format!("{endpoint} does not show {id}: check the name; if it is private or gated, {token}"),
            (403, _) if at_home => format!("{endpoint} forbids access to {id}, which is gated or private; {token}"),
            (404, _) if at_home => {
                format!("there is no model {id} at {endpoint}; check the name, or {token} if it is private")
            }
            (416, _) => return Failure { kind: Kind::Range, sentence: format!("{url} is shorter than it should be") },
            (408 | 429 | 500..=599, _) => {
                let wait = if status.as_u16() == 429 { "wait some minutes and try again" } else { "try again later" };
                return Failure {
                    kind: Kind::Passing,
                    sentence: format!("{} answered {status} when asked for {id}; {wait}", origin(url)),
                };
            }
            _ => format!("{} answered {status} when asked for {id}; try again later or check HF_ENDPOINT", origin(url)),
        };
        Failure { kind: Kind::Final, sentence }
    }

    /// A request that got no answer.
    fn unreachable(&self, url: &str, error: ureq::Error) -> Failure {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match &error {
            ureq::Error::Io(e)
                if matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) =>
            {
                self.broken(url, error)
            }
            ureq::Error::Timeout(ureq::Timeout::RecvResponse | ureq::Timeout::PerRead) | ureq::Error::Protocol(_) => {
                self.broken(url, error)
            }
            _ => Failure {
                kind: Kind::Unreachable,
                sentence: format!(
                    "cannot reach {} to fetch {} ({error}); check the network, or do without it: HF_HUB_OFFLINE=1 uses \
                     what was fetched before, and the folder of a model can be given instead of its name",
                    origin(url),
                    self.id
                ),
            },
        }
    }

    /// An answer that broke off.
    pub(super) fn broken(&self, url: &str, error: impl std::fmt::Display) -> Failure {
        Failure {
            kind: Kind::Passing,
            sentence: format!(
                "the connection to {} broke off while fetching {} ({error}); try again: what has arrived is kept",
                origin(url),
                self.id
            ),
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Scheme, host and port of an address.
pub(super) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// Where a redirect leads; `None` if not to a web address.
fn join(base: &str, location: &str) -> Option<String> {
    let scheme = base.split("://").next().unwrap_or("https");
    if location.starts_with("http://") || location.starts_with("https://") {
        Some(location.to_owned())
    } else if location.starts_with("//") {
        Some(format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        Some(format!("{}{location}", origin(base)))
    } else if location.is_empty() || location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
        None
    } else {
        let path = base.split(['?', '#']).next().unwrap_or(base);
        let folder = path.rfind('/').filter(|at| *at >= origin(base).len()).map_or(path, |at| &path[..at]);
        Some(format!("{folder}/{location}"))
    }
}

/// Whether an address is on this machine; a proxy could not reach it.
fn is_loopback(url: &str) -> bool {
    let host = origin(url).split("://").last().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (base, location, joined) in [
            ("https://h:1/a/b?q", "https://c/x", Some("https://c/x")),
            ("https://h:1/a/b?q", "//c/x", Some("https://c/x")),
            ("https://h:1/a/b?q", "/x?y", Some("https://h:1/x?y")),
            ("https://h:1/a/b?q/r", "x", Some("https://h:1/a/x")),
            ("https://h", "x", Some("https://h/x")),
            ("https://h/a", "ftp://c/x", None),
            ("https://h/a", "file:x", None),
            ("https://h/a", "", None),
        ] {
            assert_eq!(join(base, location).as_deref(), joined, "{base} {location}");
        }
        assert_ne!(origin("https://h@evil/x"), origin("https://h/x"));
        assert_eq!(origin("http://127.0.0.1:80?x"), "http://127.0.0.1:80");
        assert!(
            is_loopback("http://127.0.0.1:8000") && is_loopback("http://[::1]:1") && is_loopback("http://localhost")
        );
        assert!(!is_loopback("https://huggingface.co") && !is_loopback("http://127.0.0.1.evil.org"));
    }
}
