//! Adapters in the form of the library PEFT: `adapter_config.json` beside `adapter_model.safetensors`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::hf::weights;
use crate::files::{read_json, write_json, write_params};
use crate::model::{Gpt2Config, Lora, LoraConfig, Params};
use crate::{Error, Result};

/// The configuration's file name; a folder that has it holds adapters.
pub(crate) const CONFIG: &str = "adapter_config.json";
/// The weights' file name.
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Writes the configuration of adapters on a base by its name.
pub(crate) fn write_config(dir: &Path, lora: &LoraConfig, base: &str) -> Result<()> {
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": lora.rank,
        "lora_alpha": shortest(lora.alpha), "lora_dropout": 0.0, "target_modules": lora.targets, "bias": "none",
        "fan_in_fan_out": true, "inference_mode": true, "use_rslora": lora.rank_stabilized, "use_dora": false,
        "modules_to_save": null, "layers_to_transform": null, "rank_pattern": {}, "alpha_pattern": {}
    });
    write_json(&dir.join(CONFIG), &config)
}

/// A whole number as such: PEFT's α usually is one.
fn shortest(x: f32) -> Value {
    if x.fract() == 0.0 { json!(x as i64) } else { json!(x) }
}

/// Writes the adapters' weights.
pub(crate) fn write_weights(dir: &Path, params: &Params) -> Result<()> {
    write_params(&dir.join(WEIGHTS), params, None)
}

/// The name of the base that adapters belong to.
pub(crate) fn base_name(dir: &Path) -> Result<String> {
    let path = dir.join(CONFIG);
    let name = read_json(&path)?["base_model_name_or_path"].as_str().map(String::from);
    name.filter(|name| !name.is_empty()).ok_or_else(|| Error::damaged(&path, "names no base_model_name_or_path"))
}

/// Reads adapters for a base of the given shape.
///
/// # Errors
/// When a file is missing or damaged, or asks for what Penwright does not know; the sentence names it.
pub(crate) fn read(dir: &Path, base: &Gpt2Config) -> Result<Lora> {
    let path = dir.join(CONFIG);
    let json = read_json(&path)?;
    refuse_unknown(&path, &json)?;
    let number = |key: &str| json[key].as_f64().ok_or_else(|| Error::damaged(&path, format!("has no number {key}")));
    let (rank, alpha) = (number("r")?, number("lora_alpha")? as f32);
    if !(1.0..=4096.0).contains(&rank) || rank.fract() != 0.0 {
        return Err(Error::damaged(&path, format!("has r {rank}, which is no rank from 1 to 4096")));
    }
    let named = json["target_modules"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(target) = named.iter().find(|target| !target.as_str().is_some_and(LoraConfig::knows)) {
        return Err(Error::damaged(&path, format!("adapts {target}; only the matrices of the blocks can be adapted")));
    }
    let path = dir.join(WEIGHTS);
    let damaged = |problem: String| Error::damaged(&path, format!("{problem}; copy it again"));
    let tensors = weights::read_all(&path)?;
    // PEFT's target_modules may be a pattern; what is adapted shows in the names. Layers without adapters have zeros,
    // which add nothing and stay zeros in training.
    let part = |name: &str| {
        let (layer, rest) =
            name.strip_prefix(PREFIX)?.trim_start_matches("transformer.").strip_prefix("h.")?.split_once('.')?;
        let (part, which) = rest.rsplit_once(".lora_")?;
        let which = which.strip_suffix(".weight").filter(|which| ["A", "B"].contains(which))?;
        Some((layer.parse::<usize>().ok()?, part.to_string(), which.to_string()))
    };
    let named: Option<Vec<_>> = tensors.iter().map(|(name, ..)| part(name)).collect();
    let Some(named) = named else {
        let odd = tensors.iter().find(|(name, ..)| part(name).is_none()).map_or("", |(name, ..)| name);
        return Err(damaged(format!("has {odd:?}, which is no LoRA matrix of a block")));
    };
    let all: BTreeSet<_> = named.iter().cloned().collect();
    let other = |which: &str| if which == "A" { "B" } else { "A" };
    if let Some((layer, part, which)) =
        named.iter().find(|(layer, part, which)| !all.contains(&(*layer, part.clone(), other(which).to_string())))
    {
        return Err(damaged(format!(
            "has h.{layer}.{part}.lora_{which} but lacks h.{layer}.{part}.lora_{}",
            other(which)
        )));
    }
    let targets: BTreeSet<String> = named.iter().map(|(_, part, _)| part.clone()).collect();
    let config = LoraConfig {
        rank: rank as usize,
        alpha,
        targets: targets.into_iter().collect(),
        rank_stabilized: json["use_rslora"] == true,
    };
    let mut lora = Lora::zeros(config, base).map_err(|e| damaged(format!("does not fit a GPT-2 ({e})")))?;
    for ((layer, part, which), (name, shape, values)) in named.iter().zip(&tensors) {
        let own = format!("{PREFIX}transformer.h.{layer}.{part}.lora_{which}.weight");
        let Some(tensor) = lora.params.find(&own).filter(|tensor| tensor.shape == *shape).cloned() else {
            return Err(damaged(format!("has {name:?} as {shape:?}, which does not fit r and the base")));
        };
        lora.params.data[tensor.range].copy_from_slice(values);
    }
    Ok(lora)
}

/// What would change the numbers and is not known.
fn refuse_unknown(path: &Path, json: &Value) -> Result<()> {
    let is_set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => text != "none",
        _ => true,
    };
    if json["peft_type"] != "LORA" {
        let problem = format!("has peft_type {}; only LORA is known", json["peft_type"]);
        return Err(Error::damaged(path, problem));
    }
    let unknown = [
        "use_dora",
        "bias",
        "lora_bias",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "megatron_config",
        "use_qalora",
        "trainable_token_indices",
        "target_parameters",
        "layer_replication",
        "alora_invocation_tokens",
    ];
    match unknown.into_iter().find(|key| json.get(key).is_some_and(is_set)) {
        Some(key) => {
            let problem =
                format!("has {key} {}, which Penwright does not know; merge the adapter in Python", json[key]);
            Err(Error::damaged(path, problem))
        }
        None => Ok(()),
    }
}
