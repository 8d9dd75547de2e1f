use super::*;
use crate::files::read_json;
use proptest::prelude::*;

/// Texts with all that is hard: control characters, lone marks, long runs of spaces, emoji, CJK, line ends, names of
/// special tokens, pieces of English.
pub(super) fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "(?s).{0,12}",
        "[ -~]{0,20}",
        "[ \t\n\r\u{a0}\u{3000}\u{2028}]{0,9}",
        "[\u{0}-\u{1f}\u{7f}-\u{9f}]{0,4}",
        "[\u{300}-\u{36f}\u{20d0}-\u{20ff}]{1,3}",
        " {1,300}",
        "[a\u{4e00}-\u{4e20}ぁ-ん。กำา가-갊]{0,12}",
        "(👩‍👩‍👧|🏳️‍🌈|e\u{301}|\r\n|'s|’s|'ll|'S|don't|o’clock|--|\\.\\.\\.|½|٣| <\\|endoftext\\|>|\u{0}){1,4}",
        "( the| sea| Alice| it's|\n\n|, |\\. ){1,8}",
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

const LEVELS: [Level; 4] = [Level::Char, Level::Word, Level::Bpe, Level::Gpt2];

const STORY: &str = "“The sea,” said Alice, “isn't the sea’s — it's everyone's.” Naïve 東京 東京 naïve?\n\n\
    The wind\tand the sea -- the wind's sea ... said it’s only the wind. Привет, привет!\r\n";

fn all() -> Vec<Tokenizer> {
    LEVELS.iter().map(|&level| Tokenizer::train(level, &[STORY], None).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_comes_back(trained in any_text(), text in any_text(), size in 1usize..40) {
        for level in LEVELS {
            let tokenizer = Tokenizer::train(level, &[&trained, "x"], None).unwrap();
            let tokens = tokenizer.encode(&text);
            prop_assert!(tokens.iter().all(|&t| (t as usize) < tokenizer.vocab_size() && t != tokenizer.eot()));
            prop_assert_eq!(&tokenizer.decode(&tokens), &text);
            prop_assert_eq!(&tokenizer.encode_by_parts(&text, size), &tokens, "cut into parts");
            let mut stream = tokenizer.stream();
            let mut streamed: String = tokens.iter().map(|&t| stream.push(t)).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(&streamed, &text);
            let spans = tokenizer.spans(&text, &tokens);
            prop_assert_eq!(spans.len(), tokens.len());
            let joined: String = spans.iter().map(|span| &text[span.clone()]).collect();
            prop_assert_eq!(&joined, &text);
            prop_assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn any_tokens_decode_alike_in_a_stream(ids in prop::collection::vec(0u32..400, 0..40)) {
        for tokenizer in all() {
            let mut stream = tokenizer.stream();
            let mut streamed: String = ids.iter().map(|&t| stream.push(t)).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, tokenizer.decode(&ids));
            ids.iter().for_each(|&id| _ = tokenizer.piece(id));
            tokenizer.spans("ab — c", &ids);
        }
    }

    /// What the crate `tokenizers` reads out of the file gives the same ids.
    #[test]
    fn hugging_face_encodes_alike(text in any_text()) {
        let text = text.replace(ENDOFTEXT, "");
        for (tokenizer, theirs) in hugging_face() {
            let theirs = theirs.encode_fast(text.as_str(), false).unwrap();
            let known = tokenizer.level() != Level::Char || text.chars().all(|c| STORY.contains(c));
            if known {
                prop_assert_eq!(tokenizer.encode(&text), theirs.get_ids(), "{}", tokenizer.level());
            }
        }
    }
}

fn hugging_face() -> &'static [(Tokenizer, tokenizers::Tokenizer)] {
    static BOTH: std::sync::OnceLock<Vec<(Tokenizer, tokenizers::Tokenizer)>> = std::sync::OnceLock::new();
    BOTH.get_or_init(|| {
        all()
            .into_iter()
            .map(|tokenizer| {
                let dir = tempfile::tempdir().unwrap();
                tokenizer.save(dir.path()).unwrap();
                (tokenizer, tokenizers::Tokenizer::from_file(dir.path().join(FILE)).unwrap())
            })
            .collect()
    })
}

#[test]
fn saved_and_loaded_alike() {
    for tokenizer in all() {
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let again = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(again.level(), tokenizer.level());
        assert_eq!(again.vocab_size(), tokenizer.vocab_size());
        assert_eq!(again.suppressed(), tokenizer.suppressed());
        let text = format!("{STORY} 海 <|endoftext|>");
        assert_eq!(tokenizer.encode(&text), again.encode(&text));
        assert_eq!(again.decode(&again.encode(&text)), text);
        let file = std::fs::read(dir.path().join(FILE)).unwrap();
        again.save(dir.path()).unwrap();
        assert!(std::fs::read(dir.path().join(FILE)).unwrap() == file);
    }
}

#[test]
fn broken_escapes_do_not_panic() {
    let tokenizer = Tokenizer::train(Level::Char, &["abc"], None).unwrap();
    for (tokens, text) in [
        (vec![1], "\u{fffd}"),
        (vec![1, 1, 3], "\u{fffd}\u{fffd}1"),
        (vec![1, 17], "\u{fffd}f"),
        (vec![9999, 3], "1"),
        (vec![1, 8, 3], "a"),
    ] {
        assert_eq!(tokenizer.decode(&tokens), text, "{tokens:?}");
    }
}

#[test]
fn levels_are_named() {
    for level in LEVELS {
        assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
        assert_eq!(serde_json::to_value(level).unwrap(), level.to_string());
    }
    assert!("Bpe".parse::<Level>().is_err());
}

/// A text of shared/data, or `None` with a word about it.
fn shared(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    std::fs::read_to_string(&path).inspect_err(|e| eprintln!("skipped: {}: {e}", path.display())).ok()
}

#[test]
fn gpt2_is_tiktokens() {
    let theirs = tiktoken_rs::r50k_base().unwrap();
    let ours = Tokenizer::gpt2().unwrap();
    assert_eq!((ours.vocab_size(), ours.eot(), ours.piece(50256)), (50257, 50256, ENDOFTEXT.to_string()));
    for id in 0..50256 {
        assert_eq!(ours.decode_bytes(&[id]), theirs.decode_bytes(&[id]).unwrap(), "token {id}");
    }
    let hard = "fn main() {\n\tprintln!(\"{:>8}\", x_1 << 2); // 3.14e-10\r\n}\n\n\n\n👩‍👩‍👧 🏳️‍🌈 東京タワー한국어 ไทย\
        \u{0}\u{1}\u{7f}\u{85}\u{a0}\u{200b} I'll we've DON'T o'clock 's ''' e\u{301} \u{301} <|endoftext|>\u{feff}²٣½ _a_ --";
    let hard = format!("{hard}{}{}x{}\n{}", " ".repeat(700), "\n".repeat(90), "\t ".repeat(80), "aA".repeat(500));
    let novels = ["novels/alice.txt", "tinyshakespeare.txt"].into_iter().filter_map(shared);
    for text in novels.chain([hard, mixed(1 << 20)]) {
        assert!(ours.encode(&text) == theirs.encode_ordinary(&text), "{:.40}", text);
    }
}

/// A text of at least so many bytes in which all that is hard stands beside all else: code, emoji with joiners and
/// skin tones, scripts with and without spaces, every character of Unicode's first planes, control characters, runs of
/// white space of every length, names of special tokens, numbers, contractions.
fn mixed(size: usize) -> String {
    let random = |i: u64, n: usize| (crate::layers::random(11, i) >> 20) as usize % n;
    let novel = include_str!("../../../../assets/novel/01.txt");
    let code = include_str!("split.rs");
    let words = "the The THE sea's don't I'LL it’s naïve über Straße fi ½ ² ٣٤ 3.14e-10 0x7F _a_ __init__ a.b::c \
        https://example.org/?q=%20&r=é#x <|endoftext|> <|endoftext|><|endoftext|> |endoftext|> \u{feff} \u{200b}x";
    let words: Vec<&str> = words.split(' ').collect();
    let emoji = ["👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "1️⃣", "❤️‍🔥", "👨🏿‍🚀", "☺", "e\u{301}\u{323}", "\u{200d}"];
    let space =
        [" ", "\n", "\r\n", "\t", "\u{a0}", "\u{3000}", "\u{2028}", "\u{85}", "\u{b}", "\u{0}", "\u{1f}", "\u{7f}"];
    let mut text = String::new();
    let piece = |text: &str, i: u64| {
        let at = (random(i, text.len())..).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text[at..].chars().take(random(i + 1, 200)).collect::<String>()
    };
    for i in (0..).step_by(8) {
        if text.len() >= size {
            return text;
        }
        match random(i, 12) {
            0 | 1 => text.push_str(&piece(novel, i + 1)),
            2 => text.push_str(&piece(code, i + 1)),
            3 => text.push_str(&space[random(i + 1, space.len())].repeat(random(i + 2, 60))),
            4 => (0..random(i + 1, 6)).for_each(|n| text.push_str(space[random(i + 2 + n as u64, space.len())])),
            5 => text.push_str(&emoji[random(i + 1, emoji.len())].repeat(1 + random(i + 2, 3))),
            // A stretch of neighbours anywhere in the first two planes.
            6 | 7 => text.extend((0..40).filter_map(|n| char::from_u32((random(i + 1, 0x2_0000) + n) as u32))),
            8 => text.extend((0..20).filter_map(|n| char::from_u32(0x4e00 + random(i + n % 7, 0x5000) as u32))),
            9 => text.push_str(&random(i + 1, 1 << 40).to_string()),
            _ => (0..4).for_each(|n| text.extend([" ", words[random(i + 1 + n, words.len())]])),
        }
    }
    text
}

proptest! {
    #[test]
    fn gpt2_is_tiktokens_on_any_text(text in any_text()) {
        let theirs = tiktoken_rs::r50k_base_singleton();
        prop_assert_eq!(Tokenizer::gpt2().unwrap().encode(&text), theirs.encode_ordinary(&text));
    }
}

#[test]
fn bpe_learns_the_same_in_any_pool() {
    let text = shared("novels/alice.txt").unwrap_or_else(|| STORY.repeat(50));
    // Few distinct pairs, many of the same count.
    let runs: String =
        (0..4000).map(|i| ["b ", "a", "a", "ab", "a"][crate::layers::random(7, i) as usize % 5]).collect();
    for text in [&text, &runs] {
        let train = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let tokenizer = pool.install(|| Tokenizer::train(Level::Bpe, &[text, "and more"], None).unwrap());
            let dir = tempfile::tempdir().unwrap();
            tokenizer.save(dir.path()).unwrap();
            std::fs::read(dir.path().join(FILE)).unwrap()
        };
        let first = train(1);
        assert!([1, 2, 3].into_iter().all(|threads| train(threads) == first));
    }
}

#[test]
fn sizes_are_kept_and_refused() {
    let text = include_str!("../../../../assets/novel/01.txt");
    for level in [Level::Word, Level::Bpe] {
        for size in [257, 300, 350] {
            assert_eq!(Tokenizer::train(level, &[text], Some(size)).unwrap().vocab_size(), size, "{level}");
        }
        assert!(Tokenizer::train(level, &[text], Some(256)).unwrap_err().to_string().starts_with("--vocab-size"));
    }
    assert!(Tokenizer::train(Level::Char, &[text], Some(300)).is_err());
    assert!(Tokenizer::train(Level::Gpt2, &[], Some(300)).is_err());
    assert_eq!(Tokenizer::train(Level::Gpt2, &[], Some(50257)).unwrap().vocab_size(), 50257);
    assert_eq!([30_000, 500_000, 1 << 30].map(default_bpe_vocab), [512, 2048, 8192]);
}

#[test]
fn words_are_tokens_and_others_are_spelled() {
    let tokenizer = Tokenizer::train(Level::Word, &[STORY], None).unwrap();
    let pieces = |text: &str| tokenizer.encode(text).into_iter().map(|id| tokenizer.piece(id)).collect::<Vec<_>>();
    assert_eq!(pieces(" sea bird 東京"), [" sea", " ", "b", "i", "r", "d", " 東", "京"]);
    assert_eq!(pieces("wind’s"), ["w", "i", "n", "d", "’s"]);
    assert_eq!(pieces("海"), ["\\xE6", "\\xB5", "\\xB7"]);
    assert!(tokenizer.suppressed().is_empty());
}

#[test]
fn spans_lie_between_characters() {
    let tokenizer = Tokenizer::train(Level::Bpe, &["x"], None).unwrap();
    let tokens = [&[tokenizer.eot()], &*tokenizer.encode("aé—")].concat();
    assert_eq!(tokenizer.spans("aé—", &tokens), [0..0, 0..1, 1..1, 1..3, 3..3, 3..3, 3..6]);
}

#[test]
fn files_made_elsewhere_load_and_broken_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, json: &Value| std::fs::write(dir.path().join(name), json.to_string()).unwrap();
    let tokenizer = Tokenizer::train(Level::Bpe, &[STORY], Some(300)).unwrap();
    tokenizer.save(dir.path()).unwrap();
    let good = read_json(&dir.path().join(FILE)).unwrap();
    let change = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        write(FILE, &json);
        Tokenizer::load(dir.path()).map_err(|e| e.to_string())
    };
    let same = |loaded: Result<Tokenizer, String>| assert_eq!(loaded.unwrap().encode(STORY), tokenizer.encode(STORY));
    // Merges as pairs; then end-of-text under another name and GPT-2's pattern as tiktoken writes it.
    same(change(&|json| {
        for merge in json["model"]["merges"].as_array_mut().unwrap() {
            *merge = merge.as_str().unwrap().split(' ').collect::<Vec<_>>().into();
        }
    }));
    write(CONFIG, &json!({ "eos_token": { "content": "</s>" } }));
    same(change(&|json| {
        json["added_tokens"][0]["content"] = "</s>".into();
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        vocab.remove(ENDOFTEXT);
        vocab.insert("</s>".into(), 0.into());
        json["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": split::GPT2_PATTERN_ALIKE }, "behavior": "Isolated" },
            { "type": "ByteLevel", "add_prefix_space": false, "use_regex": false } ] });
    }));
    for (what, how) in [
        (
            "is no byte-level BPE",
            (&|json: &mut Value| json["normalizer"] = json!({ "type": "NFC" })) as &dyn Fn(&mut Value),
        ),
        ("is no byte-level BPE", &|json| json["model"]["type"] = "Unigram".into()),
        ("not GPT-2's", &|json| json["pre_tokenizer"] = json!({ "type": "Whitespace" })),
        ("lacks the byte", &|json| _ = json["model"]["vocab"].as_object_mut().unwrap().remove("~")),
        ("merges", &|json| json["model"]["merges"][0] = "zz qq".into()),
        ("not a pair", &|json| json["model"]["merges"][0] = json!(["a", "b", "c"])),
        ("two tokens", &|json| json["model"]["vocab"]["a"] = 7.into()),
        ("ids up to", &|json| json["model"]["vocab"]["a"] = 4_000_000_000u32.into()),
        ("id that is none", &|json| json["model"]["vocab"]["a"] = json!(-1)),
        ("no byte-level token", &|json| json["model"]["vocab"]["東"] = 300.into()),
        ("no vocabulary", &|json| json["model"]["vocab"] = Value::Null),
        ("is no byte-level BPE", &|json| *json = json!([1, 2])),
    ] {
        let error = change(how).unwrap_err();
        assert!(error.contains(what) && error.contains(FILE), "{what}: {error}");
    }
    let chars = Tokenizer::train(Level::Char, &[STORY], None).unwrap();
    chars.save(dir.path()).unwrap();
    let mut json = read_json(&dir.path().join(FILE)).unwrap();
    json["model"]["vocab"]["T"] = 9999.into();
    write(FILE, &json);
    assert!(Tokenizer::load(dir.path()).unwrap_err().to_string().contains("damaged character tokenizer"));
}

/// `vocab.json` and `merges.txt` of a tokenizer, as Hugging Face wrote them.
fn write_parts(dir: &Path, tokenizer: &Tokenizer) {
    tokenizer.save(dir).unwrap();
    let json = read_json(&dir.join(FILE)).unwrap();
    std::fs::remove_file(dir.join(FILE)).unwrap();
    std::fs::remove_file(dir.join(CONFIG)).unwrap();
    std::fs::write(dir.join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    let merges =
        json["model"]["merges"].as_array().unwrap().iter().map(|merge| format!("{}\n", merge.as_str().unwrap()));
    std::fs::write(dir.join("merges.txt"), format!("#version: 0.2\n{}", merges.collect::<String>())).unwrap();
}

#[test]
fn the_published_vocabulary_is_known_in_every_form() {
    let gpt2 = Tokenizer::gpt2().unwrap();
    let dir = tempfile::tempdir().unwrap();
    gpt2.save(dir.path()).unwrap();
    let saved = std::fs::read(dir.path().join(FILE)).unwrap();
    let same = |loaded: Tokenizer| {
        assert_eq!((loaded.level(), loaded.vocab_size()), (Level::Gpt2, 50257));
        loaded.save(dir.path()).unwrap();
        assert!(std::fs::read(dir.path().join(FILE)).unwrap() == saved);
    };
    same(Tokenizer::load(dir.path()).unwrap());
    same(Tokenizer::from_lists(gpt2.lists("").unwrap()).unwrap());
    write_parts(dir.path(), &gpt2);
    same(Tokenizer::load(dir.path()).unwrap());
    write_parts(dir.path(), &gpt2);
    // The same tokens, two merges the other way round.
    let merges = std::fs::read_to_string(dir.path().join("merges.txt")).unwrap();
    let mut lines: Vec<&str> = merges.lines().collect();
    lines.swap(40_000, 40_001);
    std::fs::write(dir.path().join("merges.txt"), lines.join("\n")).unwrap();
    assert_eq!(Tokenizer::load(dir.path()).unwrap().level(), Level::Bpe);
}

#[test]
fn vocab_and_merges_load_with_what_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let load = || Tokenizer::load(dir.path()).map_err(|e| e.to_string());
    let missing = load().unwrap_err();
    assert!(["tokenizer.json", "vocab.json", "merges.txt"].iter().all(|name| missing.contains(name)), "{missing}");
    let tokenizer = Tokenizer::train(Level::Bpe, &[STORY], Some(300)).unwrap();
    write_parts(dir.path(), &tokenizer);
    let loaded = load().unwrap();
    assert_eq!((loaded.encode(STORY), loaded.eot()), (tokenizer.encode(STORY), 0));
    write("added_tokens.json", r#"{"<note>": 300, "<user>": 301}"#);
    write("special_tokens_map.json", r#"{"eos_token": {"content": "<end>"}, "additional_special_tokens": ["<user>"]}"#);
    write(
        "tokenizer_config.json",
        r#"{"tokenizer_class": "GPT2Tokenizer",
        "added_tokens_decoder": {"302": {"content": "<end>", "special": true}}}"#,
    );
    let loaded = load().unwrap();
    assert_eq!((loaded.eot(), loaded.vocab_size(), loaded.decode(&[300, 301, 302])), (302, 303, "<note>".into()));
    assert!(loaded.suppressed().ends_with(&[301]) && !loaded.suppressed().contains(&300));
    assert_eq!(loaded.encode("<note>"), tokenizer.encode("<note>"), "an added token in the text is text");
    for (name, text, what) in [
        ("added_tokens.json", r#"{"<note>": 7}"#, "two tokens with id 7"),
        ("added_tokens.json", r#"{"<note>": -7}"#, "damaged added_tokens.json"),
        ("tokenizer_config.json", r#"{"tokenizer_class": "CLIPTokenizer"}"#, "CLIPTokenizer"),
        ("tokenizer_config.json", "{", "not JSON"),
        ("merges.txt", "#version: 0.2\na b\nabc\n", "line 3"),
        ("merges.txt", "a b c\n", "line 1"),
        ("vocab.json", "[1, 2]", "no list of tokens"),
        ("vocab.json", r#"{"a": 1.5}"#, "no list of tokens"),
        ("vocab.json", r#"{"a": 0}"#, "no end-of-text token"),
    ] {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        write(name, text);
        if what.starts_with("no end") {
            std::fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
        }
        let error = load().unwrap_err();
        assert!(error.contains(what) && !error.contains('\n'), "{what}: {error}");
        std::fs::write(&path, good).unwrap();
    }
    std::fs::remove_file(dir.path().join("merges.txt")).unwrap();
    assert!(load().unwrap_err().contains("(merges.txt not found)"));
}

#[test]
fn words_cut_already_are_one_token_each() {
    let text = " no it was n't <unk>\n\n = N <unk> =\n";
    let tokenizer = Tokenizer::train_ptb(&[text], None).unwrap();
    let tokens = tokenizer.encode(text);
    // Words and ends of lines, as the papers count them.
    assert_eq!(tokens.len(), text.split_whitespace().count() + text.lines().count());
    assert_eq!(tokenizer.piece(tokens[4]), " <unk>");
    assert_eq!(tokens[4], tokens[9]);
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    let loaded = Tokenizer::load(dir.path()).unwrap();
    for text in [text, " unseen\tword  <unk> \n"] {
        assert_eq!(loaded.encode(text), tokenizer.encode(text));
        assert_eq!(loaded.decode(&loaded.encode(text)), text);
    }
    assert_eq!(loaded.level(), Level::Word);
}
