//! What an operator sees and does.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::box_of::SpotdBox;
use crate::browser::Browser;

const VERDICT: &str = "document.querySelector('#sources .card .badge')?.textContent";

#[test]
fn a_feed_turns_synthetic_before_the_operators_eyes_and_the_event_says_why() {
    if !Browser::is_here() {
        return;
    }
    let watched = SpotdBox::start("", "");
    let browser = Browser::start(1280, 1000, false);
    browser.open(&watched.url("/"));
    browser.wait("the source", &format!("return {VERDICT} === 'clear'"));
    browser.run("window.mark = 'not loaded anew'", &[]);
    browser.wait("a picture", "return !document.querySelector('.scene img').hidden && document.querySelector('.scene img').naturalWidth === 480");
    browser.wait("tiles", "return document.querySelectorAll('.scene svg rect').length > 0");

    // Without a reload, the verdict changes, is said to a screen reader, and the event is listed.
    browser.wait("the verdict", &format!("return {VERDICT} === 'synthetic'"));
    browser.wait(
        "the news",
        "return document.getElementById('news').textContent.includes('studio.1 is synthetic now')",
    );
    browser.wait("the event", "return document.querySelectorAll('#events li a img').length === 1");
    assert_eq!(browser.run("return window.mark", &[]), "not loaded anew");
    let thumbnail = "const i = document.querySelector('#events img'); i.loading = 'eager'; return i.complete && i.naturalWidth === 480";
    browser.wait("its picture", thumbnail);

    // A filter that lets nothing through says so; without it the event is there again.
    let choose = "const s = document.forms.filter.elements.kind; s.value = arguments[0]; s.dispatchEvent(new Event('change', { bubbles: true }))";
    browser.run(choose, &[json!("alert")]);
    browser.wait("an empty list", "return !document.getElementById('no-events').hidden");
    browser.run(choose, &[json!("")]);
    browser.wait("the event again", "return document.querySelectorAll('#events li a').length === 1");

    // By keyboard to the event's page.
    browser.run("document.querySelector('#events a').focus(); document.activeElement.click()", &[]);
    browser.wait("the event's page", "return document.querySelectorAll('#event .checks li').length === 3");
    let text = browser.run("return document.getElementById('event').innerText", &[]);
    let text = text.as_str().expect("text");
    for said in ["Chain: holds", "Evidence: holds", "Signature: not checked", "brightness", "\"seq\": 1"] {
        assert!(text.contains(said), "'{said}' is missing: {text}");
    }
    assert_eq!(browser.run("return document.activeElement.id", &[]), "event-title");
    assert!(
        browser.run("return document.querySelectorAll('#event .scene svg rect').length", &[]).as_u64()
            > Some(0)
    );
    browser.wait("its frame", "return document.querySelector('#event .scene img').naturalWidth === 480");
    browser.run("document.querySelector('#spectrum summary').click()", &[]);
    browser.wait("its spectrum", "return document.querySelectorAll('#spectrum canvas').length === 3");
    browser.run("location.hash = ''", &[]);
    browser.wait("the overview", "return !document.getElementById('overview').hidden");
    assert_eq!(browser.complaints(), [""; 0]);
    keep(&browser, "page");
}

#[test]
fn by_keyboard_the_map_lies_over_the_picture_and_is_told_without_colour() {
    if !Browser::is_here() {
        return;
    }
    let watched = SpotdBox::start("", "");
    let browser = Browser::start(1280, 1000, false);
    browser.open(&watched.url("/"));
    browser.wait("tiles", "return document.querySelectorAll('.scene .over rect').length > 0");
    let pressed = |layer: &str| {
        let script =
            format!("return document.querySelector('[data-layer={layer}]').getAttribute('aria-pressed')");
        browser.run(&script, &[])
    };
    assert_eq!((pressed("tiles"), pressed("map")), (json!("true"), json!("false")));
    assert_eq!(browser.run("return document.querySelectorAll('.scene .heat rect').length", &[]), json!(0));
    // One step on from the tiles' button, and a press of the space bar.
    browser.run("document.querySelector('[data-layer=tiles]').focus()", &[]);
    browser.key("Tab", "");
    assert_eq!(browser.run("return document.activeElement.dataset.layer", &[]), "map");
    browser.key(" ", " ");
    browser.wait("the map", "return document.querySelectorAll('.scene .heat [data-band]').length > 0");
    assert_eq!((pressed("tiles"), pressed("map")), (json!("true"), json!("true")));
    // Each band has a pattern of its own, and both the legend and the text say the rest in words.
    let patterns = browser.run(
        "const shown = [...document.querySelectorAll('.scene .heat pattern')]; \
         return shown.map((p) => p.querySelector('path').getAttribute('d'))",
        &[],
    );
    let patterns = patterns.as_array().expect("patterns").clone();
    assert_eq!(
        patterns.iter().map(Value::to_string).collect::<std::collections::BTreeSet<_>>().len(),
        3,
        "{patterns:?}"
    );
    let said = browser.run("return document.querySelector('.layers + div').innerText", &[]);
    let said = said.as_str().expect("text");
    for words in
        ["Most synthetic:", "judged tiles", "places judged since", "striped: clear", "empty: not judged"]
    {
        assert!(said.contains(words), "'{words}' is missing: {said}");
    }
    // The feed turns bright: the map follows without a reload, slower than the verdict.
    let told = "document.querySelector('.layers + div p').innerText";
    let before = browser.run(&format!("return {told}"), &[]);
    browser.wait("the verdict", &format!("return {VERDICT} === 'synthetic'"));
    browser.wait("a newer map", &format!("return {told} !== {before}"));
    browser.key(" ", " ");
    browser.wait("no map", "return document.querySelector('.scene .heat').hidden");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn on_a_phone_in_the_dark_nothing_sticks_out() {
    if !Browser::is_here() {
        return;
    }
    let watched = SpotdBox::start("", "");
    watched.flagged();
    let browser = Browser::start(390, 844, true);
    browser.open(&watched.url("/"));
    browser.wait("the event", "return document.querySelectorAll('#events li').length === 1");
    browser.run("document.querySelector('[data-layer=map]').click()", &[]);
    browser.wait("the map", "return document.querySelectorAll('.scene .heat [data-band]').length > 0");
    let overhang = browser.run("return document.documentElement.scrollWidth - innerWidth", &[]);
    assert_eq!(overhang, json!(0), "the page scrolls sideways");
    let dark = browser.run("return matchMedia('(prefers-color-scheme: dark)').matches", &[]);
    assert_eq!(dark, json!(true));
    let back = browser.run("return getComputedStyle(document.body).backgroundColor", &[]);
    assert_eq!(back, json!("rgb(20, 24, 27)"));
    assert_eq!(browser.complaints(), [""; 0]);
    keep(&browser, "phone");
}

#[test]
fn axe_finds_nothing_serious() {
    let Some(axe) = std::env::var_os("SPOTD_AXE").map(std::path::PathBuf::from).filter(|p| p.exists()) else {
        println!("\n*** SKIPPED: SPOTD_AXE names no axe.min.js; `make test` fetches it ***\n");
        return;
    };
    if !Browser::is_here() {
        return;
    }
    let script = std::fs::read_to_string(axe).expect("axe-core");
    let watched = SpotdBox::start("", "");
    let event = watched.flagged();
    for (dark, hash) in [(false, ""), (true, ""), (false, event["id"].as_str().expect("an id"))] {
        let browser = Browser::start(1280, 1000, dark);
        browser.open(&watched.url(&if hash.is_empty() { "/".into() } else { format!("/#event/{hash}") }));
        browser
            .wait("the page", "return document.querySelectorAll('#events li, #event .checks li').length > 0");
        if hash.is_empty() {
            browser.run("document.querySelector('[data-layer=map]').click()", &[]);
            browser
                .wait("the map", "return document.querySelectorAll('.scene .heat [data-band]').length > 0");
        }
        // Through the driver: the page's own policy lets no script in.
        let found = browser.run_async(&format!(
            "{script}; const done = arguments[arguments.length - 1]; \
             axe.run().then((r) => done(r.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html + n.failureSummary)])))"
        ));
        let serious = |v: &&Value| matches!(v[0].as_str(), Some("serious" | "critical"));
        let serious: Vec<_> = found.as_array().expect("a list").iter().filter(serious).collect();
        assert!(serious.is_empty(), "dark: {dark}, {hash}: {serious:#?}");
    }
}

/// Keeps a picture of the page, where somebody wants one.
fn keep(browser: &Browser, name: &str) {
    if let Some(dir) = std::env::var_os("SPOTD_SCREENSHOTS") {
        let webp = base64::engine::general_purpose::STANDARD.decode(browser.screenshot()).expect("base64");
        std::fs::write(std::path::Path::new(&dir).join(format!("{name}.webp")), webp).expect("written");
    }
}

/// The pictures of the README: `SPOTD_SCREENSHOTS=DIR cargo test --test web screenshots`.
#[test]
fn screenshots_of_the_demonstration() {
    if std::env::var_os("SPOTD_SCREENSHOTS").is_none() || !Browser::is_here() {
        return;
    }
    let watched = SpotdBox::demonstration();
    let browser = Browser::start(1000, 1150, false);
    browser.open(&watched.url("/"));
    browser.wait("a picture", "return document.querySelector('.scene img')?.naturalWidth > 0");
    // The scene is true for a while, and on a busy machine for longer.
    let begun = std::time::Instant::now();
    let event = loop {
        let page = watched.get("/api/v1/events", &[]).json();
        if let Some(event) = page["events"].get(0) {
            break event.clone();
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(600), "nothing was flagged");
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    browser.wait("the event", "return document.querySelectorAll('#events li a img').length > 0");
    browser.wait("tiles", "return document.querySelectorAll('.scene svg rect').length > 0");
    keep(&browser, "readme-page");
    let browser = Browser::start(1000, 1800, false);
    browser.open(&watched.url(&format!("/#event/{}", event["id"].as_str().expect("an id"))));
    browser.wait("the frame", "return document.querySelector('#event .scene img')?.naturalWidth > 0");
    browser.run("document.querySelector('#spectrum summary').click()", &[]);
    browser.wait("its spectrum", "return document.querySelectorAll('#spectrum canvas').length > 0");
    browser.run("document.querySelector('#review [name=by]').value = 'Jo'", &[]);
    browser.run("document.querySelector(\"#review [data-review='confirmed']\").click()", &[]);
    browser.wait(
        "the judgement",
        "return document.getElementById('review-standing').textContent.includes('by Jo')",
    );
    keep(&browser, "readme-event");
}
