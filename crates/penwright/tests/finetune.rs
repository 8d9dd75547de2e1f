//! Training on a model that is there: whole, in part, or through adapters.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use penwright::model::{ModelKind, mean_score};
use penwright::run::Run;
use penwright::tokenizer::Level;
use penwright::train::{Event, Job, Outcome, SETTINGS, Settings, token_stream};
use safetensors::SafeTensors;

/// Two stories in one folder: a base learns the first, tuning goes on with the second.
fn texts(dir: &Path) -> [std::path::PathBuf; 2] {
    let [first, second] = ["first.txt", "second.txt"].map(|name| dir.join(name));
    let lines = |what: &str| (0..400).map(|n| format!("The {what} rang {} times.\n", n * n % 13)).collect::<String>();
    std::fs::write(&first, lines("bell")).unwrap();
    std::fs::write(&second, lines("old clock")).unwrap();
    [first, second]
}

fn base_settings(text: &Path, model: ModelKind) -> Settings {
    Settings {
        text: vec![text.into()],
        model: Some(model),
        layers: Some(2),
        width: Some(32),
        steps: Some(60),
        lr: Some(3e-3),
        sample_every: Some(0),
        ..Settings::default()
    }
    .set("batch=4")
    .and_then(|s| {
        if model == ModelKind::Gpt2 { s.set("level=bpe")?.set("vocab-size=300")?.set("context=32") } else { Ok(s) }
    })
    .unwrap()
}

fn tuning(text: &Path, base: &Path) -> Settings {
    Settings {
        text: vec![text.into()],
        from: Some(base.display().to_string()),
        steps: Some(40),
        context: Some(24),
        eval_every: Some(20),
        sample_every: Some(0),
        lr: Some(3e-3),
        ..Settings::default()
    }
}

fn train(settings: Settings, out: &Path, threads: usize) -> penwright::Result<Vec<f64>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut losses = Vec::new();
    pool.install(|| {
        let job = Job::prepare(settings, &mut |_| {})?;
        job.run(out, false, &AtomicBool::new(false), &mut |event| {
            if let Event::Eval { val_loss, .. } = event {
                losses.push(*val_loss);
            }
        })
    })?;
    Ok(losses)
}

fn base(dir: &Path, model: ModelKind) -> (std::path::PathBuf, std::path::PathBuf) {
    let [first, second] = texts(dir);
    let out = dir.join("base");
    train(base_settings(&first, model), &out, 2).unwrap();
    (out, second)
}

fn loss(run: &Path, text: &Path) -> f64 {
    let run = Run::open(run).unwrap();
    let text = std::fs::read_to_string(text).unwrap();
    mean_score(&*run.model, &token_stream(&run.tokenizer, &[&text]), None).unwrap().0
}

#[test]
fn every_way_learns_and_is_the_same_for_any_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (base, text) = base(dir.path(), ModelKind::Gpt2);
    let before = loss(&base, &text);
    type Change = fn(Settings) -> Settings;
    let ways: [(&str, &str, Change); 5] = [
        ("all", "model.safetensors", |s| s),
        ("part", "model.safetensors", |s| Settings { freeze_layers: Some(1), freeze_embeddings: Some(true), ..s }),
        ("lora", "adapter_model.safetensors", |s| Settings { lora: Some(4), ..s }),
        ("one", "adapter_model.safetensors", |s| s.set("lora=2").unwrap().set("lora-targets=c_attn").unwrap()),
        ("again", "model.safetensors", |s| Settings { checkpoint_activations: Some(true), dropout: Some(0.2), ..s }),
    ];
    for (name, file, change) in ways {
        let outs = ["a", "b", "c"].map(|n| dir.path().join(format!("{name}-{n}")));
        let losses = train(change(tuning(&text, &base)), &outs[0], 1).unwrap();
        assert!(losses[1] < losses[0] && losses[1] < before - 0.1, "{name}: {before}, then {losses:?}");
        assert!((loss(&outs[0], &text) - before).abs() > 0.1);
        let weights = std::fs::read(outs[0].join(file)).unwrap();
        for (out, threads) in outs[1..].iter().zip([2, 3]) {
            train(change(tuning(&text, &base)), out, threads).unwrap();
            assert!(weights == std::fs::read(out.join(file)).unwrap(), "{name} differs with {threads} threads");
        }
    }
    // What is computed again is the same to the bit.
    let kept = dir.path().join("kept");
    train(Settings { dropout: Some(0.2), ..tuning(&text, &base) }, &kept, 2).unwrap();
    let [kept, again] =
        [kept, dir.path().join("again-a")].map(|run| std::fs::read(run.join("model.safetensors")).unwrap());
    assert!(kept == again);
}

#[test]
fn what_is_frozen_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (base, text) = base(dir.path(), ModelKind::Gpt2);
    let out = dir.path().join("out");
    let settings = Settings { freeze_layers: Some(1), freeze_embeddings: Some(true), ..tuning(&text, &base) };
    train(settings, &out, 2).unwrap();
    let [before, after] = [base, out].map(|run| std::fs::read(run.join("model.safetensors")).unwrap());
    let [before, after] = [&before, &after].map(|raw| SafeTensors::deserialize(raw).unwrap());
    for (name, tensor) in before.iter() {
        let frozen = ["wte", "wpe", "h.0."].iter().any(|part| name.contains(&format!("transformer.{part}")));
        assert_eq!(tensor.data() == after.tensor(name).unwrap().data(), frozen, "{name}");
    }
}

#[test]
fn interrupted_adapters_are_resumed_to_the_bit_and_follow_their_base() {
    let dir = tempfile::tempdir().unwrap();
    let (base, text) = base(dir.path(), ModelKind::Gpt2);
    let settings = || Settings { lora: Some(4), dropout: Some(0.1), ..tuning(&text, &base) };
    let [whole, pieces] = ["whole", "pieces"].map(|name| dir.path().join(name));
    train(settings(), &whole, 2).unwrap();
    let resume = |stop_early: bool| {
        let job = Job::prepare(settings(), &mut |_| {}).unwrap();
        let stop = AtomicBool::new(false);
        job.run(&pieces, true, &stop, &mut |event| {
            stop.fetch_or(stop_early && matches!(event, Event::Step { .. }), Ordering::Relaxed);
        })
    };
    assert_eq!(resume(true).unwrap(), Outcome::Interrupted);
    assert_eq!(resume(true).unwrap(), Outcome::Interrupted);
    assert_eq!(resume(false).unwrap(), Outcome::Finished);
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        assert_eq!(std::fs::read(whole.join(file)).unwrap(), std::fs::read(pieces.join(file)).unwrap());
    }
    // Adapters trained on go on from where they are, under the same base.
    let more = dir.path().join("more");
    train(Settings { lora: Some(4), ..tuning(&text, &whole) }, &more, 2).unwrap();
    let names = [&whole, &more].map(|run| Run::open(run).unwrap().adapter.unwrap().1);
    assert_eq!(names[0], names[1]);
    assert!(loss(&more, &text) < loss(&whole, &text));
    let wrong = train(Settings { lora: Some(3), ..tuning(&text, &whole) }, &dir.path().join("x"), 1).unwrap_err();
    assert!(wrong.to_string().starts_with("--lora: the base has adapters of rank 4"), "{wrong}");
    // Without --lora the merged weights are trained, and stand alone.
    let merged = dir.path().join("merged");
    train(Settings { lr: Some(1e-9), ..tuning(&text, &whole) }, &merged, 2).unwrap();
    assert!((loss(&merged, &text) - loss(&whole, &text)).abs() < 1e-4);
    std::fs::rename(&base, dir.path().join("gone")).unwrap();
    assert!(Run::open(&merged).is_ok());
    assert!(Run::open(&whole).err().unwrap().to_string().contains("base"));
}

#[test]
fn an_lstm_goes_on_too() {
    let dir = tempfile::tempdir().unwrap();
    let (base, text) = base(dir.path(), ModelKind::Lstm);
    let before = loss(&base, &text);
    let out = dir.path().join("out");
    train(tuning(&text, &base).set("batch=4").unwrap(), &out, 2).unwrap();
    assert!(loss(&out, &text) < before - 0.1);
    assert_eq!(Settings::load(&out.join(SETTINGS)).unwrap().level, Some(Level::Char));
    let refused = train(Settings { lora: Some(4), ..tuning(&text, &base) }, &out, 1).unwrap_err().to_string();
    assert!(refused.starts_with("--lora:"), "{refused}");
}

#[test]
fn what_cannot_work_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let (base, text) = base(dir.path(), ModelKind::Gpt2);
    let out = dir.path().join("out");
    let ngram = dir.path().join("ngram");
    train(Settings { text: vec![text.clone()], model: Some(ModelKind::Ngram), ..Settings::default() }, &ngram, 1)
        .unwrap();
    let good = || tuning(&text, &base);
    for (settings, start) in [
        (Settings { layers: Some(3), ..good() }, "--layers: the base that --from names has 2"),
        (Settings { level: Some(Level::Char), ..good() }, "--level: the base that --from names has bpe"),
        (Settings { vocab_size: Some(400), ..good() }, "--vocab-size:"),
        (Settings { model: Some(ModelKind::Lstm), ..good() }, "--model:"),
        (Settings { context: Some(33), ..good() }, "--context: 33 is more than the 32 positions"),
        (Settings { lora: Some(0), ..good() }, "--lora: 0"),
        (Settings { lora: Some(2), lora_targets: Some(vec!["wte".into()]), ..good() }, "--lora-targets:"),
        (Settings { lora: Some(2), lora_alpha: Some(f32::NAN), ..good() }, "--lora-alpha:"),
        (Settings { lora_alpha: Some(1.0), ..good() }, "--lora-alpha: needs --lora"),
        (Settings { lora: Some(2), freeze_layers: Some(1), ..good() }, "--lora:"),
        (Settings { freeze_layers: Some(9), ..good() }, "--freeze-layers:"),
        (Settings { freeze_layers: Some(1), from: None, ..good() }, "--freeze-layers: needs a model"),
        (Settings { from: Some(ngram.display().to_string()), ..good() }, "--from:"),
        (Settings { from: Some(dir.path().join("none").display().to_string()), ..good() }, "cannot read"),
    ] {
        let error = train(settings, &out, 1).unwrap_err().to_string();
        assert!(error.starts_with(start) && !error.contains('\n'), "{error}");
    }
    let error = train(good(), &base, 1).unwrap_err().to_string();
    assert!(error.starts_with("--out:"), "{error}");
    assert!(Run::open(&base).is_ok(), "the base is untouched");
}
