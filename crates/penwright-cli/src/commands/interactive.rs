//! `penwright generate --interactive`: plain lines, so that it works in any terminal, through pipes and with screen
//! readers. The dialogue goes to standard error; at the end the whole text goes to standard output.

use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;

use crossterm::style::Stylize;
use penwright::generate::{Interactive, Length, Offer, Sampling};
use penwright::run::Run;

use super::Failure;

/// Continuations offered at a time.
const OFFERS: usize = 8;

const HELP: &str = "  1 2 3 …  take the offer of that number
  +text    add text exactly as it stands after the plus
  text     add text; a space goes before a word unless the text already ends with one
  (empty)  let the model run on; r N for N tokens
  b        back one step
  ?        this help
  q        quit; the whole text goes to standard output";

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Request<'a> {
    Take(usize),
    Type(&'a str),
    /// Text that is a word of its own.
    TypeWord(&'a str),
    Run(Option<usize>),
    Back,
    Help,
    Quit,
}

fn parse(line: &str) -> Request<'_> {
    if let Some(text) = line.strip_prefix('+') {
        return Request::Type(text);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [] | ["r"] => Request::Run(None),
        ["b"] => Request::Back,
        ["?"] => Request::Help,
        ["q"] => Request::Quit,
        ["r", n] if n.parse::<usize>().is_ok() => Request::Run(n.parse().ok()),
        [n] if n.parse::<usize>().is_ok() => Request::Take(n.parse().unwrap_or(0)),
        _ => Request::TypeWord(line),
    }
}

pub(super) fn run(run: &Run, prompt: &str, sampling: &Sampling) -> Result<(), Failure> {
    let mut shared = Interactive::new(&run.model, &run.tokenizer, prompt, OFFERS, sampling)?;
    let length = Length::default_for(run.tokenizer.level()).most_tokens() / 5;
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (mut lines, mut show) = (io::stdin().lock().lines(), true);
    loop {
        if show {
            eprintln!("\n{}", shared.text());
            print_offers(shared.offers()?, coloured);
        }
        eprint!("number, text, +exact text, Enter: run on {length}, r N, b: back, ?: help, q: quit > ");
        io::stderr().flush()?;
        let Some(line) = lines.next().transpose().map_err(penwright::Error::io("read", "standard input"))? else {
            break;
        };
        show = true;
        match parse(&line) {
            Request::Quit => break,
            Request::Help => {
                eprintln!("{HELP}");
                show = false;
            }
            Request::Back => {
                if !shared.back()? {
                    eprintln!("there is nothing to take back");
                    show = false;
                }
            }
            Request::Take(number) => {
                let count = shared.offers()?.len();
                if (1..=count).contains(&number) {
                    shared.take(number - 1)?;
                } else {
                    eprintln!("there is no offer {number}; to add a number as text, type +{number}");
                    show = false;
                }
            }
            Request::Type(text) => shared.type_text(text)?,
            Request::TypeWord(word) => shared.type_text(&spaced(&shared.text(), word))?,
            Request::Run(tokens) => shared.run(tokens.unwrap_or(length), &mut |_, _| ControlFlow::Continue(()))?,
        }
    }
    eprintln!();
    writeln!(io::stdout(), "{}", shared.text())?;
    Ok(())
}

/// The word with a space before it where it would run into the text.
fn spaced(text: &str, word: &str) -> String {
    let apart = text.is_empty() || text.ends_with(char::is_whitespace) || !word.starts_with(char::is_alphanumeric);
    if apart { word.into() } else { format!(" {word}") }
}

fn print_offers(offers: &[Offer], coloured: bool) {
    if offers.is_empty() {
        eprintln!("(the model would end the text here)");
    }
    for (i, offer) in offers.iter().enumerate() {
        let (number, share) = (format!("{:>3}", i + 1), format!("{:>5.1} %", 100.0 * offer.probability));
        let text = offer.text.replace('\n', "↵");
        match coloured {
            true => eprintln!("{}  {}  {text}", number.bold(), share.dark_grey()),
            false => eprintln!("{number}  {share}  {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_help_says() {
        for (line, request) in [
            ("3", Request::Take(3)),
            (" 12 ", Request::Take(12)),
            ("+3", Request::Type("3")),
            ("+ and", Request::Type(" and")),
            ("", Request::Run(None)),
            ("r", Request::Run(None)),
            ("r 40", Request::Run(Some(40))),
            ("r us", Request::TypeWord("r us")),
            ("b", Request::Back),
            ("back again", Request::TypeWord("back again")),
            ("3 bells", Request::TypeWord("3 bells")),
            ("?", Request::Help),
            ("q", Request::Quit),
        ] {
            assert_eq!(parse(line), request, "{line}");
        }
        assert_eq!([spaced("the", "old"), spaced("the ", "old"), spaced("the", ", old")], [" old", "old", ", old"]);
    }
}
