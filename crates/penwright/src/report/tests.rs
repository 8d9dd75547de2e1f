use super::record::tests::{done, eval, plan, record, step};
use super::*;
use crate::train::Event;

fn overfitting() -> Record {
    let steps = (1..=100).map(|i| step(200 * i, 3.0 / i as f64));
    let evals = (1..=20).map(|i| eval(1000 * i, 2.0 + 0.1 * (i as f64 - 6.0).abs()));
    let samples = (1..=20).map(|i| Event::Sample { step: 1000 * i, text: format!("<i>sample {i}</i> & more") });
    let events = [plan(0)].into_iter().chain(steps).chain(evals).chain(samples);
    record(events.chain([done(20_000, "finished")]))
}

#[test]
fn the_page_holds_everything_and_asks_no_other_host() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("<b>run");
    let settings = Settings { text: vec!["a <book>.txt".into()], ..Settings::default() }.filled();
    std::fs::create_dir(&run).unwrap();
    settings.save(&run).unwrap();
    let mut record = overfitting();
    record.plan.reasons = vec!["A width of 128 <because> it fits.".into()];
    let page = html(&Report::of(record, &run));
    for part in [
        "Overfitting since second 60",
        "A width of 128 &lt;because&gt;",
        "a &lt;book&gt;.txt",
        "--dropout 0.2",
        "class=\"ring\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<b>run") && !page.contains("<i>sample") && page.contains("&lt;i&gt;sample 20"));
    assert!(!page.contains("http") && !page.contains("url(") && !page.contains("<script") && !page.contains("NaN"));
    // Each drawing speaks: large and small once, the main chart for wide and narrow pages.
    assert_eq!(page.matches("<svg class=\"chart").count(), page.matches("role=\"img\"").count());
    assert_eq!(page.matches("role=\"img\"").count(), 5);
}

#[test]
fn a_record_of_almost_nothing_makes_a_page() {
    let counted = |event| match event {
        Event::Plan { train_tokens, val_tokens, .. } => Event::Plan {
            model: "ngram".into(),
            params: 9,
            trained_params: None,
            train_tokens,
            val_tokens,
            steps: Some(1),
            memory_bytes: 1,
            flops_per_token: 0.0,
            resumed_at: 0,
            reasons: Vec::new(),
        },
        other => other,
    };
    for events in [
        vec![],
        vec![plan(0)],
        vec![plan(0), done(0, "interrupted")],
        vec![plan(0), eval(1, f64::NAN), done(1, "diverged")],
        vec![counted(plan(0)), eval(1, 1.4), done(1, "finished")],
        vec![plan(0), step(10, 3.0), eval(10, 3.0), done(10, "finished")],
    ] {
        let report = Report::of(record(events), Path::new("nowhere"));
        let page = html(&report);
        assert!(page.contains(&report.headline) && !page.contains("NaN") && page.ends_with("</html>"), "{page}");
    }
}

#[test]
fn json_tells_the_verdict_and_its_measures() {
    let json = serde_json::to_value(Report::of(overfitting(), Path::new("runs/x"))).unwrap();
    assert_eq!((&json["run"], &json["verdict"]["finding"]), (&"runs/x".into(), &"overfitting".into()));
    assert!(json["next"][0]["command"].as_str().unwrap().starts_with("penwright train --config runs/x/penwright.toml"));
    assert!((json["verdict"]["rise"].as_f64().unwrap() - 0.7).abs() < 1e-9);
    assert!(json.get("record").is_none() && json.get("settings").is_none());
}

#[test]
fn what_is_no_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Report::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl") && error.contains("penwright train"), "{error}");
    std::fs::write(dir.path().join("metrics.jsonl"), "not json\n").unwrap();
    assert!(Report::read(dir.path()).unwrap_err().to_string().contains("no events"));
}
