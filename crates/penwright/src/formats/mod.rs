//! The formats in which the world keeps GPT-2: Hugging Face's directories, PEFT's adapters, llama.cpp's GGUF.

pub(crate) mod gguf;
pub(crate) mod hf;
pub(crate) mod peft;
