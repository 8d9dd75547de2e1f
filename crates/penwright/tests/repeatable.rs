//! The same seed gives the same bits, for any number of threads.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use penwright::model::{Gpt2Config, LstmConfig, Precision, Regularization};
use penwright::run::{ModelConfig, Run};
use penwright::tokenizer::{Level, Tokenizer};
use penwright::train::{
    Averaging, Data, Event, Job, Length, OptimizerKind, Outcome, Schedule, Settings, Start, TrainOptions, read_metrics,
    train,
};

fn text() -> String {
    (0..400)
        .map(|n| format!("In room {n} the {} clock struck {}.\n", ["old", "tall", "red"][n % 3], n * 7 % 12 + 1))
        .collect()
}

/// Pieces of words, where there are.
const PIECES: usize = 300;

fn options() -> TrainOptions {
    TrainOptions {
        length: Length::Steps(100),
        batch: 4,
        context: 24,
        lr: 1e-2,
        warmup: 5,
        dropout: 0.1,
        seed: 7,
        eval_every: Some(20),
        ..TrainOptions::default()
    }
}

fn shapes(vocab: usize) -> [ModelConfig; 4] {
    let tied = LstmConfig { vocab, embed: 16, hidden: 40, layers: 2, tied: true, ..LstmConfig::default() };
    [
        ModelConfig::Gpt2(Gpt2Config { vocab, context: 24, layers: 2, heads: 2, width: 32, ..Gpt2Config::default() }),
        ModelConfig::Lstm(LstmConfig { vocab, embed: 16, hidden: 48, layers: 2, tied: false, ..LstmConfig::default() }),
        ModelConfig::Lstm(tied.clone()),
        ModelConfig::Lstm(LstmConfig { mogrifier: 3, mogrifier_rank: 4, ..tied }),
    ]
}

fn val_losses(events: &[Event]) -> Vec<f64> {
    events.iter().filter_map(|e| if let Event::Eval { val_loss, .. } = e { Some(*val_loss) } else { None }).collect()
}

/// All that an LSTM can be regularised by.
fn regularized() -> TrainOptions {
    let regularization = Regularization {
        dropout_input: Some(0.2),
        dropout_output: Some(0.15),
        dropout_embed: 0.1,
        weight_drop: 0.2,
        ar: 0.5,
        tar: 0.25,
        ..Regularization::default()
    };
    TrainOptions { regularization, random_length: true, accumulate: 2, ..options() }
}

/// All shapes in both precisions, and one each by every optimizer and average.
fn runs(vocab: usize) -> Vec<(ModelConfig, TrainOptions)> {
    let mut runs = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let options = TrainOptions { precision, ..options() };
        let [gpt2, lstm, tied, mogrified] = shapes(vocab);
        for config in [&gpt2, &lstm, &tied] {
            runs.push((config.clone(), options.clone()));
        }
        let everything = TrainOptions { precision, ..regularized() };
        for config in [&lstm, &tied, &mogrified] {
            runs.push((config.clone(), everything.clone()));
        }
        let [gpt2_of_pieces, lstm_of_pieces, ..] = shapes(PIECES);
        runs.push((gpt2_of_pieces, TrainOptions { bpe_dropout: 0.3, ..options.clone() }));
        runs.push((lstm_of_pieces, TrainOptions { bpe_dropout: 0.3, ..everything }));
        let muon = TrainOptions { optimizer: OptimizerKind::Muon, average: Averaging::Decay(0.95), ..options.clone() };
        runs.push((gpt2, TrainOptions { calibrate: true, ..muon.clone() }));
        let quick =
            TrainOptions { muon_lr: Some(2e-2), muon_iterations: Some(3), average: Averaging::Off, ..muon.clone() };
        runs.push((lstm.clone(), TrainOptions { spelling: 0.5, calibrate: true, ..muon }));
        runs.push((tied, quick));
        let sgd = TrainOptions { optimizer: OptimizerKind::Sgd, lr: 0.3, weight_decay: 1e-4, ..options };
        runs.push((lstm.clone(), TrainOptions { momentum: Some(0.9), average: Averaging::Decay(0.9), ..sgd.clone() }));
        runs.push((lstm, non_monotone(sgd)));
    }
    runs
}

/// With a rate so high that validation goes up and down, which triggers averaging.
fn non_monotone(options: TrainOptions) -> TrainOptions {
    TrainOptions {
        lr: 6.0,
        clip: 0.5,
        schedule: Schedule::Constant,
        average: Averaging::Triggered,
        momentum: Some(0.0),
        eval_every: Some(4),
        ..options
    }
}

/// Of characters, or of pieces of words where they are cut.
fn tokenizer(options: &TrainOptions) -> Tokenizer {
    let text = text();
    let (level, size) = if options.bpe_dropout > 0.0 { (Level::Bpe, Some(PIECES)) } else { (Level::Char, None) };
    Tokenizer::train(level, &[&text[..text.len() * 9 / 10]], size).unwrap()
}

fn encoded(tokenizer: &Tokenizer) -> Data {
    let text = text();
    let (head, tail) = text.split_at(text.len() * 9 / 10);
    Data::encode(tokenizer, &[head], &[tail], &mut |_, _| {}).unwrap()
}

fn weights(config: &ModelConfig, options: &TrainOptions, threads: usize, out: &Path) -> (Vec<u8>, Vec<f64>) {
    let tokenizer = tokenizer(options);
    let mut losses = Vec::new();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let data = encoded(&tokenizer);
        train(
            &Start::scratch(config.clone(), tokenizer.clone()),
            &data,
            options,
            out,
            &AtomicBool::new(false),
            &mut |event| {
                if let Event::Eval { val_loss, .. } = event {
                    losses.push(*val_loss);
                }
            },
        )
    })
    .unwrap();
    (std::fs::read(out.join("model.safetensors")).unwrap(), losses)
}

#[test]
fn any_number_of_threads_and_any_time() {
    let vocab = Tokenizer::train(Level::Char, &[&text()], None).unwrap().vocab_size();
    for (config, options) in runs(vocab) {
        let dir = tempfile::tempdir().unwrap();
        let (one, losses) = weights(&config, &options, 1, &dir.path().join("one"));
        let last = losses[losses.len() - 1];
        assert!(last < losses[0] && last < (vocab as f64).ln(), "{config:?} learned nothing: {losses:?}");
        for threads in [1, 2, 3] {
            let again = weights(&config, &options, threads, &dir.path().join(format!("again{threads}")));
            assert!(
                again == (one.clone(), losses.clone()),
                "{config:?} with {options:?} differs with {threads} threads"
            );
        }
    }
}

#[test]
fn damaged_runs_are_refused_in_words() {
    let vocab = Tokenizer::train(Level::Char, &[&text()], None).unwrap().vocab_size();
    for config in shapes(vocab) {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let (good, _) = weights(&config, &options(), 1, &run);
        assert!(Run::open(&run).is_ok());
        let refused = |bytes: &[u8], word: &str| {
            std::fs::write(run.join("model.safetensors"), bytes).unwrap();
            let error = Run::open(&run).err().expect("damage was not noticed").to_string();
            assert!(error.contains(word) && error.contains("model.safetensors"), "{error}");
        };
        refused(&good[..good.len() / 2], "whole");
        refused(&good[..good.len() - 1], "whole");
        let mut flipped = good.clone();
        flipped[good.len() - 4] ^= 1;
        refused(&flipped, "checksum");
        let mut lying = good.clone();
        lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        refused(&lying, "whole");
        refused(&[], "whole");
        std::fs::write(run.join("config.json"), "{").unwrap();
        assert!(Run::open(&run).err().unwrap().to_string().contains("not JSON"));
    }
}

/// Trains in pieces: stopped after each ten steps and resumed, until it is done.
fn in_pieces(config: &ModelConfig, options: &TrainOptions, out: &Path) -> usize {
    let tokenizer = tokenizer(options);
    let data = encoded(&tokenizer);
    for pieces in 1.. {
        let stop = AtomicBool::new(false);
        let outcome =
            train(&Start::scratch(config.clone(), tokenizer.clone()), &data, options, out, &stop, &mut |event| {
                stop.fetch_or(matches!(event, Event::Step { .. }), Ordering::Relaxed);
            });
        match outcome.unwrap() {
            Outcome::Interrupted => {}
            outcome => {
                assert_eq!(outcome, Outcome::Finished);
                return pieces;
            }
        }
    }
    unreachable!()
}

/// Goes on in a directory to the end.
fn resume(config: &ModelConfig, options: &TrainOptions, out: &Path) -> penwright::Result<Outcome> {
    let tokenizer = tokenizer(options);
    let data = encoded(&tokenizer);
    let start = Start::scratch(config.clone(), tokenizer.clone());
    train(&start, &data, options, out, &AtomicBool::new(false), &mut |_| {})
}

/// What is validated and saved is the average once it is triggered; it does not jump about as the weights do.
#[test]
fn a_triggered_average_counts_in_place_of_the_weights() {
    let vocab = Tokenizer::train(Level::Char, &[&text()], None).unwrap().vocab_size();
    let [_, lstm, ..] = shapes(vocab);
    let sgd = TrainOptions { optimizer: OptimizerKind::Sgd, weight_decay: 1e-4, ..options() };
    let averaged = non_monotone(sgd);
    let plain = TrainOptions { average: Averaging::Off, ..averaged.clone() };
    let dir = tempfile::tempdir().unwrap();
    let (_, without) = weights(&lstm, &plain, 2, &dir.path().join("plain"));
    let (_, with) = weights(&lstm, &averaged, 2, &dir.path().join("averaged"));
    let parted = with.iter().zip(&without).position(|(a, b)| a != b).expect("averaging was never triggered");
    let worse = |losses: &[f64]| losses.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!(parted > 5 && worse(&with[parted..]) < worse(&without[parted..]), "{parted}: {with:?}, {without:?}");
    assert_eq!(saved_loss(&dir.path().join("averaged")), lowest(&with));
}

/// What the model saved in a run scores on the text that it was validated on.
fn saved_loss(run: &Path) -> f64 {
    let run = Run::open(run).unwrap();
    let text = text();
    let tokens = penwright::train::token_stream(&run.tokenizer, &[&text[text.len() * 9 / 10..]]);
    penwright::model::mean_score(&*run.model, &tokens, None).unwrap().0
}

fn lowest(losses: &[f64]) -> f64 {
    losses.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The same weights are trained, and what is saved has the loss that was found with the logits divided.
#[test]
fn a_calibrated_model_is_saved_as_it_was_validated() {
    let vocab = Tokenizer::train(Level::Char, &[&text()], None).unwrap().vocab_size();
    let [gpt2, lstm, tied, _] = shapes(vocab);
    let dir = tempfile::tempdir().unwrap();
    let (plain_run, calibrated_run) = (dir.path().join("plain"), dir.path().join("calibrated"));
    for config in [gpt2, lstm] {
        // Rates so high that what is learnt is too sure of itself.
        let plain = TrainOptions { lr: 5e-2, dropout: 0.0, eval_every: Some(10), ..options() };
        let calibrated = TrainOptions { calibrate: true, ..plain.clone() };
        let (_, without) = weights(&config, &plain, 2, &plain_run);
        let (_, with) = weights(&config, &calibrated, 2, &calibrated_run);
        let temperature = |e: &Event| if let Event::Eval { temperature, .. } = e { *temperature } else { None };
        let temperatures: Vec<f32> = read_metrics(&calibrated_run).unwrap().iter().filter_map(temperature).collect();
        assert_eq!(temperatures.len(), with.len());
        for ((with, without), temperature) in with.iter().zip(&without).zip(&temperatures) {
            assert_eq!(with < without, *temperature != 1.0, "{with} {without} {temperature}");
        }
        let best = with.iter().position(|&loss| loss == lowest(&with)).unwrap();
        assert!(temperatures[best] != 1.0, "nothing was calibrated: {temperatures:?}, {with:?}");
        let (saved, found) = (saved_loss(&calibrated_run), lowest(&with));
        assert!((saved - found).abs() < 1e-5 * found, "{saved} and {found}");
        assert_eq!(saved_loss(&plain_run), lowest(&without));
    }
    let error = resume(&tied, &TrainOptions { calibrate: true, ..options() }, &plain_run).unwrap_err().to_string();
    assert!(error.contains("--tied") && error.contains("calibrate"), "{error}");
}

#[test]
fn resumed_runs_are_the_same_to_the_bit() {
    let vocab = Tokenizer::train(Level::Char, &[&text()], None).unwrap().vocab_size();
    for (config, options) in runs(vocab) {
        let dir = tempfile::tempdir().unwrap();
        let (whole, losses) = weights(&config, &options, 2, &dir.path().join("whole"));
        let out = dir.path().join("pieces");
        let options = TrainOptions { resume: true, ..options };
        assert!(in_pieces(&config, &options, &out) > 3, "was not interrupted");
        assert!(whole == std::fs::read(out.join("model.safetensors")).unwrap(), "{config:?} with {options:?}");
        assert_eq!(val_losses(&read_metrics(&out).unwrap()), losses);
        let other = TrainOptions { lr: 1e-3, ..options.clone() };
        let text = text();
        let tokenizer = tokenizer(&options);
        let data = Data::encode(&tokenizer, &[&text], &[&text], &mut |_, _| {}).unwrap();
        let error = train(
            &Start::scratch(config.clone(), tokenizer.clone()),
            &data,
            &other,
            &out,
            &AtomicBool::new(false),
            &mut |_| {},
        )
        .unwrap_err();
        assert!(error.to_string().contains("another lr, train text"), "{error}");
        let (optimizer, momentum) = (OptimizerKind::Sgd, Some(0.5));
        let other =
            TrainOptions { optimizer, momentum, muon_lr: None, muon_iterations: None, spelling: 0.0, ..options };
        let error = resume(&config, &other, &out).unwrap_err();
        assert!(error.to_string().contains("momentum"), "{error}");
    }
}

#[test]
fn patience_accumulation_and_budget() {
    let text = text();
    let (head, tail) = text.split_at(text.len() * 9 / 10);
    let tokenizer = Tokenizer::train(Level::Char, &[head], None).unwrap();
    let [config, ..] = shapes(tokenizer.vocab_size());
    let run = |options: TrainOptions| {
        let dir = tempfile::tempdir().unwrap();
        let data = Data::encode(&tokenizer, &[head], &[tail], &mut |_, _| {}).unwrap();
        let mut events = Vec::new();
        let outcome = train(
            &Start::scratch(config.clone(), tokenizer.clone()),
            &data,
            &options,
            dir.path(),
            &AtomicBool::new(false),
            &mut |e| {
                events.push(e.clone());
            },
        );
        (outcome, events)
    };
    let (outcome, events) = run(TrainOptions { lr: 3.0, eval_every: Some(2), patience: Some(2), ..options() });
    assert!(matches!(outcome, Ok(Outcome::OutOfPatience)), "{outcome:?} {events:?}");
    let (outcome, events) = run(TrainOptions { accumulate: 3, ..options() });
    assert!(matches!(outcome, Ok(Outcome::Finished)));
    assert!(matches!(events.last(), Some(Event::Done { tokens: 28_800, .. })), "{:?}", events.last());
    // Wide bounds: other programs may take the processor for seconds. A budget that is over has a quarter left.
    let budget = Duration::from_secs(2);
    for (spent, least) in [(Duration::from_secs(100), 1.5), (Duration::ZERO, 0.5)] {
        let options = TrainOptions { length: Length::Budget(budget), spent, eval_every: None, ..options() };
        let (_, events) = run(options);
        let Some(Event::Done { elapsed_s, steps, .. }) = events.last() else { panic!("not done") };
        assert!((least..30.0).contains(elapsed_s) && *steps > 1, "{steps} steps in {elapsed_s} s");
        let validated = |e: &Event| if let Event::Eval { step, .. } = e { Some(*step) } else { None };
        let validated: Vec<u64> = events.iter().filter_map(validated).collect();
        assert!(validated.is_sorted_by(|a, b| a < b) && validated.last() == Some(steps), "{validated:?} of {steps}");
    }
}

/// A validation text that would take longer than the budget or the steps is validated on in part, by a resumed run in the
/// same part.
#[test]
fn too_long_a_validation_text() {
    let text = text();
    let tokenizer = Tokenizer::train(Level::Char, &[&text], None).unwrap();
    let [config, ..] = shapes(tokenizer.vocab_size());
    let data = Data::encode(&tokenizer, &[&text], &[&text.repeat(300)], &mut |_, _| {}).unwrap();
    let run = |options: &TrainOptions, dir: &Path, stopped: bool| {
        let start = Start::scratch(config.clone(), tokenizer.clone());
        let (stop, mut events) = (AtomicBool::new(false), Vec::new());
        let outcome = train(&start, &data, options, dir, &stop, &mut |event| {
            stop.store(stopped && matches!(event, Event::Excerpt { .. }), Ordering::Relaxed);
            events.push(event.clone());
        });
        (outcome.unwrap(), events)
    };
    let excerpt = |events: &[Event]| {
        let of =
            |event: &Event| if let Event::Excerpt { tokens, of, .. } = event { Some((*tokens, *of)) } else { None };
        events.iter().find_map(of)
    };
    for length in [Length::Budget(Duration::from_secs(2)), Length::Steps(20)] {
        let dir = tempfile::tempdir().unwrap();
        let options = TrainOptions { length, eval_every: None, ..options() };
        let (outcome, events) = run(&options, dir.path(), true);
        let (tokens, of) = excerpt(&events).expect("an excerpt");
        assert!(outcome == Outcome::Interrupted && tokens < of && of == data.val.len() as u64, "{tokens} of {of}");
        let (outcome, resumed) = run(&TrainOptions { resume: true, ..options.clone() }, dir.path(), false);
        let seconds = |event: &Event| if let Event::Done { elapsed_s, .. } = event { Some(*elapsed_s) } else { None };
        let seconds = resumed.last().and_then(seconds).unwrap();
        assert!(outcome == Outcome::Finished && seconds < 30.0, "{outcome:?} after {seconds} s");
        assert!(excerpt(&resumed).is_none(), "chosen twice");
        assert!(!val_losses(&resumed).is_empty());
        if let Length::Steps(_) = length {
            let other = tempfile::tempdir().unwrap();
            let (_, whole) = run(&options, other.path(), false);
            assert_eq!(val_losses(&resumed), val_losses(&whole));
        }
    }
}

/// What a budget buys is chosen when a run begins, not once more on a machine that may be faster or slower by then.
#[test]
fn a_resumed_run_chooses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.txt");
    std::fs::write(&file, text()).unwrap();
    let settings = Settings { text: vec![file], budget: Some(Duration::from_secs(60)), ..Settings::default() };
    let begun = Job::prepare(settings.clone(), &mut |_| {}).unwrap();
    assert_eq!(begun.settings().optimizer, Some(OptimizerKind::Muon));
    assert!(!begun.reasons().is_empty());
    let resumed = Job::prepare_resumed(settings, &mut |_| {}).unwrap();
    assert_eq!(resumed.settings().optimizer, Some(OptimizerKind::default()));
    assert!(resumed.reasons().is_empty());
    let resumed = Job::prepare_resumed(begun.settings().clone(), &mut |_| {}).unwrap();
    assert_eq!(resumed.settings(), begun.settings());
}
