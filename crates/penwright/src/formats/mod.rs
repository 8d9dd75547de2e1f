//! The formats in which the world keeps GPT-2: Hugging Face's directories, llama.cpp's GGUF.

pub(crate) mod hf;
