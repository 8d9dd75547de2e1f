//! `penwright chat`: plain lines, so that it works in any terminal, through pipes and with screen readers. Replies go to
//! standard output; on a terminal, prompts and remarks go to standard error.

use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use penwright::Error;
use penwright::generate::{
    Chat, ChatFormat, ChatOptions, FinishReason, Length, Markers, OnText, Reply, clean_prompt, read_history,
    write_history,
};
use penwright::run::Run;
use ratatui::crossterm::style::Color;
use serde_json::json;

use super::Failure;
use super::generate::read_prompt;
use crate::args::{Chat as Args, Cli};
use crate::color::Brush;

const HELP: &str = "  /undo         take back the last exchange
  /retry        another reply to the last turn
  /system TEXT  tell the model something else before the first turn
  /save FILE    write the conversation, one turn a line
  /quit         leave, as Ctrl-D does
  text\\         goes on in the next line; //text is a turn that begins with a slash";

pub(super) fn run(cli: &Cli, args: &Args) -> Result<(), Failure> {
    let sampling = args.choice.sampling(args.seed);
    sampling.check()?;
    if args.system_file.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(Failure::Usage("--system-file: standard input has the turns; give a file".into()));
    }
    let system = match &args.system_file {
        Some(path) => Some(read_prompt(path)?),
        None => args.system.as_deref().map(clean_prompt),
    };
    ChatFormat::names(&args.user, &args.bot)?;
    let run = super::open_to_write(cli, &args.run, args.choice.precision)?;
    let format = format(args, &run)?;
    if cli.verbose {
        eprintln!("turns: {}", format.describe());
    }
    let options = ChatOptions {
        format,
        system: system.clone().unwrap_or_default(),
        sampling,
        tokens: args.tokens.unwrap_or(Length::default_for(run.tokenizer.level()).most_tokens()),
        stop: args.stop.clone(),
    };
    let mut chat = Chat::new(&run.model, &run.tokenizer, options)?;
    if let Some(path) = args.history.as_deref().filter(|path| path.exists()) {
        chat.load(&read_history(path)?).map_err(|error| match error {
            Error::Text(problem) => Error::damaged(path, problem),
            error => error,
        })?;
        if let Some(system) = &system {
            chat.set_system(system)?;
        }
    }
    let terminal = io::stdin().is_terminal() && !cli.json;
    Conversation {
        chat,
        history: args.history.clone(),
        names: [args.user.clone(), args.bot.clone()],
        terminal,
        json: cli.json,
        quiet: cli.quiet,
        printable: io::stdout().is_terminal(),
        prompts: cli.color.brush(&io::stderr()),
        replies: cli.color.brush(&io::stdout()),
        interrupt: Interrupt::listen(terminal)?,
    }
    .hold()
}

/// How turns are written, by the flags, the run's chat template or its vocabulary.
fn format(args: &Args, run: &Run) -> Result<ChatFormat, Failure> {
    let escapes = |marker: &Option<String>| marker.as_ref().map(|text| text.replace("\\n", "\n").replace("\\t", "\t"));
    let [user, bot, system, end] =
        [&args.user_marker, &args.bot_marker, &args.system_marker, &args.end_marker].map(escapes);
    if user.is_some() || bot.is_some() || system.is_some() || end.is_some() {
        return Ok(ChatFormat::markers(&Markers { user, bot, system, end }, &args.user, &args.bot)?);
    }
    let names = ChatFormat::names(&args.user, &args.bot)?;
    match args.markers.as_str() {
        "names" => Ok(names),
        "auto" => Ok(ChatFormat::of_model(&run.dir, &run.tokenizer).unwrap_or(names)),
        name => match ChatFormat::named(name) {
            Some(format) => Ok(format),
            None => {
                let template = std::fs::read_to_string(name).map_err(Error::io("read", name))?;
                let unknown = "is no chat template of a known kind; give the markers by --user-marker and --bot-marker";
                Ok(ChatFormat::recognise(&template).ok_or_else(|| Error::damaged(name, unknown))?)
            }
        },
    }
}

/// What Ctrl-C means at the moment.
struct Interrupt(Arc<AtomicU8>);

const WAITING: u8 = 0;
const WRITING: u8 = 1;
const STOPPED: u8 = 2;

impl Interrupt {
    /// On a terminal, Ctrl-C ends a reply, and leaves when no reply is being written; nothing is lost then, because the
    /// history is written after each. Elsewhere it ends the reply, and the program after it.
    fn listen(terminal: bool) -> Result<Self, Failure> {
        let state = Arc::new(AtomicU8::new(WAITING));
        let raised = state.clone();
        let handler = move || {
            if raised.compare_exchange(WRITING, STOPPED, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                if terminal {
                    eprintln!();
                }
                std::process::exit(130);
            }
        };
        super::train::listen(handler)?;
        Ok(Interrupt(state))
    }

    /// Whether it came.
    fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STOPPED
    }

    fn writing(&self) {
        self.0.store(WRITING, Ordering::Relaxed);
    }

    /// The reply is done: whether it came until this very moment. After it, it leaves.
    fn waiting(&self) -> bool {
        self.0.swap(WAITING, Ordering::Relaxed) == STOPPED
    }
}

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Request<'a> {
    Say(&'a str),
    Help,
    Undo,
    Retry,
    System(&'a str),
    Save(&'a str),
    Quit,
    Unknown(&'a str),
}

fn parse(line: &str) -> Request<'_> {
    let Some(command) = line.strip_prefix('/') else { return Request::Say(line) };
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match (word, rest.trim()) {
        ("help" | "?", _) => Request::Help,
        ("undo", _) => Request::Undo,
        ("retry", _) => Request::Retry,
        ("system", text) => Request::System(text),
        ("save", file) if !file.is_empty() => Request::Save(file),
        ("quit" | "exit" | "bye", _) => Request::Quit,
        _ if command.starts_with('/') => Request::Say(command),
        _ => Request::Unknown(line),
    }
}

struct Conversation<'a> {
    chat: Chat<'a>,
    history: Option<PathBuf>,
    names: [String; 2],
    /// A person types.
    terminal: bool,
    json: bool,
    quiet: bool,
    /// Replies go to a terminal, which control characters would upset.
    printable: bool,
    prompts: Brush,
    replies: Brush,
    interrupt: Interrupt,
}

impl Conversation<'_> {
    fn hold(mut self) -> Result<(), Failure> {
        let so_far = self.chat.messages().len();
        if self.terminal && !self.quiet {
            let known = if so_far > 0 { format!("; {so_far} turns so far") } else { String::new() };
            eprintln!("{}", self.prompts.dim(format!("/help for help, Ctrl-D to leave{known}")));
        }
        let mut input = io::stdin().lock();
        while let Some(turn) = self.turn(&mut input)? {
            let request = if self.json { Request::Say(&turn) } else { parse(&turn) };
            match request {
                Request::Say(text) if text.trim().is_empty() && !self.json => continue,
                Request::Quit => break,
                request => self.obey(request)?,
            }
        }
        Ok(())
    }

    /// The next turn, or none at the end.
    fn turn(&self, input: &mut impl BufRead) -> Result<Option<String>, Failure> {
        let mut turn = String::new();
        let mut prompt = format!("{}: ", self.names[0]);
        loop {
            if self.terminal {
                eprint!("{}", self.prompts.bold(&prompt));
                io::stderr().flush()?;
            }
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line).map_err(Error::io("read", "standard input"))?;
            if read == 0 {
                if self.terminal {
                    eprintln!();
                }
                return Ok(Some(turn).filter(|turn| !turn.is_empty()));
            }
            let line = String::from_utf8(line)
                .map_err(|_| Error::damaged("standard input", "is not UTF-8 text; convert it first"))?;
            turn.push_str(line.trim_end_matches(['\n', '\r']));
            if self.json || !turn.ends_with('\\') {
                return Ok(Some(turn));
            }
            turn.pop();
            turn.push('\n');
            prompt = "… ".into();
        }
    }

    fn obey(&mut self, request: Request<'_>) -> Result<(), Failure> {
        match request {
            Request::Say(text) => self.reply(|chat, on_text| chat.send(text, on_text).map(Some))?,
            Request::Retry => self.reply(|chat, on_text| chat.retry(on_text))?,
            Request::Undo => match self.chat.undo() {
                Some(turn) => {
                    self.remark(&format!("taken back: {}", first_line(&turn)));
                    self.save(self.history.as_deref())?;
                }
                None => self.remark("there is nothing to take back"),
            },
            Request::System(text) => match self.chat.set_system(text) {
                Ok(()) => self.save(self.history.as_deref())?,
                Err(error) => eprintln!("{error}"),
            },
            Request::Save(file) => match self.save(Some(Path::new(file))) {
                Ok(()) => self.remark(&format!("written to {file}")),
                Err(error) => eprintln!("{error}"),
            },
            Request::Help => eprintln!("{HELP}"),
            Request::Unknown(line) => eprintln!("{line:?} is no command; /help lists them"),
            Request::Quit => {}
        }
        Ok(())
    }

    /// Prints a reply as it comes.
    fn reply(
        &mut self,
        ask: impl FnOnce(&mut Chat<'_>, OnText<'_>) -> penwright::Result<Option<Reply>>,
    ) -> Result<(), Failure> {
        let (json, printable, brush) = (self.json, self.printable, self.replies);
        let (mut out, mut shown) = (io::stdout(), Ok(()));
        if self.terminal {
            eprint!("{}", self.prompts.bold(format!("{}: ", self.names[1])));
            io::stderr().flush()?;
        }
        self.interrupt.writing();
        let interrupt = &self.interrupt;
        let reply = ask(&mut self.chat, &mut |_, piece| {
            if !json && !piece.is_empty() && shown.is_ok() {
                let piece = if printable { safe(piece) } else { piece.to_string() };
                shown = write!(out, "{}", brush.color(piece, Color::Cyan)).and_then(|()| out.flush());
            }
            if shown.is_err() || interrupt.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        shown?;
        let Some(reply) = reply? else {
            self.remark("there is no reply yet");
            return self.replied();
        };
        if json {
            let Reply { content, tokens, finish_reason, .. } = &reply;
            let line =
                json!({"role": "assistant", "content": content, "tokens": tokens, "finish_reason": finish_reason});
            writeln!(out, "{line}")?;
        } else {
            writeln!(out)?;
        }
        out.flush()?;
        self.save(self.history.as_deref())?;
        self.tell(&reply);
        self.replied()
    }

    /// Ctrl-C while a reply was written also ends a conversation that nobody types.
    fn replied(&self) -> Result<(), Failure> {
        match self.interrupt.waiting() && !self.terminal {
            true => Err(Failure::Interrupted("interrupted; the reply ends where it was".into())),
            false => Ok(()),
        }
    }

    /// What a person should know about a reply.
    fn tell(&self, reply: &Reply) {
        match reply.dropped {
            0 => {}
            1 => self.remark("the model's context is full: it no longer sees the oldest exchange"),
            n => self.remark(&format!("the model's context is full: it no longer sees the {n} oldest exchanges")),
        }
        if reply.cut {
            self.remark("this exchange is longer than the model's context: it has seen only the end");
        }
        match reply.finish_reason {
            FinishReason::Length if self.terminal => self.remark("(--tokens reached)"),
            FinishReason::Cancelled if self.terminal => self.remark("(stopped)"),
            _ => {}
        }
    }

    fn remark(&self, text: &str) {
        if !self.quiet {
            eprintln!("{}", self.prompts.dim(text));
        }
    }

    fn save(&self, path: Option<&Path>) -> penwright::Result<()> {
        path.map_or(Ok(()), |path| write_history(path, &self.chat.messages()))
    }
}

/// The text without control characters other than line ends and tabs.
fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_help_says() {
        for (line, request) in [
            ("Hello", Request::Say("Hello")),
            ("/help", Request::Help),
            ("/undo", Request::Undo),
            ("/retry ", Request::Retry),
            ("/system  You are a bell. ", Request::System("You are a bell.")),
            ("/system", Request::System("")),
            ("/save my talk.jsonl", Request::Save("my talk.jsonl")),
            ("/save", Request::Unknown("/save")),
            ("/quit", Request::Quit),
            ("/ring", Request::Unknown("/ring")),
            ("//ring", Request::Say("/ring")),
            (" /undo", Request::Say(" /undo")),
        ] {
            assert_eq!(parse(line), request, "{line}");
        }
        assert_eq!(safe("a\u{1b}[31m\tb\nc"), "a\u{fffd}[31m\tb\nc");
    }
}
