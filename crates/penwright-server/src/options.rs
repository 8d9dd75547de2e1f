//! How a server is to be.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use penwright::model::DecodePrecision;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{Error, Result};

/// How a server is to be. The default listens on the loopback alone.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Texts that each model writes side by side; without, as many as the memory suggests.
    pub streams: Option<usize>,
    /// Prompts that may wait for each model.
    pub queue: usize,
    /// Threads that compute; 0 for all cores.
    pub threads: usize,
    /// Bytes of a request's body at most.
    pub max_body: usize,
    /// Tokens of a prompt at most.
    pub max_prompt: usize,
    /// Tokens of a text at most.
    pub max_tokens: usize,
    /// How long a request may take, waiting included.
    pub request_timeout: Duration,
    /// How long a client may take to send a request, or to read a part of an answer.
    pub client_timeout: Duration,
    /// How long running requests may take to end once the server is to stop.
    pub stop_timeout: Duration,
    /// Who may ask.
    pub keys: Keys,
    /// The folder in which runs are trained when the page asks for it; without, none are.
    pub training: Option<PathBuf>,
    /// How the weights of what is trained are stored to be written with.
    pub precision: DecodePrecision,
    /// Origins whose pages may ask, such as `https://example.org`; `*` for all.
    pub cors_origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            addr: SocketAddr::from(([127, 0, 0, 1], 8080)),
            streams: None,
            queue: 256,
            threads: 0,
            max_body: 4 << 20,
            max_prompt: 16 << 10,
            max_tokens: 4096,
            request_timeout: Duration::from_secs(600),
            client_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
            keys: Keys::default(),
            training: None,
            precision: DecodePrecision::default(),
            cors_origins: Vec::new(),
        }
    }
}

impl Options {
    /// # Errors
    /// When a value cannot work.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("streams", self.streams.unwrap_or(1)),
            ("queue", self.queue),
            ("max-body", self.max_body),
            ("max-prompt", self.max_prompt),
            ("max-tokens", self.max_tokens),
        ];
        let times = [("request-timeout", self.request_timeout), ("client-timeout", self.client_timeout)];
        let zero = counts.iter().filter(|(_, n)| *n == 0).map(|(name, _)| *name);
        let at_once = times.iter().filter(|(_, time)| time.is_zero()).map(|(name, _)| *name);
        if let Some(name) = zero.chain(at_once).next() {
            return Err(Error::Setting { name, problem: "must be more than 0".into() });
        }
        for origin in self.cors_origins.iter().filter(|origin| *origin != "*") {
            let (scheme, host) = origin.split_once("://").unwrap_or_default();
            if !["http", "https"].contains(&scheme) || host.is_empty() || host.contains(['/', ' ']) {
                let problem = format!("{origin:?} is no origin; give it like https://example.org, without a path");
                return Err(Error::Setting { name: "cors-origin", problem });
            }
        }
        Ok(())
    }

    /// Whether other machines can reach it without a key.
    pub fn is_open(&self) -> bool {
        !self.addr.ip().is_loopback() && self.keys.is_empty()
    }
}

/// The keys that open the API, as hashes; without any it is open.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Keys as they stand in a file: one a line; empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// When there is no key, or one has white space in it.
    pub fn parse(text: &str) -> Result<Self> {
        let keys: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        let problem = match () {
            () if keys.is_empty() => "holds no key; write one a line",
            () if keys.iter().any(|key| !key.chars().all(|c| c.is_ascii_graphic())) => {
                "holds a key with spaces or letters beyond ASCII; a header cannot carry it"
            }
            () => return Ok(Keys(keys.into_iter().map(hash).collect())),
        };
        Err(Error::Setting { name: "api-key-file", problem: problem.into() })
    }

    /// Reads them from a file.
    ///
    /// # Errors
    /// As [`Keys::parse`], and when it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(penwright::Error::io("read", path))?;
        Self::parse(&text)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the key; takes as long for any that is none.
    pub(crate) fn find(&self, key: &str) -> Option<u64> {
        let key = hash(key);
        let (mut found, mut number) = (Choice::from(0), 0u64);
        for (i, known) in (0..).zip(&self.0) {
            let same = known.ct_eq(&key);
            number |= i * u64::from(same.unwrap_u8() & !found.unwrap_u8());
            found |= same;
        }
        bool::from(found).then_some(number)
    }
}

/// Hashes are of one length, so that comparing tells nothing of a key's.
fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines_and_only_they_open() {
        let keys = Keys::parse("# mine\nsecret-1\n\n  secret-2  \n").unwrap();
        assert_eq!((keys.find("secret-1"), keys.find("secret-2")), (Some(0), Some(1)));
        for wrong in ["", "secret", "secret-11", "# mine", "SECRET-1"] {
            assert_eq!(keys.find(wrong), None, "{wrong}");
        }
        assert!(Keys::parse("# none\n").is_err() && Keys::parse("two words").is_err());
        assert!(Keys::default().is_empty() && Keys::default().find("x").is_none());
    }

    #[test]
    fn impossible_options_name_their_flag() {
        let refused = |options: Options, flag: &str| {
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
        };
        let base = Options::default;
        refused(Options { queue: 0, ..base() }, "queue");
        refused(Options { streams: Some(0), ..base() }, "streams");
        refused(Options { request_timeout: Duration::ZERO, ..base() }, "request-timeout");
        for origin in ["example.org", "https://a/b", "ftp://a", ""] {
            refused(Options { cors_origins: vec![origin.into()], ..base() }, "cors-origin");
        }
        Options { cors_origins: vec!["*".into(), "http://localhost:3000".into()], ..base() }.check().unwrap();
        assert!(!base().is_open());
        assert!(Options { addr: SocketAddr::from(([0, 0, 0, 0], 1)), ..base() }.is_open());
    }
}
