use super::*;
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
