//! Fetching from a hub on loopback: layout of the cache, resuming, verification, refusals. No request leaves this machine.

#[path = "hub/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use penwright::Result;
use penwright::hub::{self, Progress, Settings};
use proptest::prelude::*;
use server::{COMMIT, Fault, Hub, REPO, Seen, etag};

/// More than fits into one read of any buffer, and different in every place.
fn weights(seed: u32) -> Vec<u8> {
    (0..400_000u32).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn settings(hub: &Hub, cache: &Path) -> Settings {
    let mut settings = Settings::new(&hub.endpoint, cache);
    settings.pause = Duration::from_millis(1);
    settings
}

fn fetch(hub: &Hub, cache: &Path) -> Result<PathBuf> {
    hub::fetch_with(&settings(hub, cache), REPO, &mut |_| {})
}

fn refusal(hub: &Hub, cache: &Path) -> String {
    fetch(hub, cache).unwrap_err().to_string()
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

const SMALL: [(&str, &[u8]); 3] =
    [("config.json", b"{\"model_type\":\"gpt2\"}"), ("tokenizer.json", b"{}"), ("generation_config.json", b"{ }")];

/// A model with its weights in one file, and things beside it that are not needed.
fn model(weights: &[u8]) -> Vec<(&str, &[u8])> {
    let mut files = SMALL.to_vec();
    files.extend([("vocab.json", &b"{}"[..]), ("README.md", b"# x"), ("onnx/model.onnx", b"o")]);
    files.extend([("pytorch_model.bin", &b"pickle"[..]), ("model.safetensors", weights)]);
    files
}

/// Everything below the cache folder, sorted, without the locks.
fn tree(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true => walk(&path, root, out),
                false => out.push(path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/")),
            }
        }
    }
    let mut out = Vec::new();
    walk(dir, dir, &mut out);
    out.retain(|path| !path.starts_with(".locks/"));
    out.sort();
    out
}

fn to_storage(seen: &Seen) -> bool {
    seen.storage
}

#[test]
fn a_model_lands_in_the_cache_as_hugging_face_lays_it_out() {
    let (weights, cache) = (weights(0), tempfile::tempdir().unwrap());
    let hub = Hub::new(&model(&weights));
    let mut reports: Vec<(String, u64, u64)> = Vec::new();
    let report = &mut |p: &Progress| reports.push((p.file.to_owned(), p.done, p.total));
    let dir = hub::fetch_with(&settings(&hub, cache.path()), REPO, report).unwrap();

    let root = "models--openai-community--gpt2";
    assert_eq!(dir, cache.path().join(root).join("snapshots").join(COMMIT));
    let needed: Vec<(&str, &[u8])> = SMALL.into_iter().chain([("model.safetensors", &weights[..])]).collect();
    let mut expected = vec![format!("{root}/refs/main")];
    for (name, content) in &needed {
        assert_eq!(fs::read(dir.join(name)).unwrap(), *content, "{name}");
        expected.push(format!("{root}/snapshots/{COMMIT}/{name}"));
        expected.push(format!("{root}/blobs/{}", etag(name, content)));
        #[cfg(unix)]
        assert_eq!(fs::read_link(dir.join(name)).unwrap(), Path::new("../../blobs").join(etag(name, content)));
    }
    expected.sort();
    assert_eq!(tree(cache.path()), expected);
    assert_eq!(fs::read_to_string(cache.path().join(root).join("refs/main")).unwrap(), COMMIT);

    let total: u64 = needed.iter().map(|(_, content)| content.len() as u64).sum();
    assert_eq!(reports.last(), Some(&("model.safetensors".to_owned(), total, total)));
    assert!(reports.is_sorted_by_key(|(_, done, _)| *done) && reports.iter().all(|(_, _, t)| *t == total));

    // Again: one question, no file. And without a question for a commit, or offline.
    hub.take_seen();
    assert_eq!(fetch(&hub, cache.path()).unwrap(), dir);
    let seen = hub.take_seen();
    assert!(seen.len() == 1 && seen[0].path.starts_with("/api/models/"), "{seen:?}");
    let commit = format!("{REPO}@{COMMIT}");
    assert_eq!(hub::fetch_with(&settings(&hub, cache.path()), &commit, &mut |_| panic!()).unwrap(), dir);
    let mut offline = settings(&hub, cache.path());
    offline.offline = true;
    assert_eq!(hub::fetch_with(&offline, REPO, &mut |_| panic!()).unwrap(), dir);
    assert!(hub.take_seen().is_empty());

    // A file that has lost its end is noticed by its size, one that was deleted too; nothing else is asked for.
    let blob = cache.path().join(root).join("blobs").join(etag("model.safetensors", &weights));
    fs::File::options().write(true).open(&blob).unwrap().set_len(1000).unwrap();
    fs::remove_file(dir.join("config.json")).unwrap();
    fetch(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);
    assert_eq!(hub.take_seen().iter().filter(|seen| seen.path.contains("/resolve/")).count(), 1);
    assert_eq!(tree(cache.path()), expected);
}

#[test]
fn redirected_names_other_branches_and_hubs_that_tell_no_hashes() {
    let (weights, cache) = (weights(1), tempfile::tempdir().unwrap());
    let hub = Hub::scripted(&model(&weights), false, |_, _| None);
    let s = settings(&hub, cache.path());
    let mut totals = Vec::new();
    let dir = hub::fetch_with(&s, "gpt2@refs/pr/1", &mut |p| totals.push(p.total)).unwrap();
    assert_eq!(dir, cache.path().join("models--gpt2/snapshots").join(COMMIT));
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);
    assert_eq!(fs::read_to_string(cache.path().join("models--gpt2/refs/refs/pr/1")).unwrap(), COMMIT);
    assert_eq!(totals.last(), Some(&(weights.len() as u64)), "sizes are not known beforehand");
    let error = hub::fetch_with(&s, "gpt2@v9", &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("no branch, tag or commit v9"), "{error}");
}

#[test]
fn broken_connections_are_resumed_where_they_broke() {
    let (weights, cache) = (weights(2), tempfile::tempdir().unwrap());
    let len = weights.len() as u64;
    let hub = Hub::scripted(&model(&weights), true, |seen, before| match (seen.storage, before) {
        (true, 0) => Some(Fault::Break(100_000)),
        (true, 1) => Some(Fault::Break(150_000)),
        _ => None,
    });
    let dir = fetch(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);
    let parts: Vec<_> = hub.take_seen().into_iter().filter(to_storage).map(|seen| (seen.range, seen.sent)).collect();
    let range = |from: u64| Some(format!("bytes={from}-"));
    assert_eq!(parts, [(None, 100_000), (range(100_000), 150_000), (range(250_000), len - 250_000)]);
}

#[test]
fn a_hub_without_ranges_a_silent_one_and_one_that_never_recovers() {
    let weights = weights(3);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::scripted(&model(&weights), true, |seen, before| match (seen.storage, before) {
        (true, 0) => Some(Fault::Break(100_000)),
        (true, 1) => Some(Fault::NoRange),
        _ => None,
    });
    let dir = fetch(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);

    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::scripted(&model(&weights), true, |seen, before| {
        (seen.storage && before == 0).then_some(Fault::Stall(50_000))
    });
    let mut impatient = settings(&hub, cache.path());
    impatient.patience = Duration::from_millis(300);
    let dir = hub::fetch_with(&impatient, REPO, &mut |_| {}).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);

    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::scripted(&model(&weights), true, |seen, _| seen.storage.then_some(Fault::Break(10)));
    let error = refusal(&hub, cache.path());
    assert!(error.contains("broke off") && error.contains("what has arrived is kept"), "{error}");
    assert_eq!(hub.take_seen().iter().filter(|seen| to_storage(seen)).count(), 6, "one try and five more");
}

#[test]
fn a_hub_that_is_busy_for_a_while() {
    let (weights, cache) = (weights(4), tempfile::tempdir().unwrap());
    let hub = Hub::scripted(&model(&weights), true, |seen, before| match (seen.storage, before) {
        (false, 0) => Some(Fault::Status(500, "")),
        (false, 1) => Some(Fault::Status(429, "")),
        (true, 0) => Some(Fault::Status(503, "")),
        _ => None,
    });
    fetch(&hub, cache.path()).unwrap();
    let hub = Hub::scripted(&model(&weights), true, |_, _| Some(Fault::Status(503, "")));
    // The snapshot is whole: it serves. Elsewhere there is nothing to serve.
    fetch(&hub, cache.path()).unwrap();
    let error = refusal(&hub, tempfile::tempdir().unwrap().path());
    assert!(error.contains("503") && error.contains("try again later"), "{error}");
}

#[test]
fn what_arrives_damaged_is_fetched_once_more_and_never_kept() {
    let weights = weights(5);
    let mut damaged = weights.clone();
    damaged[200_000] ^= 1;
    let faults: Vec<(Vec<u8>, &str)> = vec![
        (damaged.clone(), "checksum"),
        (weights[..300_000].to_vec(), "400000 bytes, but 300000 were offered"),
        ([&weights[..], b"more"].concat(), "but 400004 were offered"),
    ];
    for (content, reason) in faults {
        for always in [false, true] {
            let cache = tempfile::tempdir().unwrap();
            let bad = content.clone();
            let hub = Hub::scripted(&model(&weights), true, move |seen, before| {
                (seen.storage && (always || before == 0)).then(|| Fault::Content(bad.clone()))
            });
            let result = fetch(&hub, cache.path());
            assert_eq!(hub.take_seen().iter().filter(|seen| to_storage(seen)).count(), 2);
            if !always {
                assert_eq!(fs::read(result.unwrap().join("model.safetensors")).unwrap(), weights);
                continue;
            }
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(&format!("model.safetensors of {REPO}")) && error.contains(reason), "{error}");
            let left = tree(cache.path()).join(" ");
            assert!(
                !left.contains("model.safetensors") && !left.contains(&etag("model.safetensors", &weights)),
                "{left}"
            );
            assert!(!left.contains("refs/main"), "no branch points to a snapshot that is not whole: {left}");
        }
    }
    // A small file, by git's hash; and a damaged beginning left by an earlier process.
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::scripted(&model(&weights), true, |seen, _| {
        seen.path.ends_with("config.json").then(|| Fault::Content(b"{\"model_type\":\"gpt3\"}".to_vec()))
    });
    assert!(refusal(&hub, cache.path()).starts_with("config.json of"));
    let hub = Hub::new(&model(&weights));
    let partial = format!("models--openai-community--gpt2/blobs/{}.incomplete", etag("model.safetensors", &weights));
    fs::write(cache.path().join(partial), &damaged[..300_000]).unwrap();
    let dir = fetch(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);
    let ranges: Vec<_> = hub.take_seen().into_iter().filter(to_storage).map(|seen| seen.range).collect();
    assert_eq!(ranges, [Some("bytes=300000-".to_owned()), None]);
    // The wrong part of the file is no better than a wrong file.
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::scripted(&model(&weights), true, |seen, before| match (seen.storage, before) {
        (true, 0) => Some(Fault::Break(100_000)),
        (true, 1) => Some(Fault::WrongRange),
        _ => None,
    });
    let dir = fetch(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn refusals_say_what_to_do() {
    let weights = weights(6);
    let cases: [(u16, &str, &[&str]); 5] = [
        (401, "", &["check the name", "set HF_TOKEN"]),
        (401, "GatedRepo", &["is gated: accept its conditions at", "set HF_TOKEN"]),
        (403, "", &["forbids access", "set HF_TOKEN"]),
        (404, "RepoNotFound", &["there is no model openai-community/gpt2", "check the name"]),
        (418, "", &["418"]),
    ];
    for (status, code, words) in cases {
        for path in ["/api/models/", "/resolve/"] {
            let cache = tempfile::tempdir().unwrap();
            let hub = Hub::scripted(&model(&weights), true, move |seen, _| {
                seen.path.contains(path).then_some(Fault::Status(status, code))
            });
            let error = refusal(&hub, cache.path());
            assert!(words.iter().all(|word| error.contains(word)), "{status} {path}: {error}");
            assert_eq!(hub.take_seen().iter().filter(|seen| seen.path.contains(path)).count(), 1, "not tried again");
        }
    }
    // A hub that is none, one that redirects for ever, and one that is not there.
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::scripted(&[], true, |_, _| Some(Fault::Content(b"<html>sign in</html>".to_vec())));
    assert!(refusal(&hub, cache.path()).contains("did not answer as the Hugging Face hub does"));
    let hub = Hub::scripted(&[], true, |seen, _| Some(Fault::Redirect(seen.path.clone())));
    assert!(refusal(&hub, cache.path()).contains("redirected without end"));
    let gone = Settings::new(hub.endpoint.clone(), cache.path());
    drop(hub);
    let start = Instant::now();
    let error = hub::fetch_with(&gone, REPO, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("cannot reach http://127.0.0.1") && error.contains("HF_HUB_OFFLINE=1"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(hub::fetch_with(&gone, "../x/y", &mut |_| {}).is_err());
}

#[test]
fn without_network_a_whole_snapshot_is_used_and_a_part_is_not() {
    let (weights, cache) = (weights(7), tempfile::tempdir().unwrap());
    let hub = Hub::new(&model(&weights));
    let mut s = settings(&hub, cache.path());
    s.offline = true;
    let error = hub::fetch_with(&s, REPO, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE is set") && error.contains("is not there"), "{error}");
    let dir = fetch(&hub, cache.path()).unwrap();
    drop(hub);
    s.offline = false;
    assert_eq!(hub::fetch_with(&s, REPO, &mut |_| {}).unwrap(), dir);
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    assert!(hub::fetch_with(&s, REPO, &mut |_| {}).unwrap_err().to_string().contains("cannot reach"));
    s.offline = true;
    let error = hub::fetch_with(&s, REPO, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("lacks model.safetensors"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let (weights, cache) = (weights(8), tempfile::tempdir().unwrap());
    let hub = Hub::new(&model(&weights));
    let mut s = settings(&hub, cache.path());
    s.token = Some("hf_secret".into());
    hub::fetch_with(&s, "gpt2", &mut |_| {}).unwrap();
    let seen = hub.take_seen();
    assert!(seen.iter().any(to_storage) && seen.iter().any(|seen| !seen.storage));
    for seen in seen {
        assert_eq!(seen.token.as_deref(), (!seen.storage).then_some("Bearer hf_secret"), "{}", seen.path);
    }
}

#[test]
fn weights_in_several_files() {
    let (first, second, cache) = (weights(9), weights(10), tempfile::tempdir().unwrap());
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index =
        format!(r#"{{"metadata":{{}},"weight_map":{{"b":"{}","a":"{}","c":"{}"}}}}"#, names[1], names[0], names[1]);
    let mut files = SMALL.to_vec();
    files.extend([("model.safetensors.index.json", index.as_bytes()), (names[0], &first), (names[1], &second)]);
    let hub = Hub::new(&files);
    let mut last = (0, 0);
    let dir = hub::fetch_with(&settings(&hub, cache.path()), REPO, &mut |p| last = (p.done, p.total)).unwrap();
    assert_eq!(fs::read(dir.join(names[1])).unwrap(), second);
    let total = files.iter().map(|(_, content)| content.len() as u64).sum();
    assert_eq!(last, (total, total));

    let mut offline = settings(&hub, cache.path());
    offline.offline = true;
    hub::fetch_with(&offline, REPO, &mut |_| {}).unwrap();
    fs::remove_file(dir.join(names[0])).unwrap();
    assert!(hub::fetch_with(&offline, REPO, &mut |_| {}).unwrap_err().to_string().contains(names[0]));

    // An index that names what is not there, or what lies elsewhere.
    for (name, words) in [("model-3.safetensors", "has no model-3.safetensors"), ("../../x.safetensors", "names")] {
        let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        let mut files = SMALL.to_vec();
        files.extend([("model.safetensors.index.json", index.as_bytes()), ("../../x.safetensors", b"x")]);
        let cache = tempfile::tempdir().unwrap();
        let error = refusal(&Hub::new(&files), &cache.path().join("a/b/c"));
        assert!(error.contains(words), "{error}");
        assert!(tree(cache.path()).iter().all(|path| !path.contains("x.safetensors")));
    }
}

#[test]
fn adapters_and_repositories_that_lack_something() {
    let weights = weights(11);
    let adapter: [(&str, &[u8]); 3] =
        [("adapter_config.json", b"{}"), ("adapter_model.safetensors", &weights), ("tokenizer.json", b"{}")];
    let cache = tempfile::tempdir().unwrap();
    let dir = fetch(&Hub::new(&adapter), cache.path()).unwrap();
    assert_eq!(fs::read(dir.join("adapter_model.safetensors")).unwrap(), weights);
    assert!(dir.join("tokenizer.json").is_file() && !dir.join("config.json").exists());

    let cases: [(Files, &[&str]); 6] = [
        (&[("pytorch_model.bin", b"p")], &["only as pytorch_model.bin", "safe_serialization=True"]),
        (&[("tf_model.h5", b"p")], &["only as tf_model.h5", "save_pretrained"]),
        (&[("model-q8.gguf", b"p")], &["model-q8.gguf", "give its path"]),
        (&[("../../model.safetensors", b"p"), ("/model.safetensors", b"p")], &["has no model.safetensors"]),
        (&[("adapter_config.json", b"{}"), ("adapter_model.bin", b"p")], &["only as adapter_model.bin"]),
        (&[("README.md", b"p")], &["has no model.safetensors"]),
    ];
    for (files, words) in cases {
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub::new(&[&SMALL[..], files].concat());
        let error = refusal(&hub, cache.path());
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!((hub.take_seen().len(), tree(cache.path()).len()), (1, 0), "nothing was downloaded");
    }
    let cache = tempfile::tempdir().unwrap();
    let error =
        refusal(&Hub::new(&[("config.json", b"{}"), ("model.safetensors", b"x"), ("vocab.json", b"{}")]), cache.path());
    assert!(error.contains("has no merges.txt"), "{error}");
}

/// What the two tests below run as a process of its own.
#[test]
#[ignore = "a helper of other tests, with the settings in the environment"]
fn child() {
    let id = std::env::var("PENWRIGHT_TEST_ID").unwrap_or(REPO.to_owned());
    println!("fetched {}", hub::fetch(&id, &mut |_| {}).unwrap().display());
}

fn child_command(hub: &Hub, home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"] {
        command.env_remove(name);
    }
    command.args(["--ignored", "--exact", "child", "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("HF_HUB_OFFLINE").env_remove("TRANSFORMERS_OFFLINE");
    command.env("HF_ENDPOINT", &hub.endpoint).env("HF_HOME", home);
    // A proxy that is not there: a hub on this machine must be reached without it.
    command.env("HTTP_PROXY", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
    command
}

#[test]
fn the_environment_says_where_the_hub_and_the_cache_are() {
    let (weights, home) = (weights(12), tempfile::tempdir().unwrap());
    let hub = Hub::new(&model(&weights));
    fs::write(home.path().join("token"), "hf_from_file\n").unwrap();
    let out = child_command(&hub, home.path()).output().unwrap();
    let dir = home.path().join("hub/models--openai-community--gpt2/snapshots").join(COMMIT);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.contains(&format!("fetched {}", dir.display())), "{text}");
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);
    assert_eq!(hub.take_seen()[0].token.as_deref(), Some("Bearer hf_from_file"));
    let out = child_command(&hub, home.path()).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(out.status.success() && hub.take_seen().is_empty());
}

#[test]
fn a_killed_process_leaves_what_the_next_goes_on_from() {
    let (weights, home) = (weights(13), tempfile::tempdir().unwrap());
    let hub = Hub::scripted(&model(&weights), true, |seen, _| {
        (seen.storage && seen.range.is_none()).then_some(Fault::Stall(123_456))
    });
    let mut child = child_command(&hub, home.path()).spawn().unwrap();
    hub.wait_for(to_storage);
    let cache = home.path().join("hub");
    let partial = cache
        .join("models--openai-community--gpt2/blobs")
        .join(format!("{}.incomplete", etag("model.safetensors", &weights)));
    let start = Instant::now();
    while fs::metadata(&partial).map_or(0, |meta| meta.len()) < 123_456 {
        assert!(start.elapsed() < Duration::from_secs(20), "the bytes did not arrive");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    hub.take_seen();

    let dir = fetch(&hub, &cache).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), weights);
    let parts: Vec<_> = hub.take_seen().into_iter().filter(to_storage).map(|seen| (seen.range, seen.sent)).collect();
    assert_eq!(parts, [(Some("bytes=123456-".to_owned()), weights.len() as u64 - 123_456)]);
    assert!(!partial.exists());
}

#[test]
fn two_processes_fetch_a_file_once() {
    let (weights, cache) = (weights(14), tempfile::tempdir().unwrap());
    let hub = Hub::new(&model(&weights));
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| fetch(&hub, cache.path())), scope.spawn(|| fetch(&hub, cache.path()))];
        for one in both {
            assert_eq!(fs::read(one.join().unwrap().unwrap().join("model.safetensors")).unwrap(), weights);
        }
    });
    assert_eq!(hub.take_seen().iter().filter(|seen| to_storage(seen)).count(), 1);
}

/// What may happen to one request.
fn fault(len: usize) -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        3 => Just(None),
        4 => (0..len).prop_map(|n| Some(Fault::Break(n))),
        1 => Just(Some(Fault::NoRange)),
        1 => Just(Some(Fault::WrongRange)),
        1 => Just(Some(Fault::Status(503, ""))),
        1 => Just(Some(Fault::Status(416, ""))),
        1 => (0..len + 9).prop_map(|n| Some(Fault::Content(vec![7; n]))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens on the way, in whatever order: the content is right, or there is an error and no content.
    #[test]
    fn never_a_wrong_file(faults in proptest::collection::vec(fault(4000), 0..9), left in 0..5000usize, wrong: bool) {
        let weights = &weights(15)[..4000];
        let cache = tempfile::tempdir().unwrap();
        let hash = etag("model.safetensors", weights);
        let blob = cache.path().join("models--openai-community--gpt2/blobs").join(&hash);
        if left > 0 {
            let mut begun = [weights, &[1; 1000]].concat();
            begun[0] ^= u8::from(wrong);
            fs::create_dir_all(blob.parent().unwrap()).unwrap();
            fs::write(blob.with_extension("incomplete"), &begun[..left]).unwrap();
        }
        let hub = Hub::scripted(&model(weights), true, move |seen, before| match seen.storage {
            true => faults.get(before).cloned().flatten(),
            false => None,
        });
        match fetch(&hub, cache.path()) {
            Ok(dir) => prop_assert!(fs::read(dir.join("model.safetensors")).unwrap() == weights),
            Err(_) => prop_assert!(!blob.exists() && !tree(cache.path()).iter().any(|path| path.ends_with("model.safetensors"))),
        }
        prop_assert!(hub.take_seen().len() < 30, "tries are bounded");
    }
}
