//! How tokens are chosen, as requests say it.

use penwright::generate::Sampling;
use serde_json::Value;

use super::fields::{Fields, wrong};
use crate::http::ApiError;
use crate::models::Model;

/// Tokens whose likelihood can be changed at once.
const BIASES: usize = 1024;
/// Strings at which a text can end, and their bytes: every token is compared with them.
const STOPS: usize = 16;
const STOP_BYTES: usize = 1000;

/// Takes the fields that `/v1/completions` and `/v1/chat/completions` share; the seed is apart, because without one each
/// prompt has its own.
pub(super) fn sampling(fields: &mut Fields, model: &Model) -> Result<(Sampling, Option<u64>), ApiError> {
    let plain = Sampling::default();
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0),
        top_k: fields.whole("top_k", 0..=u64::from(u32::MAX))?.unwrap_or(0) as usize,
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(plain.min_p),
        typical: fields.number("typical_p", 0.0..=1.0)?.unwrap_or(plain.typical),
        repetition_penalty: fields.number("repetition_penalty", 0.01..=10.0)?.unwrap_or(1.0),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        logit_bias: biases(fields, model)?,
        ..plain
    };
    sampling.check()?;
    Ok((sampling, seed(fields)?))
}

fn biases(fields: &mut Fields, model: &Model) -> Result<Vec<(u32, f32)>, ApiError> {
    const NAME: &str = "logit_bias";
    let map = match fields.take(NAME) {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong(NAME, "an object of token ids and numbers", &other)),
    };
    if map.len() > BIASES {
        return Err(ApiError::field(NAME, format!("{NAME} names {} tokens; at most {BIASES} can be", map.len())));
    }
    let vocab = model.vocab();
    let mut biases = Vec::with_capacity(map.len());
    for (id, bias) in map {
        let Some(id) = id.parse::<u32>().ok().filter(|&id| (id as usize) < vocab) else {
            let id: String = id.chars().take(40).collect();
            return Err(ApiError::field(NAME, format!("{id:?} in {NAME} is no token id; ids are below {vocab}")));
        };
        let Some(bias) = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias)) else {
            return Err(wrong(NAME, "numbers from -100 to 100", &bias));
        };
        biases.push((id, bias as f32));
    }
    Ok(biases)
}

/// Any whole number; negative ones are others than their absolute values.
fn seed(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.take("seed") else { return Ok(None) };
    match value.as_u64().or(value.as_i64().map(i64::cast_unsigned)) {
        Some(seed) => Ok(Some(seed)),
        None => Err(wrong("seed", "a whole number of 64 bits", &value)),
    }
}

/// Strings before which a text ends.
pub(super) fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stops = fields.strings("stop", STOPS)?;
    if stops.iter().any(String::is_empty) {
        return Err(ApiError::field("stop", "stop: an empty string would end the text before it begins; leave it out"));
    }
    if stops.iter().any(|stop| stop.len() > STOP_BYTES) {
        return Err(ApiError::field("stop", format!("stop: a string has more than {STOP_BYTES} bytes; give less")));
    }
    Ok(stops)
}
