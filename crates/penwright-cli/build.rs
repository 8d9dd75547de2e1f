//! Packs the embedded book, `assets/novel/*.txt` in order, into one gzip file for the binary.

use std::io::Write;
use std::path::Path;

fn main() {
    // Asked when it runs: a folder of targets may outlive the clone that this was compiled in.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let book = Path::new(&package).join("../../assets/novel");
    println!("cargo::rerun-if-changed={}", book.display());
    let entries = std::fs::read_dir(&book).expect("the folder of the embedded book is part of the sources");
    let mut chapters: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    chapters.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    chapters.sort();
    let texts = chapters.iter().map(|path| std::fs::read_to_string(path).expect("chapters are UTF-8 text"));
    let text = texts.map(|text| text.trim().to_string()).collect::<Vec<_>>().join("\n\n\n") + "\n";
    let mut packed = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    packed.write_all(text.as_bytes()).expect("memory");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("novel.gz"), packed.finish().expect("memory")).expect("a writable OUT_DIR");
}
