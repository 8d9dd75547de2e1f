//! A GPT-2 with its weights as a precision stores them.

use std::sync::{Arc, OnceLock};

use penwright_kernels::decode::{Format, Shape, Source, Weights};
use penwright_kernels::{Bf16, team};

use super::Gpt2Session;
use crate::Result;
use crate::layers::Layout;
use crate::model::decode::{DecodePrecision, hold};
use crate::model::gpt2::Gpt2;
use crate::model::gpt2::lora::PARTS;
use crate::model::{LanguageModel, ModelKind, Session, TokenScore, check_tokens};

/// The matrices of a model: those of each block in the order of [`PARTS`], adapters merged into them, then the output
/// layer.
#[derive(Debug)]
pub(in crate::model::gpt2) struct Decoding {
    pub(super) weights: Weights,
    pub(super) format: Format,
}

impl Decoding {
    /// And whether all numbers in them are finite.
    fn of(model: &Gpt2, precision: DecodePrecision) -> Result<(Self, bool)> {
        let format = precision.format(model.num_params());
        let linears: Vec<_> = (model.blocks.iter().flat_map(|block| PARTS.map(|part| part.of(block))))
            .chain([&model.head])
            .map(|linear| Shape { format, inputs: linear.inputs, outputs: linear.outputs })
            .collect();
        let (mut weights, mut finite) = (hold(linears)?, true);
        team(|| {
            for layer in 0..model.blocks.len() {
                for part in PARTS {
                    let matrix = layer * PARTS.len() + part as usize;
                    finite &= match model.merged_weight(layer, part) {
                        Some(merged) => weights.set(matrix, Source::InOut(&merged)),
                        None => weights.set(matrix, source(model, part.of(&model.blocks[layer]))),
                    };
                }
            }
            finite &= weights.set(model.blocks.len() * PARTS.len(), source(model, &model.head));
        });
        Ok((Decoding { weights, format }, finite))
    }
}

fn source<'a>(model: &'a Gpt2, linear: &crate::layers::Linear) -> Source<'a> {
    let w = &model.params.data[linear.weight.clone()];
    match linear.layout {
        Layout::InOut => Source::InOut(w),
        Layout::OutIn => Source::OutIn(w),
    }
}

/// The weights of a model's own sessions, made when the first begins. A copy begins without.
#[derive(Debug, Default)]
pub(in crate::model::gpt2) struct OwnDecoding(OnceLock<Arc<Decoding>>);

impl Clone for OwnDecoding {
    fn clone(&self) -> Self {
        OwnDecoding::default()
    }
}

/// A model and its weights for decoding.
pub(super) struct Decoder {
    pub(super) model: Arc<Gpt2>,
    pub(super) decoding: Arc<Decoding>,
}

impl Gpt2 {
    /// A session in [`DecodePrecision::Auto`]; all that a model has share the weights.
    pub(in crate::model::gpt2) fn own_session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        let decoding = match self.own.0.get() {
            Some(decoding) => decoding.clone(),
            None => {
                let made = Arc::new(Decoding::of(&self, DecodePrecision::Auto)?.0);
                self.own.0.get_or_init(|| made).clone()
            }
        };
        Arc::new(Decoder { model: self, decoding }).session(streams)
    }

    /// The model with its weights in a precision, and whether all numbers in the matrices are finite.
    pub(crate) fn decoder(self: Arc<Self>, precision: DecodePrecision) -> Result<(Arc<dyn LanguageModel>, bool)> {
        let (decoding, finite) = Decoding::of(&self, precision)?;
        Ok((Arc::new(Decoder { model: self, decoding: Arc::new(decoding) }), finite))
    }
}

impl LanguageModel for Decoder {
    fn kind(&self) -> ModelKind {
        ModelKind::Gpt2
    }

    fn vocab_size(&self) -> usize {
        self.model.config.vocab
    }

    fn context(&self) -> Option<usize> {
        Some(self.model.config.context)
    }

    fn num_params(&self) -> u64 {
        self.model.num_params()
    }

    fn as_gpt2(&self) -> Option<&Gpt2> {
        Some(&self.model)
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        Ok(match self.decoding.format {
            Format::F32 => Box::new(Gpt2Session::<f32>::new(self, streams)),
            _ => Box::new(Gpt2Session::<Bf16>::new(self, streams)),
        })
    }

    fn with_precision(self: Arc<Self>, precision: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        Ok(self.model.clone().decoder(precision)?.0)
    }

    fn score(
        &self,
        tokens: &[u32],
        stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        let decoder = Arc::new(Decoder { model: self.model.clone(), decoding: self.decoding.clone() });
        match self.decoding.format {
            Format::F32 => Gpt2Session::<f32>::new(decoder, 1).score(tokens, stride, sink),
            _ => Gpt2Session::<Bf16>::new(decoder, 1).score(tokens, stride, sink),
        }
    }
}
