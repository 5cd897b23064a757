use quick_xml::{Reader, events::Event};

use crate::{
    fault::Fault,
    measure::latency::Summary,
    outcome::{Judged, Outcome, Phase, Second, ServerSecond, Threshold},
    tally::Traffic,
};

fn second(at: u32) -> Second {
    let summary = Summary {
        count: 100,
        p50_ms: 0.4,
        p99_ms: 3.0,
        max_ms: 9.0,
    };
    Second {
        at_s: f64::from(at),
        connections: u64::from(at) * 10,
        entries: [("admitted".to_owned(), 10), ("room_full".to_owned(), 2)].into(),
        frames: [("sync".to_owned(), 500)].into(),
        sent: 40,
        steps: [("heartbeat".to_owned(), summary)].into(),
        server: Some(ServerSecond {
            cores: Some(0.5),
            rss_bytes: Some(90 << 20),
            connections: Some(u64::from(at) * 10),
            seats: None,
        }),
        client_cores: 0.8,
    }
}

fn outcome() -> Outcome {
    let mut outcome = Outcome {
        scenario: "lecture <1>".to_owned(),
        about: "Everybody & their \"friends\"".to_owned(),
        phases: vec![Phase {
            name: "<ramp>".to_owned(),
            from_s: 0.0,
            to_s: 30.0,
        }],
        timeline: (0..30).map(second).collect(),
        ..Outcome::default()
    };
    outcome.figures.insert("heartbeat_p99_ms".to_owned(), 3.0);
    outcome.steps = outcome.timeline[0].steps.clone();
    let traffic = Traffic {
        frames: 15_000,
        bytes: 1 << 20,
    };
    outcome.traffic.0.insert("sync".to_owned(), traffic);
    outcome
        .faults
        .add(Fault::Malformed, "<script>alert(\"1\")</script>");
    outcome
}

fn page(outcome: Outcome) -> String {
    let threshold = Threshold::parse("heartbeat_p99_ms < 2.5").unwrap();
    Judged::new(outcome, &[threshold]).html().unwrap()
}

/// Elements that have no end in HTML.
const ENDLESS: [&str; 1] = ["meta"];

/// Fails unless every element that begins ends, in the right order.
fn assert_closed(page: &str) {
    let mut reader = Reader::from_str(page);
    reader.config_mut().check_end_names = false;
    let mut open = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(start.name().as_ref().to_owned()),
            Event::End(end) => {
                let end = end.name().as_ref().to_owned();
                assert_eq!(open.pop(), Some(end), "{open:?}");
            }
            Event::Eof => break,
            _ => {}
        }
        open.pop_if(|name| ENDLESS.contains(&name.as_str()));
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn every_element_is_closed() {
    assert_closed(&page(outcome()));
    assert_closed(&page(Outcome::default()));
}

#[test]
fn each_chart_is_there() {
    let page = page(outcome());
    let titles = [
        "Connections",
        "Attempts to enter, by what came of them",
        "Frames received by clients, by kind",
        "Processor time",
        "Server memory",
        "heartbeat",
    ];
    for title in titles {
        assert!(
            page.contains(&format!("aria-label=\"{title}\"><svg")),
            "{title}"
        );
    }
    // For wide and for narrow pages.
    assert_eq!(page.matches("<svg").count(), 2 * titles.len());
    assert!(page.contains("p99 &lt; 2.5"));
}

#[test]
fn what_was_not_measured_has_no_chart() {
    let mut outcome = outcome();
    for second in &mut outcome.timeline {
        second.server = None;
    }
    let page = page(outcome);
    assert!(!page.contains("Server memory"));
    assert!(!page.contains("by the server’s count"));
    assert!(page.contains("aria-label=\"Processor time\""));
}

#[test]
fn what_others_wrote_is_text() {
    let page = page(outcome());
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;alert("));
    assert!(page.contains("<h1>lecture &lt;1&gt;</h1>"));
    assert!(!page.contains("<ramp>"));
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = page(outcome()).replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for reference in ["http:", "https:", "//", "url(", "@import", "src=", "href="] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn results_are_told_without_colours() {
    let page = page(outcome());
    assert!(page.contains("✗ FAILED: 1 of 1 thresholds, 1 fault"));
    assert!(page.contains("<span class=\"mark\">✗</span> FAILED"));
}
