use super::*;

#[test]
fn a_dropout_of_one_number_is_that_of_all_places() {
    let lstm = Settings { model: Some(ModelKind::Lstm), ..Settings::default() };
    let rates = |settings: Settings| {
        let options = settings.filled().train_options();
        let of = options.regularization;
        [of.dropout_input, of.dropout_hidden, of.dropout_output].map(|rate| rate.unwrap_or(options.dropout))
    };
    assert_eq!(rates(lstm.clone()), [0.0, 0.2, 0.0]);
    assert_eq!(rates(Settings { dropout: Some(0.5), ..lstm.clone() }), [0.5; 3]);
    let both = Settings { dropout: Some(0.5), dropout_output: Some(0.1), ..lstm.clone() };
    assert_eq!(rates(both.clone()), [0.5, 0.5, 0.1]);
    assert_eq!(rates(Settings { dropout: Some(0.3), ..lstm }.over(both)), [0.3; 3]);
}

#[test]
fn an_lstm_begins_by_remembering_but_for_sgd() {
    let bias = |optimizer| {
        Settings { model: Some(ModelKind::Lstm), optimizer: Some(optimizer), ..Settings::default() }
            .filled()
            .forget_bias
    };
    assert_eq!([OptimizerKind::Muon, OptimizerKind::Sgd].map(bias), [Some(1.0), Some(0.0)]);
}

#[test]
fn upper_settings_win_and_a_length_replaces_a_length() {
    let below = Settings { steps: Some(10), lr: Some(1.0), batch: Some(3), ..Settings::default() };
    let upper = Settings { budget: Some(Duration::from_secs(90)), lr: Some(2.0), ..Settings::default() };
    let both = upper.over(below);
    assert_eq!((both.steps, both.budget.is_some(), both.lr, both.batch), (None, true, Some(2.0), Some(3)));
    let below = Settings { momentum: Some(0.9), optimizer: Some(OptimizerKind::Sgd), ..Settings::default() };
    let upper = |optimizer| Settings { optimizer: Some(optimizer), ..Settings::default() };
    assert_eq!(upper(OptimizerKind::Sgd).over(below.clone()).momentum, Some(0.9));
    assert_eq!(upper(OptimizerKind::AdamW).over(below).filled().momentum, None);
    let below = Settings { schedule: Some(Schedule::Wsd), lr_decay: Some(0.4), ..Settings::default() };
    let upper = |schedule| Settings { schedule, ..Settings::default() }.over(below.clone()).lr_decay;
    assert_eq!([Some(Schedule::Linear), Some(Schedule::Wsd), None].map(upper), [None, Some(0.4), Some(0.4)]);
    let below = Settings { schedule: Some(Schedule::Linear), ..Settings::default() };
    let decay = Settings { lr_decay: Some(0.5), ..Settings::default() }.over(below).filled();
    assert_eq!(decay.schedule, Some(Schedule::Wsd));
    decay.check().unwrap();
    let below = Settings { beta1: Some(0.8), beta2: Some(0.9), spelling: Some(1.0), ..Settings::default() };
    let sgd = Settings { optimizer: Some(OptimizerKind::Sgd), ..Settings::default() }.over(below);
    assert_eq!((sgd.beta1, sgd.beta2, sgd.spelling), (None, None, None));
}

#[test]
fn another_level_has_its_own_size_of_vocabulary() {
    let below = Settings { level: Some(Level::Bpe), vocab_size: Some(512), ..Settings::default() };
    let upper =
        |level, vocab_size| Settings { level, vocab_size, ..Settings::default() }.over(below.clone()).vocab_size;
    assert_eq!(upper(Some(Level::Char), None), None);
    assert_eq!(upper(Some(Level::Word), Some(9_000)), Some(9_000));
    assert_eq!((upper(Some(Level::Bpe), None), upper(None, None)), (Some(512), Some(512)));
}

#[test]
fn values_are_set_by_name() {
    let settings = Settings::default().set("lr=0.5").and_then(|s| s.set("model = lstm")).unwrap();
    let settings = settings.set("budget=1h30m").unwrap().set("tied=true").unwrap();
    assert_eq!((settings.lr, settings.kind(), settings.tied), (Some(0.5), ModelKind::Lstm, Some(true)));
    assert_eq!(settings.budget, Some(Duration::from_secs(5400)));
    for (wrong, word) in [("lr", "KEY=VALUE"), ("lrr=1", "lrr"), ("lr=fast", "lr=fast"), ("batch=-1", "batch")] {
        let error = Settings::default().set(wrong).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_saved_file_is_read_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for model in [ModelKind::Ngram, ModelKind::Lstm, ModelKind::Gpt2] {
        let settings = Settings { model: Some(model), text: vec!["a book.txt".into()], ..Settings::default() }.filled();
        settings.save(dir.path()).unwrap();
        assert_eq!(Settings::load(&dir.path().join(SETTINGS)).unwrap(), settings);
    }
}
