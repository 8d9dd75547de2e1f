//! Where the hub is and where its files are kept here, as Hugging Face's own library reads it from the environment.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Result};

const HUB: &str = "https://huggingface.co";

/// How models are fetched. [`Settings::from_env`] reads the environment, once; nothing else in this crate does.
#[derive(Clone)]
pub struct Settings {
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The cache folder (`…/huggingface/hub`).
    pub cache: PathBuf,
    /// The access token; it is sent to the endpoint and to no other host.
    pub token: Option<String>,
    /// Whether no request may be made.
    pub offline: bool,
    /// How often in a row a request is tried again after the hub failed or the connection broke.
    pub retries: u32,
    /// The pause before the first such try; it doubles each time, up to sixteen times this.
    pub pause: Duration,
    /// How long a connection may stay silent before it counts as broken.
    pub patience: Duration,
}

impl Settings {
    /// The defaults for an address and a cache folder: no token, online, five tries.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Settings {
        Settings {
            endpoint: endpoint.into(),
            cache: cache.into(),
            token: None,
            offline: false,
            retries: 5,
            pause: Duration::from_millis(500),
            patience: Duration::from_secs(30),
        }
    }

    /// Reads the variables of Hugging Face's library:
    ///
    /// | variable | what | default |
    /// | --- | --- | --- |
    /// | `HF_ENDPOINT` | the hub's address | `https://huggingface.co` |
    /// | `HF_HOME` | the folder of cache and token | `$XDG_CACHE_HOME/huggingface`, `~/.cache/huggingface` |
    /// | `HF_HUB_CACHE` | the cache | `$HF_HOME/hub` |
    /// | `HF_TOKEN` | the access token | the content of the token file |
    /// | `HF_TOKEN_PATH` | the token file | `$HF_HOME/token` |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | make no request: `1`, `on`, `yes` or `true` | off |
    ///
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured too, except for a hub on this machine.
    ///
    /// # Errors
    /// When the address is not an http address, the token has characters that no token has, or there is neither
    /// `HF_HOME` nor a home folder.
    pub fn from_env() -> Result<Settings> {
        Settings::read(&|name| env::var_os(name).map(PathBuf::from).filter(|v| !v.as_os_str().is_empty()))
    }

    /// [`Self::from_env`] over any source of variables; empty ones count as unset.
    fn read(var: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Settings> {
        let text = |name: &str| var(name).map(|v| v.to_string_lossy().trim().to_owned());
        let folder = |name: &str| var(name).map(tilde);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.into()).trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::Unsupported(format!(
                "HF_ENDPOINT is {endpoint:?}, which is no http address; unset it or give one like {HUB}"
            )));
        }
        let home = folder("HF_HOME")
            .or_else(|| folder("XDG_CACHE_HOME").map(|dir| dir.join("huggingface")))
            .or_else(|| env::home_dir().map(|dir| dir.join(".cache").join("huggingface")));
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| home.as_deref().map(|dir| dir.join("hub")))
            .ok_or_else(|| {
                Error::Unsupported("there is no home folder for the Hugging Face cache; set HF_HOME to a folder".into())
            })?;
        let file = folder("HF_TOKEN_PATH").or_else(|| home.as_deref().map(|dir| dir.join("token")));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let mut settings = Settings::new(endpoint, cache);
        settings.token = check_token(token.or_else(|| file.and_then(|file| read_token(&file))))?;
        settings.offline =
            ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().find_map(|name| text(name)).is_some_and(is_true);
        Ok(settings)
    }
}

fn is_true(text: String) -> bool {
    ["1", "on", "yes", "true"].contains(&text.to_lowercase().as_str())
}

/// A token file that cannot be read counts as none, as in Hugging Face's library; a public model needs none.
fn read_token(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn check_token(token: Option<String>) -> Result<Option<String>> {
    match token {
        Some(token) if !token.bytes().all(|b| b.is_ascii_graphic()) => Err(Error::Unsupported(
            "the access token in HF_TOKEN or in the token file has characters that no token has; copy it again".into(),
        )),
        token => Ok(token.filter(|token| !token.is_empty())),
    }
}

/// `~/x` in a variable that no shell has expanded.
fn tilde(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(&|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v)))
    }

    #[test]
    fn the_environment_as_hugging_face_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("token"), " from_file\n").unwrap();
        let s = read(&[("HF_HOME", home)]).unwrap();
        assert_eq!((s.endpoint.as_str(), s.cache, s.offline), (HUB, dir.path().join("hub"), false));
        assert_eq!(s.token.as_deref(), Some("from_file"));

        let s = read(&[
            ("HF_HOME", home),
            ("HF_HUB_CACHE", "/c"),
            ("HF_TOKEN", "own\n"),
            ("HF_ENDPOINT", "http://x:1/"),
            ("HF_HUB_OFFLINE", "True"),
        ]);
        let s = s.unwrap();
        assert_eq!((s.endpoint.as_str(), s.cache, s.offline), ("http://x:1", PathBuf::from("/c"), true));
        assert_eq!(s.token.as_deref(), Some("own"));

        let s = read(&[("XDG_CACHE_HOME", "/x"), ("HF_HUB_OFFLINE", "0"), ("HF_TOKEN_PATH", "/none")]).unwrap();
        assert_eq!((s.cache, s.offline, s.token), (PathBuf::from("/x/huggingface/hub"), false, None));

        assert!(read(&[("HF_HOME", home), ("HF_ENDPOINT", "huggingface.co")]).is_err());
        assert!(read(&[("HF_HOME", home), ("HF_TOKEN", "a\r\nHost: b")]).is_err());
    }
}
