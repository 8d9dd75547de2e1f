//! `penwright tokenize`.

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use penwright::corpus::{self, ReadOptions};
use penwright::tokenizer::{self, Tokenizer};
use ratatui::crossterm::style::Color;
use serde_json::json;

use super::{Failure, locate};
use crate::args::{Cli, Tokenize};
use crate::color::Brush;
use crate::live::words::{thousands, width};

/// Columns of the listing where the terminal does not tell.
const COLUMNS: usize = 80;

pub(super) fn run(cli: &Cli, args: &Tokenize) -> Result<(), Failure> {
    let (run, words) = match (args.level, args.words.split_first()) {
        (Some(_), _) => (None, &args.words[..]),
        (None, Some((run, words))) => (Some(run), words),
        (None, None) => return Err(Failure::Usage("give a run directory, or --level char, and a text".into())),
    };
    let text = match (words.is_empty(), &args.file) {
        (false, None) => words.join(" "),
        (false, Some(_)) => return Err(Failure::Usage("give the text or --file, not both".into())),
        (true, Some(path)) if path.as_os_str() != "-" => {
            let options = ReadOptions { keep_wrapping: true, ..ReadOptions::default() };
            corpus::read(std::slice::from_ref(path), &options, &mut |_| {})?.texts().concat()
        }
        (true, _) => standard_input()?,
    };
    let tokenizer = match (run, args.level) {
        (Some(run), _) => penwright::run::tokenizer(&locate(cli, Path::new(run))?)?,
        (None, level) => Tokenizer::train(level.map_or(tokenizer::Level::Char, Into::into), &[&text], None)?,
    };
    let tokens = tokenizer.encode(&text);
    let (count, chars) = (tokens.len(), text.chars().count());
    let ratio = if count > 0 { chars as f64 / count as f64 } else { 0.0 };
    let mut out = io::stdout().lock();
    if cli.json {
        let mut result = json!({
            "tokenizer": tokenizer.level(), "vocab_size": tokenizer.vocab_size(), "tokens": count, "chars": chars,
            "bytes": text.len(), "chars_per_token": ratio
        });
        if !args.count {
            result["ids"] = json!(tokens);
            result["pieces"] = tokens.iter().map(|&id| tokenizer.piece(id)).collect();
        }
        writeln!(out, "{result}")?;
        return Ok(());
    }
    let summary = format!(
        "{} tokens, {} characters, {} bytes; {ratio:.2} characters a token ({}, {} ids)",
        thousands(count as u64),
        thousands(chars as u64),
        thousands(text.len() as u64),
        tokenizer.level(),
        thousands(tokenizer.vocab_size() as u64)
    );
    if args.count {
        writeln!(out, "{summary}")?;
    } else if io::stdout().is_terminal() {
        let columns = ratatui::crossterm::terminal::size().map_or(COLUMNS, |size| usize::from(size.0));
        let pieces: Vec<_> = tokens.iter().map(|&id| (id, tokenizer.piece(id))).collect();
        interlinear(&pieces, columns, cli.color.brush(&io::stdout()), &mut out)?;
        writeln!(out, "{summary}")?;
    } else {
        for &id in &tokens {
            writeln!(out, "{id}\t{}", visible(&tokenizer.piece(id)))?;
        }
    }
    Ok(())
}

fn standard_input() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        eprintln!("Reading the text from the keyboard; Ctrl-D ends it.");
    }
    let mut raw = Vec::new();
    let read = io::stdin().read_to_end(&mut raw);
    read.map_err(|e| Failure::Failed(format!("cannot read standard input: {e}")))?;
    String::from_utf8(raw).map_err(|_| Failure::Failed("standard input is not UTF-8 text; convert it first".into()))
}

/// A piece whose spaces and line ends can be seen, in one line.
fn visible(piece: &str) -> String {
    piece
        .chars()
        .flat_map(|c| match c {
            ' ' => vec!['␣'],
            '\n' => vec!['↵'],
            '\t' => vec!['⇥'],
            c if c.is_control() => c.escape_default().collect(),
            c => vec![c],
        })
        .collect()
}

/// Pieces with their ids below, in columns.
fn interlinear(pieces: &[(u32, String)], columns: usize, brush: Brush, out: &mut dyn Write) -> io::Result<()> {
    let (mut above, mut below, mut used) = (String::new(), String::new(), 0);
    for (n, (id, piece)) in pieces.iter().enumerate() {
        let (piece, id) = (visible(piece), id.to_string());
        let wide = width(&piece).max(id.len());
        if used > 0 && used + wide > columns {
            writeln!(out, "{}\n{}\n", above.trim_end(), below.trim_end())?;
            (above, below, used) = (String::new(), String::new(), 0);
        }
        // Neighbours differ in colour, so that borders are seen.
        let color = if n % 2 == 0 { Color::Cyan } else { Color::Yellow };
        let pad = |text: &str| " ".repeat(wide - width(text) + 1);
        above += &(brush.color(&piece, color) + &pad(&piece));
        below += &(brush.dim(&id) + &pad(&id));
        used += wide + 1;
    }
    if used > 0 {
        writeln!(out, "{}\n{}\n", above.trim_end(), below.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::ColorChoice;

    #[test]
    fn pieces_are_seen() {
        let tokenizer = Tokenizer::train(tokenizer::Level::Char, &["The wind\tblew.\n"], None).unwrap();
        let show =
            |text: &str| tokenizer.encode(text).iter().map(|&id| visible(&tokenizer.piece(id))).collect::<Vec<_>>();
        assert_eq!(show("T \n\t"), ["T", "␣", "↵", "⇥"]);
        assert_eq!(show("é")[0], "<|escape|>");
        assert_eq!(tokenizer.piece(tokenizer.eot()), "<|endoftext|>");
        assert_eq!(tokenizer.piece(9999), "");
    }

    #[test]
    fn ids_stand_below_their_pieces_within_the_width() {
        let pieces: Vec<_> = [(1, "a"), (200, "海"), (3, "long")].map(|(id, piece)| (id, piece.to_string())).into();
        let brush = ColorChoice::Never.brush(&io::stdout());
        let mut out = Vec::new();
        interlinear(&pieces, 8, brush, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a 海\n1 200\n\nlong\n3\n\n");
    }
}
