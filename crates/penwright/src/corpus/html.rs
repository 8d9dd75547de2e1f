//! HTML and XHTML to plain text by html2text: paragraphs and headings apart by an empty line, no marks.

use html2text::config;
use html2text::render::TextDecorator;

/// Wider than any paragraph, so that none is wrapped.
const WIDTH: usize = 1 << 30;

/// The text of an HTML document: no wrapping, no marks of emphasis, links or headings; scripts and styles dropped,
/// entities decoded, at most one empty line in a row.
///
/// # Errors
/// What is wrong, when it cannot be read.
pub(super) fn text(html: &str) -> Result<String, String> {
    let html = plain_tags(html);
    let text = config::with_decorator(Bare)
        .raw_mode(true)
        .allow_width_overflow()
        .no_link_wrapping()
        .link_footnotes(false)
        .string_from_read(html.as_bytes(), WIDTH)
        .map_err(|error| format!("cannot be read as HTML ({error}); save it as text"))?;
    let mut tidy = String::with_capacity(text.len());
    let mut empty = 2;
    for line in text.lines() {
        let line = line.trim_end();
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    Ok(if tidy.trim().is_empty() { String::new() } else { tidy.trim_end().to_string() + "\n" })
}

/// Elements that stand apart like `div`, though html2text does not know them.
const BLOCKS: [&str; 16] = [
    "address",
    "article",
    "aside",
    "center",
    "details",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hgroup",
    "main",
    "nav",
    "section",
    "summary",
];
/// Elements whose content is not markup: in XHTML `<script/>` is whole, in HTML it would swallow all that follows.
const OPAQUE: [&str; 6] = ["iframe", "noscript", "script", "style", "textarea", "title"];

/// Where the end of a tag is looked for, so that a page without ends takes no quadratic time.
const LONGEST_TAG: usize = 4096;

/// Names unknown block elements `div` and closes elements that XHTML closes in place.
fn plain_tags(html: &str) -> String {
    let mut plain = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        plain.push_str(before);
        let slash = if tag[1..].starts_with('/') { 2 } else { 1 };
        let len = tag[slash..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let name = tag[slash..slash + len].to_ascii_lowercase();
        if BLOCKS.contains(&&*name) {
            plain.push_str(&tag[..slash]);
            plain.push_str("div");
            rest = &tag[slash + len..];
            continue;
        }
        if slash == 1
            && OPAQUE.contains(&&*name)
            && let Some(end) = tag.bytes().take(LONGEST_TAG).position(|b| b == b'>')
            && tag[..end].ends_with('/')
        {
            plain.push_str(&tag[..end - 1]);
            plain.push_str("></");
            plain.push_str(&name);
            rest = &tag[end..];
            continue;
        }
        plain.push_str(&tag[..slash + len]);
        rest = &tag[slash + len..];
    }
    plain.push_str(rest);
    plain
}

/// Adds nothing to the text but the numbers of numbered lists.
struct Bare;

fn nothing() -> (String, ()) {
    (String::new(), ())
}

impl TextDecorator for Bare {
    type Annotation = ();

    fn decorate_link_start(&mut self, _: &str) -> (String, ()) {
        nothing()
    }
    fn decorate_link_end(&mut self) -> String {
        String::new()
    }
    fn decorate_em_start(&self) -> (String, ()) {
        nothing()
    }
    fn decorate_em_end(&self) -> String {
        String::new()
    }
    fn decorate_strong_start(&self) -> (String, ()) {
        nothing()
    }
    fn decorate_strong_end(&self) -> String {
        String::new()
    }
    fn decorate_strikeout_start(&self) -> (String, ()) {
        nothing()
    }
    fn decorate_strikeout_end(&self) -> String {
        String::new()
    }
    fn decorate_code_start(&self) -> (String, ()) {
        nothing()
    }
    fn decorate_code_end(&self) -> String {
        String::new()
    }
    fn decorate_superscript_start(&self) -> (String, ()) {
        nothing()
    }
    fn decorate_superscript_end(&self) -> String {
        String::new()
    }
    fn decorate_preformat_first(&self) {}
    fn decorate_preformat_cont(&self) {}
    fn decorate_image(&mut self, _: &str, _: &str) -> (String, ()) {
        nothing()
    }
    fn header_prefix(&self, _: usize) -> String {
        String::new()
    }
    fn quote_prefix(&self) -> String {
        String::new()
    }
    fn unordered_item_prefix(&self) -> String {
        String::new()
    }
    fn ordered_item_prefix(&self, i: i64) -> String {
        format!("{i}. ")
    }
    fn make_subblock_decorator(&self) -> Self {
        Bare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_remains() {
        let html = "<html><head><title>No</title><style>p{}</style></head><body><script>no()</script>\
            <h1>One &amp; <em>two</em></h1><p>A <a href='x'>link</a>,\n a <b>bold</b> word&nbsp;&mdash; H<sub>2</sub>O<sup>3</sup>.\
            <p>Verse<br>second line</p><hr><ul><li>first</li><li>second</li></ul><ol><li>a</li><li>b</li></ol>\
            <blockquote>Quoted</blockquote><table><tr><td>cell 1</td><td>cell 2</td></tr></table>\
            <section>apart</section><article>from this</article><img src=x alt=picture><pre>  kept\n  as is</pre></body></html>";
        let expected = "One & two\n\nA link, a bold word\u{a0}\u{2014} H2O\u{b3}.\n\nVerse\nsecond line\nfirst\nsecond\n1. a\n2. b\n\n\
            Quoted\n\ncell 1\ncell 2\napart\nfrom this\n\n  kept\n  as is\n";
        assert_eq!(text(html).unwrap(), expected);
    }

    #[test]
    fn nothing_is_wrapped_and_nothing_swallowed() {
        let long = "word ".repeat(40_000);
        assert_eq!(text(&format!("<p>{long}</p>")).unwrap().lines().count(), 1);
        let xhtml = "<html><head><title/><script src='a.js' /></head><body><p>Here.</p></body></html>";
        assert_eq!(text(xhtml).unwrap(), "Here.\n");
        assert_eq!(text("").unwrap(), "");
        assert_eq!(text("<p> </p>").unwrap(), "");
    }

    #[test]
    fn deep_nesting_is_survived() {
        let deep = "<div>".repeat(50_000) + "core";
        let _ = text(&deep);
        let _ = text(&("<b><table><td>".repeat(300) + "core"));
        let _ = text(&("<ul><li><blockquote>".repeat(2_000) + "core"));
    }
}
