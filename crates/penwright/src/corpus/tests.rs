//! The whole way from files to texts, and every kind of bad input.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn get(inputs: &[PathBuf]) -> Result<Corpus> {
    read(inputs, &ReadOptions::default(), &mut |_| {})
}

fn error(path: PathBuf) -> String {
    let error = get(&[path]).unwrap_err().to_string();
    assert!(!error.contains('\n'), "one sentence: {error}");
    error
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// A zip archive of stored files.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut crc = flate2::Crc::new();
        crc.update(content.as_bytes());
        let mut head = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for number in [crc.sum(), content.len() as u32, content.len() as u32, name.len() as u32] {
            head.extend(number.to_le_bytes());
        }
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&head);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&head);
        out.extend(name.bytes().chain(content.bytes()));
    }
    let (at, count) = (out.len() as u32, files.len() as u16);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes().into_iter().chain(count.to_le_bytes()));
    out.extend((directory.len() as u32).to_le_bytes().into_iter().chain(at.to_le_bytes()).chain([0, 0]));
    out
}

fn epub() -> Vec<u8> {
    let package = r#"<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i">
        <metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="i">x</dc:identifier><dc:title>T</dc:title>
        <dc:language>en</dc:language></metadata><manifest>
        <item id="one" href="1.xhtml" media-type="application/xhtml+xml"/>
        <item id="two" href="text/2.xhtml" media-type="application/xhtml+xml"/>
        <item id="ad" href="ad.xhtml" media-type="application/xhtml+xml"/>
        <item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/></manifest>
        <spine><itemref idref="nav"/><itemref idref="two"/><itemref idref="ad" linear="no"/><itemref idref="one"/></spine></package>"#;
    let page = |text: &str| {
        format!(
            "<?xml version='1.0' encoding='UTF-8'?>\n<html xmlns='http://www.w3.org/1999/xhtml'><head><title/></head>\
             <body>{text}</body></html>"
        )
    };
    zip(&[
        ("mimetype", "application/epub+zip"),
        (
            "META-INF/container.xml",
            r#"<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
            <rootfile full-path="o/p.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"#,
        ),
        ("o/p.opf", package),
        ("o/1.xhtml", &page("<h2>Second</h2><p>It en\u{ad}ded.</p>")),
        ("o/text/2.xhtml", &page("<h2>First</h2><p>It\nbegan &amp; went on.</p>")),
        ("o/ad.xhtml", &page("<p>Buy!</p>")),
        ("o/nav.xhtml", &page("<nav><ol><li>First</li></ol></nav>")),
    ])
}

const EPUB_TEXT: &str = "First\n\nIt began & went on.\n\n\nSecond\n\nIt ended.\n";

#[test]
fn every_format_plain_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    let records = b"\xef\xbb\xbf{\"text\": \"one\", \"id\": 7}\n\n{\"text\": \"two\\r\\nlines\"}\n{\"text\": \"one\"}\n{\"text\": null}";
    let forms: [(&str, Vec<u8>, Vec<&str>); 5] = [
        ("a.txt", b"plain\r\ntext\r\n".to_vec(), vec!["plain\ntext\n"]),
        ("a.md", b"# A\n\n* b\n".to_vec(), vec!["# A\n\n* b\n"]),
        ("a.HTML", b"<p>one<p>two".to_vec(), vec!["one\n\ntwo\n"]),
        ("a.epub", epub(), vec![EPUB_TEXT]),
        ("a.jsonl", records.to_vec(), vec!["one", "two\nlines"]),
    ];
    for (name, bytes, expected) in forms {
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        for (ending, bytes) in [
            ("", bytes.clone()),
            (".gz", gz(&bytes)),
            (".gz", [gz(head), gz(tail)].concat()),
            (".zst", zst(&bytes)),
            (".zst", [b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zst(head), zst(tail)].concat()),
        ] {
            let corpus = get(&[put(dir.path(), &format!("{name}{ending}"), &bytes)]).unwrap();
            assert_eq!(corpus.texts(), expected, "{name}{ending}");
            // A name that says nothing: the content decides, where it can.
            if !name.ends_with(".HTML") {
                assert_eq!(get(&[put(dir.path(), "unnamed", &bytes)]).unwrap().texts(), expected, "{name}{ending}");
            }
        }
    }
    let corpus = get(&[dir.path().join("a.jsonl")]).unwrap();
    let file = &corpus.report().read[0];
    assert_eq!((file.documents, file.copies, file.empty, file.chars), (2, 1, 1, 12));
}

#[test]
fn folders_keep_order_and_report_what_fails() {
    let dir = tempfile::tempdir().unwrap();
    for i in (0..30).rev() {
        put(dir.path(), &format!("{i:02}.txt"), format!("text {i}"));
    }
    put(dir.path(), "05.txt", "text 4");
    put(dir.path(), "06.txt.gz", &gz(b"cut off")[..15]);
    put(dir.path(), "07.epub", b"PK\x03\x04rubbish");
    put(dir.path(), "08.html", b"\0\x01\x02");
    put(dir.path(), "09.jsonl", "{\"text\": \"half\"}\nno\n");
    put(dir.path(), "10.png", "x");
    put(dir.path(), "11.md", " \n");
    let mut files = Vec::new();
    let options = ReadOptions::default();
    let corpus = read(&[dir.path().to_path_buf()], &options, &mut |p| files.push((p.files, p.of))).unwrap();
    let expected: Vec<_> = (0..30).filter(|i| *i != 5).map(|i| format!("text {i}")).collect();
    assert_eq!(corpus.texts(), expected);
    let skipped: Vec<_> = corpus.report().skipped.iter().map(|s| s.reason.as_str()).collect();
    for reason in
        ["not .txt", "same text as", "ends too early", "no EPUB", "zero bytes", "line 2 is not a JSON", "no text in it"]
    {
        assert_eq!(skipped.iter().filter(|s| s.contains(reason)).count(), 1, "{reason} in {skipped:?}");
    }
    assert_eq!((skipped.len(), files.last()), (7, Some(&(35, 35))));
    assert!(corpus.documents().all(|d| d.name.ends_with(".txt")));
}

#[test]
fn a_corpus_beyond_its_memory_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.txt", "ä first\n");
    put(dir.path(), "b.jsonl", "{\"text\": \"second\"}\n{\"text\": 3}\n");
    put(dir.path(), "c.jsonl", "{\"text\": \"second\"}\n{\"text\": \"thïrd\"}\n");
    let small = get(&[dir.path().to_path_buf()]).unwrap();
    for memory in 0..24 {
        let options = ReadOptions { memory, ..ReadOptions::default() };
        let mapped = read(&[dir.path().to_path_buf()], &options, &mut |_| {}).unwrap();
        assert_eq!(mapped.documents().collect::<Vec<_>>(), small.documents().collect::<Vec<_>>());
        assert_eq!((mapped.chars(), mapped.bytes(), mapped.report()), (19, 21, small.report()));
        assert_eq!(mapped.split(0.3).unwrap(), small.split(0.3).unwrap());
    }
    let names: Vec<_> = small.documents().map(|d| d.name.rsplit('/').next().unwrap().to_string()).collect();
    assert_eq!(names, ["a.txt", "c.jsonl:1", "c.jsonl:2"], "a file is read whole or not at all");
}

#[test]
fn held_out_texts_have_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    let held_out = put(dir.path(), "b.txt", "held out");
    put(dir.path(), "a.txt", "other");
    let except = get(std::slice::from_ref(&held_out)).unwrap().hashes();
    let options = ReadOptions { except, ..ReadOptions::default() };
    assert_eq!(read(&[dir.path().to_path_buf()], &options, &mut |_| {}).unwrap().texts(), ["other"]);
    let nothing = read(&[held_out], &options, &mut |_| {}).unwrap_err().to_string();
    assert!(nothing.contains("held out"), "{nothing}");
}

#[test]
fn bad_input_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let long = "many words of text ".repeat(1000);
    for (name, bytes, says) in [
        ("a.txt", &b""[..], "no text in"),
        ("b.txt", b" \r\n\t", "there is no text in it"),
        ("c.bin", b"\x7fELF\x02\x01\x01\0\0\0\0", "not text"),
        ("d.txt", b"\x01\x02\x03\x04 a few controls", "not text"),
        ("e.gz", b"", "empty"),
        ("e.txt.gz", b"text", "not packed"),
        ("f.txt.gz", &gz(long.as_bytes())[..60], "ends too early"),
        ("g.txt.zst", &zst(long.as_bytes())[..40], "ends too early"),
        ("h.txt.zst", b"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "zst file"),
        ("i.epub", &epub()[..900], "EPUB"),
        ("j.epub", b"text", "EPUB"),
        ("k.docx", &zip(&[("word/document.xml", "<w/>")]), "EPUB"),
        ("l.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"b\"\n", "line 2 is not a JSON object"),
        ("m.jsonl", b"{\"body\": \"a\"}\n", "line 1 has no field \"text\" (its fields: \"body\")"),
        ("n.jsonl", b"{\"text\": 1}\n", "line 1: the field \"text\" is not a string"),
        ("o.jsonl", b"\n\n[1]", "line 3 is not a JSON object"),
        ("p.pdf", b"%PDF-1.7\n", "PDF"),
    ] {
        let error = error(put(folder, name, bytes));
        assert!(error.contains(says) && error.contains(name), "{says}: {error}");
    }
    assert!(error(folder.join("missing.txt")).contains("check the path"));
    put(folder, "empty/x.png", "x");
    assert!(error(folder.join("empty")).contains("no .txt"));
    assert!(get(&[]).unwrap_err().to_string().contains("no text in nothing"));
    let one = get(&[put(folder, "one.txt", "x")]).unwrap();
    assert_eq!(one.texts(), ["x"]);
    assert!(one.split(0.1).unwrap_err().to_string().contains("too short"));
    assert!(one.split(f64::NAN).is_err() && one.split(1.0).is_err());

    let options = ReadOptions { max_document: Some(100), ..ReadOptions::default() };
    for (name, bytes) in [("q.txt", long.as_bytes().to_vec()), ("r.txt.gz", gz(long.as_bytes())), ("s.epub", epub())] {
        let large = read(&[put(folder, name, bytes)], &options, &mut |_| {}).unwrap_err().to_string();
        assert!(large.contains("larger than 100 B"), "{large}");
    }
    let bomb = gz(&vec![b' '; 70 << 20]);
    assert!(error(put(folder, "t.txt.gz", bomb)).contains("250 times its size"));
}

#[test]
fn another_field_and_kept_wrapping() {
    let dir = tempfile::tempdir().unwrap();
    let path = put(dir.path(), "a.jsonl", "{\"body\": \"b\", \"text\": \"t\"}\n");
    let options = ReadOptions { field: "body".into(), ..ReadOptions::default() };
    assert_eq!(read(&[path], &options, &mut |_| {}).unwrap().texts(), ["b"]);
    let wrapped =
        "and then the long line of words was ended at the margin by the\nprogram that wrapped it and\n".repeat(9);
    let path = put(dir.path(), "b.txt", &wrapped);
    let options = ReadOptions { keep_wrapping: true, ..ReadOptions::default() };
    assert_eq!(read(std::slice::from_ref(&path), &options, &mut |_| {}).unwrap().texts(), [&wrapped]);
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
    }
    path.exists().then_some(path)
}

#[test]
fn a_play_in_verse_comes_through_unchanged() {
    let Some(path) = shared("tinyshakespeare.txt") else { return };
    let corpus = get(std::slice::from_ref(&path)).unwrap();
    assert!(corpus.texts() == [std::fs::read_to_string(&path).unwrap()]);
    let (train, val) = corpus.split(0.1).unwrap();
    assert_eq!((train[0].chars().count(), val[0].chars().count()), (1_003_854, 111_540));
}

#[test]
fn novels_are_joined_into_paragraphs() {
    let Some(folder) = shared("novels") else { return };
    let corpus = get(&[folder]).unwrap();
    let options = ReadOptions { keep_wrapping: true, ..ReadOptions::default() };
    assert!(corpus.report().skipped.is_empty() && corpus.report().read.len() == 13);
    for document in corpus.documents() {
        let kept = read(&[PathBuf::from(&document.name)], &options, &mut |_| {}).unwrap();
        let (before, after) = (kept.texts()[0].to_string(), document.text);
        assert!(before.split_whitespace().collect::<String>() == after.split_whitespace().collect::<String>());
        // Paragraphs, parted by empty lines, stay the same in number and content.
        let paragraphs = |text: &str| {
            let parts = text.split("\n\n").map(|p| p.split_whitespace().collect::<String>());
            parts.filter(|p| !p.is_empty()).collect::<Vec<_>>()
        };
        assert!(paragraphs(&before) == paragraphs(after), "{}", document.name);
        // Of the line ends within paragraphs hardly any that ends a long line in the middle of a sentence is left.
        let broken = |text: &str| {
            let lines: Vec<_> = text.lines().collect();
            let cut = |pair: &[&str]| {
                pair[0].len() > 55 && pair[0].ends_with(char::is_lowercase) && pair[1].starts_with(char::is_lowercase)
            };
            lines.windows(2).filter(|pair| cut(pair)).count()
        };
        assert!(broken(after) * 50 < broken(&before), "{}: {} of {}", document.name, broken(after), broken(&before));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Rubbish of every kind is read or refused in one line, never a panic.
    #[test]
    fn random_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        text in "([<>/a-z\"&;{}: \n-]|\\PC){0,200}",
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let damage = |mut bytes: Vec<u8>| {
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes
        };
        let whole = damage(epub());
        let packed = [damage(gz(text.as_bytes())), damage(zst(text.as_bytes()))];
        for name in ["a.txt", "a.md", "a.html", "a.epub", "a.jsonl", "a.txt.gz", "a.jsonl.zst", "a"] {
            for content in [&bytes, text.as_bytes(), &whole, &packed[0], &packed[1]] {
                if let Err(error) = get(&[put(dir.path(), name, content)]) {
                    prop_assert!(!error.to_string().contains('\n'), "{}", error);
                }
            }
        }
    }
}
