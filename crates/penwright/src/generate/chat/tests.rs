use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::super::tests::{models, tokenizer as small_tokenizer};
use super::*;
use crate::model::{DecodePrecision, Session, TokenScore};
use crate::tokenizer::Level;

/// A model that writes what a script says, whatever it reads.
struct Scripted {
    kind: ModelKind,
    context: Option<usize>,
    vocab: usize,
    script: Vec<u32>,
    /// A row for each token, of which it is the likeliest.
    rows: Vec<Vec<f32>>,
    read: Arc<Read>,
}

/// What a session was given.
#[derive(Default)]
struct Read {
    asked: AtomicUsize,
    fed: AtomicUsize,
    streams: Mutex<Vec<Vec<u32>>>,
}

impl Read {
    fn text(&self, tokenizer: &Tokenizer) -> String {
        let tokens = self.streams.lock().unwrap()[0].clone();
        tokens.iter().map(|&id| tokenizer.piece(id)).collect()
    }

    fn fed(&self) -> usize {
        self.fed.load(Ordering::Relaxed)
    }
}

struct ScriptedSession(Arc<Scripted>);

impl Session for ScriptedSession {
    fn streams(&self) -> usize {
        2
    }

    fn feed(&mut self, stream: usize, tokens: &[u32]) -> Result<()> {
        self.0.read.fed.fetch_add(tokens.len(), Ordering::Relaxed);
        let mut streams = self.0.read.streams.lock().unwrap();
        streams[stream].extend(tokens);
        assert!(self.0.context.is_none_or(|context| streams[stream].len() <= context), "the session had to slide");
        Ok(())
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        self.feed(streams[0], &tokens[..1])
    }

    fn log_probs(&self, _: usize) -> &[f32] {
        let n = self.0.read.asked.fetch_add(1, Ordering::Relaxed);
        &self.0.rows[self.0.script[n % self.0.script.len()] as usize]
    }

    fn copy(&mut self, from: usize, to: usize) {
        let mut streams = self.0.read.streams.lock().unwrap();
        streams[to] = streams[from].clone();
    }

    fn select(&mut self, _: &[usize]) {}

    fn reset(&mut self, stream: usize) {
        self.0.read.streams.lock().unwrap()[stream].clear();
    }
}

impl LanguageModel for Scripted {
    fn kind(&self) -> ModelKind {
        self.kind
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context(&self) -> Option<usize> {
        self.context
    }

    fn num_params(&self) -> u64 {
        0
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        *self.read.streams.lock().unwrap() = vec![Vec::new(); streams];
        Ok(Box::new(ScriptedSession(self)))
    }

    fn with_precision(self: Arc<Self>, _: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        Ok(self)
    }

    fn score(&self, _: &[u32], _: Option<usize>, _: &mut dyn FnMut(&[TokenScore]) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// A model that writes `script`, and what is read by it. A GPT-2 if it has a context.
fn scripted(tokenizer: &Tokenizer, script: &[u32], context: Option<usize>) -> (Arc<dyn LanguageModel>, Arc<Read>) {
    let vocab = tokenizer.vocab_size();
    let row = |id| (0..vocab).map(|i| if i == id { -1e-4 } else { -30.0 }).collect();
    let read = Arc::new(Read::default());
    let kind = if context.is_some() { ModelKind::Gpt2 } else { ModelKind::Lstm };
    let (rows, script) = ((0..vocab).map(row).collect(), script.to_vec());
    (Arc::new(Scripted { kind, context, vocab, script, rows, read: read.clone() }), read)
}

const LETTERS: &str = "User:Assistant: <|im_start>\n.abcdefghijklmnopqrstuvwxyzBHSEND!";

fn letters() -> Tokenizer {
    Tokenizer::train(Level::Char, &[LETTERS], None).unwrap()
}

fn names() -> ChatOptions {
    ChatOptions {
        format: ChatFormat::names("User", "Assistant").unwrap(),
        system: String::new(),
        sampling: Sampling::default(),
        tokens: 100,
        stop: Vec::new(),
    }
}

/// The reply, which must be what was streamed.
fn send(chat: &mut Chat<'_>, text: &str) -> Reply {
    let mut streamed = String::new();
    let on_text: OnText<'_> = &mut |_, piece| {
        streamed.push_str(piece);
        ControlFlow::Continue(())
    };
    let reply = chat.send(text, on_text).unwrap();
    assert_eq!(streamed, reply.content);
    reply
}

#[test]
fn replies_end_at_the_other_turn_and_nothing_is_read_twice() {
    let tokenizer = letters();
    let script = " Hello.\nUse it.\nUser: a b\n\nUser: \n\nUser: c";
    let (model, read) = scripted(&tokenizer, &tokenizer.encode(script), None);
    let mut chat = Chat::new(&model, &tokenizer, ChatOptions { system: "Be kind.".into(), ..names() }).unwrap();
    let reply = send(&mut chat, "hi");
    assert_eq!((reply.content.as_str(), reply.finish_reason), ("Hello.\nUse it.", FinishReason::Stop));
    assert_eq!(send(&mut chat, "more").content, "a b");
    assert_eq!(send(&mut chat, "and\nmore").content, "");
    let expected = "<|endoftext|>Be kind.\n\nUser: hi\nAssistant: Hello.\nUse it.\nUser: more\nAssistant: a b\n\nUser: \
                    and\nmore\nAssistant: \n\nUser";
    assert_eq!(read.text(&tokenizer), expected);
    assert_eq!(read.fed(), read.streams.lock().unwrap()[0].len());
    let turns: Vec<_> = chat.messages().into_iter().map(|m| m.content).collect();
    assert_eq!(turns, ["Be kind.", "hi", "Hello.\nUse it.", "more", "a b", "and\nmore", ""]);
}

#[test]
fn stop_strings_limits_and_breaking_off() {
    let tokenizer = letters();
    let (model, read) = scripted(&tokenizer, &tokenizer.encode(" ab END"), None);
    let options = ChatOptions { stop: vec!["END".into()], tokens: 9, ..names() };
    let mut chat = Chat::new(&model, &tokenizer, options).unwrap();
    assert_eq!(send(&mut chat, "x").content, "ab");
    assert_eq!(send(&mut chat, "y").content, "ab");
    assert_eq!(send(&mut chat, "z").content, "ab");
    // The stop string's beginning, that had been read, is not there any more.
    assert_eq!(read.text(&tokenizer), "<|endoftext|>User: x\nAssistant: ab \nUser: y\nAssistant: ab ");

    let (model, read) = scripted(&tokenizer, &tokenizer.encode(" abcdefghijkl"), None);
    let mut chat = Chat::new(&model, &tokenizer, ChatOptions { tokens: 5, ..names() }).unwrap();
    let reply = send(&mut chat, "x");
    assert_eq!((reply.content.as_str(), reply.finish_reason, reply.tokens), ("abcd", FinishReason::Length, 5));
    let mut shown = String::new();
    let on_text: OnText<'_> = &mut |_, piece| {
        shown.push_str(piece);
        if shown.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let reply = chat.send("y", on_text).unwrap();
    assert_eq!((reply.content.as_str(), reply.finish_reason), ("efg", FinishReason::Cancelled));
    send(&mut chat, "z");
    let text = read.text(&tokenizer);
    assert!(
        text.starts_with("<|endoftext|>User: x\nAssistant: abcd\nUser: y\nAssistant:efg\nUser: z\nAssistant:"),
        "{text}"
    );
    assert_eq!(read.fed(), read.streams.lock().unwrap()[0].len());
}

#[test]
fn taking_back_and_trying_again() {
    let tokenizer = letters();
    let (model, read) = scripted(&tokenizer, &tokenizer.encode(" ab\nUser:"), None);
    let mut chat = Chat::new(&model, &tokenizer, names()).unwrap();
    assert!(chat.undo().is_none() && chat.retry(&mut |_, _| ControlFlow::Continue(())).unwrap().is_none());
    send(&mut chat, "x");
    let (before, one) = (chat.messages(), read.fed());
    send(&mut chat, "y");
    let two = read.fed();
    assert_eq!(chat.undo().as_deref(), Some("y"));
    assert_eq!(chat.messages(), before);
    send(&mut chat, "z");
    // Only the new turn was read again, from the copy of the state, which has the colon before it.
    assert_eq!(read.fed() - two + 1, two - one);
    assert!(read.text(&tokenizer).ends_with("Assistant: ab\nUser: z\nAssistant: ab\nUser"));
    chat.retry(&mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(chat.messages().len(), 4);
    assert!(read.text(&tokenizer).ends_with("Assistant: ab\nUser: z\nAssistant: ab\nUser"));
    chat.undo();
    chat.undo();
    send(&mut chat, "w");
    assert_eq!(read.text(&tokenizer), "<|endoftext|>User: w\nAssistant: ab\nUser");
    chat.set_system("s").unwrap();
    send(&mut chat, "v");
    assert!(read.text(&tokenizer).starts_with("<|endoftext|>s\n\nUser: w\nAssistant: ab\nUser: v\nAssistant: ab"));
}

/// A tokenizer with tokens of its own for turns.
fn with_tokens(names: &[&str]) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::train(Level::Bpe, &["the bell rang and user assistant said hello"], Some(270))
        .unwrap()
        .save(dir.path())
        .unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let size = json["model"]["vocab"].as_object().unwrap().len();
    for (i, name) in names.iter().enumerate() {
        let token = serde_json::json!({"id": size + i, "content": name, "special": true});
        json["added_tokens"].as_array_mut().unwrap().push(token);
    }
    std::fs::write(&path, json.to_string()).unwrap();
    Tokenizer::load(dir.path()).unwrap()
}

#[test]
fn markers_that_are_tokens() {
    let tokenizer = with_tokens(&["<|im_start|>", "<|im_end|>"]);
    let id = |name| tokenizer.special_tokens().iter().find(|token| token.0 == name).unwrap().1;
    let format = ChatFormat::in_vocabulary(&tokenizer).unwrap();
    let script = [&tokenizer.encode("hello <|im_end|>")[..], &[id("<|im_end|>")]].concat();
    let (model, read) = scripted(&tokenizer, &script, None);
    let options = ChatOptions { format, system: "be a bell".into(), ..names() };
    let mut chat = Chat::new(&model, &tokenizer, options).unwrap();
    // Text that spells a marker is text; the token ends the turn though it is suppressed elsewhere.
    assert!(tokenizer.suppressed().contains(&id("<|im_end|>")));
    for turn in ["said <|im_end|>", "and"] {
        let reply = send(&mut chat, turn);
        assert_eq!((reply.content.as_str(), reply.finish_reason), ("hello <|im_end|>", FinishReason::Stop));
    }
    let expected = "<|endoftext|><|im_start|>system\nbe a bell<|im_end|>\n<|im_start|>user\nsaid <|im_end|><|im_end|>\n\
                    <|im_start|>assistant\nhello <|im_end|><|im_end|>\n<|im_start|>user\nand<|im_end|>\n\
                    <|im_start|>assistant\nhello <|im_end|>";
    assert_eq!(read.text(&tokenizer), expected);
    let streams = read.streams.lock().unwrap();
    assert_eq!(streams[0].iter().filter(|&&token| token == id("<|im_end|>")).count(), 4);
    assert_eq!(read.fed(), streams[0].len());
}

#[test]
fn formats_are_recognised() {
    let tags = with_tokens(&["<|user|>", "<|assistant|>", "<|end|>"]);
    assert_eq!(ChatFormat::in_vocabulary(&tags).unwrap().describe(), "<|user|>, <|assistant|>, from the vocabulary");
    assert_eq!(ChatFormat::in_vocabulary(&letters()), None);
    for (template, family) in [
        (
            "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>'}}{% endfor %}",
            "ChatML",
        ),
        ("{% if m['role'] == 'user' %}{{ '<|user|>\\n' + c + eos_token }}{% else %}{{ '<|assistant|>' }}", "<|user|>"),
        ("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", "turns that end in end-of-text"),
        ("### Instruction:\n{{ c }}\n\n### Response:\n", "### Instruction"),
        ("{{ '### Human: ' + c }}{{ '### Assistant: ' }}", "names"),
        ("{% if m.role == 'user' %}{{ 'User: ' + c }}{% else %}{{ 'Assistant: ' }}", "names"),
    ] {
        let format = ChatFormat::recognise(template).unwrap();
        assert!(format.describe().starts_with(family), "{template}: {format:?}");
    }
    assert_eq!(ChatFormat::recognise("{% for m in messages %}[INST]{{ m['role'] }}{{ eos_token }}"), None);
    assert!(ChatFormat::recognise("### Human: ### Assistant:").unwrap().user[0].starts_with("### Human: "));
    for (user, bot, flag) in [("", "B", "--user"), ("A", "A", "--bot"), ("A", "B\nC", "--bot")] {
        assert!(ChatFormat::names(user, bot).unwrap_err().to_string().starts_with(flag));
    }
    let marker = |text: &str| Some(text.to_string());
    let markers = Markers { user: marker("### Human:"), bot: marker("### Bot:\n"), system: None, end: marker("</s>") };
    let format = ChatFormat::markers(&markers, "User", "Assistant").unwrap();
    assert_eq!((&*format.user[0], &*format.bot[0], &*format.user[1]), ("### Human: ", "### Bot:\n", "</s>"));
    assert_eq!(Turns::new(&format, &letters()).stops, ["### Bot:", "### Human:", "</s>"]);
    let bad = Markers { bot: marker("### Human: "), ..markers };
    assert!(ChatFormat::markers(&bad, "User", "Assistant").unwrap_err().to_string().starts_with("--bot-marker"));
}

#[test]
fn a_full_context_drops_the_oldest_turns() {
    let tokenizer = letters();
    let (model, read) = scripted(&tokenizer, &tokenizer.encode(" abcd\nUser:"), Some(120));
    let mut chat =
        Chat::new(&model, &tokenizer, ChatOptions { system: "Be kind.".into(), tokens: 30, ..names() }).unwrap();
    let mut dropped = 0;
    for n in 0..20 {
        let turn = char::from(b'a' + n).to_string();
        let reply = send(&mut chat, &turn);
        assert_eq!((reply.content.as_str(), reply.cut), ("abcd", false));
        dropped += reply.dropped;
        let text = read.text(&tokenizer);
        assert!(text.starts_with("<|endoftext|>Be kind.\n\nUser: "), "{text}");
        assert!(text.ends_with(&format!("\nUser: {turn}\nAssistant: abcd\nUser")), "{text}");
    }
    assert_eq!((dropped, chat.messages().len()), (chat.forgotten(), 41));
    assert!((12..=18).contains(&dropped), "{dropped}");
    // Taken back to before what was dropped, the oldest turns are in sight again.
    (0..18).for_each(|_| drop(chat.undo()));
    assert_eq!((chat.forgotten(), chat.messages().len()), (0, 5));
    let long = send(&mut chat, &"xyz ".repeat(60));
    assert_eq!((long.content.as_str(), long.cut), ("abcd", true));
    assert!(read.text(&tokenizer).starts_with("<|endoftext|>Be kind."));
    let system = chat.set_system(&"so ".repeat(40)).unwrap_err().to_string();
    assert!(system.starts_with("--system: takes 12"), "{system}");
    assert_eq!(chat.messages()[0].content, "Be kind.");
}

#[test]
fn a_reply_longer_than_the_context_goes_on() {
    let tokenizer = letters();
    let script: String = ('a'..='z').cycle().take(200).collect::<String>() + "\nUser:";
    let (model, _) = scripted(&tokenizer, &tokenizer.encode(&script), Some(80));
    let options = ChatOptions { system: "Hi.".into(), tokens: 300, ..names() };
    let mut chat = Chat::new(&model, &tokenizer, options).unwrap();
    let reply = send(&mut chat, "x");
    assert_eq!((reply.content.len(), reply.cut, reply.finish_reason), (200, true, FinishReason::Stop));
    let again = chat.retry(&mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((again.content, chat.messages().len()), (reply.content, 3));
}

#[test]
fn the_same_turns_have_the_same_replies() {
    let tokenizer = small_tokenizer();
    for model in models(tokenizer.vocab_size()) {
        let talk = |seed| {
            let options = ChatOptions { sampling: Sampling { seed, ..Sampling::default() }, tokens: 12, ..names() };
            let mut chat = Chat::new(&model, &tokenizer, options).unwrap();
            let replies = ["the", "old bell", "rang"].map(|turn| send(&mut chat, turn).content);
            (replies, chat)
        };
        let ((one, mut chat), (two, _), (three, _)) = (talk(1), talk(1), talk(2));
        assert_eq!(one, two);
        assert_ne!(one, three);
        // Another reply to the same turn is another one; the first comes again when the turn is said anew.
        let other = chat.retry(&mut |_, _| ControlFlow::Continue(())).unwrap().unwrap().content;
        assert_ne!(other, one[2]);
        chat.undo();
        assert_eq!(send(&mut chat, "rang").content, one[2]);
    }
}

#[test]
fn conversations_are_kept() {
    let tokenizer = letters();
    let (model, read) = scripted(&tokenizer, &tokenizer.encode(" ab\nUser:"), None);
    let mut chat = Chat::new(&model, &tokenizer, ChatOptions { system: "s".into(), ..names() }).unwrap();
    let _ = ["x", "y \"z\"\n!"].map(|turn| send(&mut chat, turn));
    let (dir, text) = (tempfile::tempdir().unwrap(), read.text(&tokenizer));
    let path = dir.path().join("talk.jsonl");
    write_history(&path, &chat.messages()).unwrap();
    let mut other = Chat::new(&model, &tokenizer, names()).unwrap();
    other.load(&read_history(&path).unwrap()).unwrap();
    assert_eq!(other.messages(), chat.messages());
    send(&mut other, "w");
    assert!(read.text(&tokenizer).starts_with(&text), "a conversation taken up is another one");
    for (line, words) in [
        ("{\"role\":\"user\"}", "line 1"),
        ("[", "line 1"),
        ("{\"role\":\"assistant\",\"content\":\"a\"}", "begins"),
        ("{\"role\":\"user\",\"content\":\"a\"}", "ends with"),
    ] {
        std::fs::write(&path, line).unwrap();
        let error = read_history(&path).and_then(|turns| other.load(&turns)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(other.messages().len(), 7);
    let turns = [(Role::User, "a"), (Role::User, "b"), (Role::Assistant, "c"), (Role::Assistant, "d")];
    other.load(&turns.map(|(role, text)| Message::new(role, text))).unwrap();
    let kept: Vec<_> = other.messages().into_iter().map(|m| m.content).collect();
    assert_eq!(kept, ["s", "a\nb", "c\nd"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Whatever is said, written, taken back and tried again: what is shown is the reply, no marker is in it, the
    /// context is never exceeded (the session asserts it), the system's text stays, and with an unbounded context
    /// each token is read once as long as nothing is taken back.
    #[test]
    fn any_conversation(
        script in "( ?[a-c]{1,9}[.!]?|\n|\n\nUser:|\nUser: |\nAssistant:|\nUse|END|<|im_end){1,30}",
        turns in prop::collection::vec(("[a-z \n]{0,20}", 0usize..6), 1..12),
        context in prop::option::of(40usize..200), tokens in 1usize..60, stops in prop::option::of("E|END|b"),
        chatml: bool
    ) {
        let tokenizer = letters();
        let (model, read) = scripted(&tokenizer, &tokenizer.encode(&script), context);
        let format = if chatml { ChatFormat::chatml() } else { names().format };
        let stop: Vec<String> = stops.into_iter().collect();
        let system = if chatml { "" } else { "So." };
        let options = ChatOptions { format, system: system.into(), tokens, stop: stop.clone(), ..names() };
        let mut chat = Chat::new(&model, &tokenizer, options).unwrap();
        let mut again = !stop.is_empty();
        for (turn, then) in &turns {
            let before = chat.messages();
            let reply = send(&mut chat, turn);
            prop_assert!(reply.tokens <= tokens && !stop.iter().any(|stop| reply.content.contains(stop)));
            let markers = if chatml { ["<|im_end|>", "<|im_start|>user"] } else { ["\nUser:", "\nAssistant:"] };
            prop_assert!(!markers.iter().any(|marker| reply.content.contains(marker)), "{:?}", reply);
            prop_assert_eq!(chat.messages().len(), before.len() + 2);
            let text = read.text(&tokenizer);
            prop_assert!(text.starts_with(&format!("<|endoftext|>{system}")), "{}", text);
            match then {
                0 => {
                    chat.undo();
                    prop_assert_eq!(chat.messages(), before);
                    again = true;
                }
                1 => {
                    chat.retry(&mut |_, _| ControlFlow::Continue(())).unwrap();
                    prop_assert_eq!(chat.messages().len(), before.len() + 2);
                    again = true;
                }
                _ => {}
            }
        }
        if context.is_none() && !again && !script.contains("\nA") {
            prop_assert_eq!(read.fed(), read.streams.lock().unwrap()[0].len());
        }
    }
}

/// A reply that a server writes, with a session of its own, is the chat's; also where old exchanges had to go.
#[test]
fn a_reply_by_itself_is_that_of_the_chat() {
    let tokenizer = small_tokenizer();
    for (which, model) in models(tokenizer.vocab_size()).into_iter().enumerate() {
        let options = |tokens| ChatOptions {
            format: ChatFormat::names("a", "b").unwrap(),
            system: String::new(),
            sampling: Sampling { seed: 5, repetition_penalty: 1.2, presence_penalty: 0.3, ..Sampling::default() },
            tokens,
            stop: vec!["zz".into()],
        };
        // A reply that outgrows a GPT-2's context is not the same: the context is 16.
        let tokens = if which == 0 { 2 } else { 40 };
        let (mut said, mut forgotten) = (vec![Message::new(Role::System, "on")], 0);
        for turn in ["who", "an", "the", "no", "bell"] {
            let mut chat = Chat::new(&model, &tokenizer, options(tokens)).unwrap();
            chat.load(&said).unwrap();
            said.push(Message::new(Role::User, turn));
            let (prompt, number) = Prompt::of_chat(&model, &tokenizer, options(tokens), &said).unwrap();
            let mut session = model.clone().session(1).unwrap();
            session.feed(0, &prompt.context()).unwrap();
            let (mut text, mut scratch) = (Writing::new(&Arc::new(prompt), number), Scratch::default());
            let mut shown = String::new();
            while text.finished().is_none() {
                let token = text.next(&mut scratch, session.log_probs(0));
                shown.push_str(&text.fresh());
                if let Some(token) = token.filter(|_| text.finished().is_none()) {
                    session.step(&[0], &[token.id]).unwrap();
                }
            }
            let on_text: OnText<'_> = &mut |_, _| ControlFlow::Continue(());
            let reply = chat.send(turn, on_text).unwrap();
            assert_eq!((&reply.content, reply.tokens), (&shown, text.written().len()), "{turn}");
            assert_eq!(text.sample().finish_reason, reply.finish_reason);
            said.push(Message::new(Role::Assistant, reply.content));
            forgotten = chat.forgotten();
        }
        assert!(which == 1 || forgotten > 0, "nothing had to go");
        let due = |said: &[Message]| Prompt::of_chat(&model, &tokenizer, options(4), said).is_err();
        assert!(due(&said) && due(&[]) && due(&[Message::new(Role::System, "on")]));
    }
}
