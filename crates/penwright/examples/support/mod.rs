//! The command line of the examples that measure decoding.

use penwright::generate::Precision;

/// `MODEL [--NAME VALUE]…`.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    /// Those of the program.
    pub(crate) fn read() -> Self {
        Arguments(std::env::args().skip(1).collect())
    }

    /// The model's name.
    pub(crate) fn model(&self) -> Result<&str, &'static str> {
        self.0.first().map(String::as_str).ok_or("give MODEL")
    }

    /// The value after `name`.
    pub(crate) fn option(&self, name: &str, default: &str) -> String {
        let at = self.0.iter().position(|argument| argument == name);
        at.and_then(|at| self.0.get(at + 1).cloned()).unwrap_or(default.into())
    }
}

/// A precision by its name.
pub(crate) fn precision(name: &str) -> Precision {
    match name {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        "int8" => Precision::Int8,
        "int4" => Precision::Int4,
        _ => Precision::Auto,
    }
}
