//! What operators say of events: over the API, on the page, from two windows, and where it cannot be kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use spotd::flaglog::{Entry, Finding, FlagLog, OsFs, Reader, Review};
use spotd::verdict::EventKind;

use crate::box_of::{Answer, SpotdBox};
use crate::browser::Browser;
use crate::common::records;
use crate::common::tmpfs::SmallDisk;

pub fn judge(watched: &SpotdBox, id: &str, body: &Value) -> Answer {
    let own = format!("http://127.0.0.1:{}", watched.port);
    let headers = [("Origin", own.as_str()), ("Content-Type", "application/json")];
    watched.post(&format!("/api/v1/events/{id}/review"), &body.to_string(), &headers)
}

/// The reviews in the log's folder, all of which holds.
fn kept(watched: &SpotdBox) -> Vec<Review> {
    let mut reader = Reader::from_start(Arc::new(OsFs), &watched.dir.path().join("flags"));
    let mut all = Vec::new();
    while let Some(item) = reader.next().expect("a sound log") {
        if let Entry::Review(review) = item.entry {
            all.push(review);
        }
    }
    all
}

pub fn id_of(event: &Value) -> String {
    event["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_judgement_is_durable_before_it_is_answered_and_the_list_is_filtered_by_it() {
    let watched = SpotdBox::start("", "");
    let id = id_of(&watched.flagged());
    let answer =
        judge(&watched, &id, &json!({ "review": "false-alarm", "by": " Jo ", "comment": "a poster" }));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let review = answer.json();
    let lying = kept(&watched);
    assert_eq!(serde_json::to_value(&lying[0]).expect("JSON"), review);
    assert_eq!((lying.len(), lying[0].review, &*lying[0].by), (1, Finding::FalseAlarm, "Jo"));
    assert_eq!(lying[0].event.to_string(), id);

    let listed = |query: &str| {
        let page = watched.get(&format!("/api/v1/events?{query}"), &[]).json();
        page["events"].as_array().expect("a list").len()
    };
    watched.wait("the list to have it", |b| {
        let page = b.get("/api/v1/events", &[]).json();
        (page["events"][0]["review"]["id"] == review["id"]).then_some(())
    });
    assert_eq!((listed("review=false-alarm"), listed("review=confirmed"), listed("review=none")), (1, 0, 0));
    assert_eq!((listed("verdict=synthetic"), listed("verdict=clear")), (1, 0));
    let detail = watched.get(&format!("/api/v1/events/{id}"), &[]).json();
    assert_eq!(detail["reviewed"], review);

    // Whoever has not seen it is told what stands, and nothing is written.
    let late = judge(&watched, &id, &json!({ "review": "confirmed", "by": "Al" }));
    assert_eq!((late.status, &late.json()["standing"]["by"]), (409, &json!("Jo")));
    assert!(late.text().contains("false-alarm by Jo"), "{}", late.text());
    assert_eq!(kept(&watched).len(), 1);
    let back = judge(&watched, &id, &json!({ "review": "withdrawn", "by": "Al", "replaces": review["id"] }));
    assert_eq!(back.status, 201, "{}", back.text());
    watched.wait("it to be taken back", |_| (listed("review=none") == 1).then_some(()));
    assert_eq!(kept(&watched).len(), 2);
}

#[test]
fn what_is_no_judgement_is_named_and_other_sites_judge_nothing() {
    let watched = SpotdBox::start("", "");
    let id = id_of(&watched.flagged());
    let long = "x".repeat(1001);
    for (body, said) in [
        (json!({ "review": "maybe", "by": "Jo" }), "one of confirmed"),
        (json!({ "review": "confirmed", "by": "" }), "the name of who judges"),
        (json!({ "review": "confirmed", "by": "Jo\u{7}" }), "control characters"),
        (json!({ "review": "confirmed", "by": "Jo\u{202e}" }), "control characters"),
        (json!({ "review": "confirmed", "by": "Jo", "comment": long }), "longer than 1000"),
        (json!({ "review": "confirmed" }), "by"),
        (json!({ "review": "confirmed", "by": "Jo", "colour": "red" }), "colour"),
        (json!({ "review": "withdrawn", "by": "Jo" }), "taken back"),
        (json!({ "review": "confirmed", "by": "Jo", "replaces": "x" }), "replaces"),
        (json!([]), ""),
    ] {
        let answer = judge(&watched, &id, &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(
            answer.json()["error"].as_str().is_some_and(|e| e.contains(said)),
            "{body}: {}",
            answer.text()
        );
    }
    let good = json!({ "review": "confirmed", "by": "Jo" });
    assert_eq!(judge(&watched, "01ARZ3NDEKTSV4RRFFQ69G5FAV", &good).status, 404);
    assert_eq!(judge(&watched, "x", &good).status, 400);
    let path = format!("/api/v1/events/{id}/review");
    let json_type = ("Content-Type", "application/json");
    let other = watched.post(&path, &good.to_string(), &[("Origin", "http://evil.example"), json_type]);
    assert_eq!(other.status, 403);
    assert_eq!(watched.post(&path, &good.to_string(), &[json_type]).status, 403);
    let own = format!("http://127.0.0.1:{}", watched.port);
    let form = watched.post(&path, "review=confirmed&by=Jo", &[("Origin", &own)]);
    assert_eq!(form.status, 415, "{}", form.text());
    let huge = json!({ "review": "confirmed", "by": "Jo", "comment": "x".repeat(10_000) });
    assert_eq!(judge(&watched, &id, &huge).status, 413);
    assert!(kept(&watched).is_empty());
}

const STANDS: &str = "document.getElementById('review-standing')?.textContent ?? ''";

pub fn open_event(browser: &Browser, watched: &SpotdBox, id: &str) {
    browser.open(&watched.url(&format!("/#event/{id}")));
    browser.wait("the judgement", "return Boolean(document.querySelector('#review button'))");
}

fn click(browser: &Browser, review: &str) {
    browser
        .run("document.querySelector(`#review [data-review='${arguments[0]}']`).click()", &[json!(review)]);
}

fn name(browser: &Browser, by: &str) {
    browser.run("document.querySelector('#review [name=by]').value = arguments[0]", &[json!(by)]);
}

#[test]
fn two_windows_judge_one_event_and_each_sees_what_the_other_said() {
    if !Browser::is_here() {
        return;
    }
    let watched = SpotdBox::start("", "");
    let id = id_of(&watched.flagged());
    let (one, two) = (Browser::start(1280, 1000, false), Browser::start(390, 844, true));
    open_event(&one, &watched, &id);
    open_event(&two, &watched, &id);
    assert!(
        one.run(&format!("return {STANDS}"), &[]).as_str().is_some_and(|t| t.contains("Nobody has judged"))
    );

    // Without a name nothing is sent, and the browser says what is missing.
    click(&one, "confirmed");
    assert_eq!(
        one.run("return document.querySelector('#review [name=by]').validity.valueMissing", &[]),
        json!(true)
    );
    name(&one, "Jo");
    one.run("document.querySelector('#review [name=comment]').value = 'seen <b>before</b>'", &[]);
    // Somebody types meanwhile in the other window: that stays when the news come.
    two.run("document.querySelector('#review [name=comment]').value = 'half a sen'", &[]);
    click(&one, "confirmed");
    one.wait("what was said", &format!("return ({STANDS}).includes('confirmed, by Jo')"));
    two.wait("what the other said", &format!("return ({STANDS}).includes('confirmed, by Jo')"));
    assert_eq!(
        two.run("return document.querySelector('#review [name=comment]').value", &[]),
        json!("half a sen")
    );
    assert_eq!(
        two.run("return document.getElementById('review-comment').textContent", &[]),
        json!("seen <b>before</b>")
    );

    // Between the second one's look and its click a third one judges: the answer says what stands.
    let newest = kept(&watched).last().expect("a review").id.to_string();
    name(&two, "Al");
    let raced = json!({ "review": "withdrawn", "by": "Eve", "replaces": newest }).to_string();
    two.run(
        "const body = arguments[0], real = window.fetch; \
         window.fetch = async (path, request) => { \
           if (request?.method === 'POST') { window.fetch = real; await real(path, { ...request, body }); } \
           return real(path, request); }",
        &[json!(raced)],
    );
    click(&two, "false-alarm");
    two.wait(
        "what happened",
        "return document.getElementById('review-problem').textContent.includes('somebody else has judged')",
    );
    two.wait("what stands", &format!("return ({STANDS}).includes('Eve has taken it back')"));
    click(&two, "false-alarm");
    two.wait("what was said", &format!("return ({STANDS}).includes('false alarm, by Al')"));
    one.wait("the other's word", &format!("return ({STANDS}).includes('false alarm, by Al')"));
    let said: Vec<_> = kept(&watched).into_iter().map(|r| (r.by, r.review)).collect();
    let names: Vec<&str> = said.iter().map(|(by, _)| by.as_str()).collect();
    assert_eq!(names, ["Jo", "Eve", "Al"]);

    // The list says it, its filter knows it, and the name is remembered.
    one.run("location.hash = ''", &[]);
    one.wait(
        "the list",
        "return document.querySelector('#events .reviewed')?.textContent === 'false alarm, says Al'",
    );
    let choose = "const s = document.forms.filter.elements.review; s.value = arguments[0]; s.dispatchEvent(new Event('change', { bubbles: true }))";
    one.run(choose, &[json!("confirmed")]);
    one.wait("an empty list", "return !document.getElementById('no-events').hidden");
    one.run(choose, &[json!("false-alarm")]);
    one.wait("the event again", "return document.querySelectorAll('#events li a').length === 1");
    one.open(&watched.url("/"));
    open_event(&one, &watched, &id);
    assert_eq!(one.run("return document.querySelector('#review [name=by]').value", &[]), json!("Jo"));
    let overhang = two.run("return document.documentElement.scrollWidth - innerWidth", &[]);
    assert_eq!(overhang, json!(0), "the page scrolls sideways");
    assert_eq!(one.complaints(), [""; 0]);
}

#[test]
fn where_the_log_cannot_be_written_the_page_says_that_nothing_was_kept() {
    let Some(disk) = SmallDisk::mount(4096) else { return };
    let log = format!("dir = {:?}\nmin_free_mib = 0\nupdate_seconds = 3600", disk.log());
    let watched = SpotdBox::with_log(&log, "", "");
    let id = id_of(&watched.flagged());
    assert!(std::fs::write(disk.hog(), vec![1u8; 8 << 20]).is_err(), "the disk is full");
    // Longer than what may be left in the last block of the segment.
    let comment = "\u{10348}".repeat(1000);
    let refused = judge(&watched, &id, &json!({ "review": "confirmed", "by": "Jo", "comment": comment }));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("was not written"), "{}", refused.text());
    if Browser::is_here() {
        let browser = Browser::start(1280, 1000, false);
        open_event(&browser, &watched, &id);
        browser.wait("the alarm", "return !document.getElementById('alarm').hidden");
        name(&browser, "Jo");
        browser
            .run("document.querySelector('#review [name=comment]').value = arguments[0]", &[json!(comment)]);
        click(&browser, "confirmed");
        browser.wait(
            "what happened",
            "return document.getElementById('review-problem').textContent.includes('Not kept')",
        );
        assert!(browser.run(&format!("return {STANDS}"), &[]).as_str().is_some_and(|t| t.contains("Nobody")));
        std::fs::remove_file(disk.hog()).expect("removed");
        click(&browser, "confirmed");
        browser.wait("it to be kept", &format!("return ({STANDS}).includes('confirmed, by Jo')"));
        browser.wait("the problem to go", "return document.getElementById('review-problem').hidden");
    }
}

#[test]
fn pictures_that_make_room_while_they_are_shown_are_said_to_have_gone() {
    if !Browser::is_here() {
        return;
    }
    let Some(disk) = SmallDisk::mount(16 * 1024) else { return };
    let log = format!("dir = {:?}\nmin_free_mib = 4\nupdate_seconds = 1", disk.log());
    let watched = SpotdBox::with_log(&log, "", "");
    let id = id_of(&watched.flagged());
    let browser = Browser::start(1280, 1000, false);
    open_event(&browser, &watched, &id);
    browser.wait("its picture", "return document.querySelector('#event .scene img')?.naturalWidth === 480");
    // Somebody else fills the disk; with the next record pictures make room.
    assert!(std::fs::write(disk.hog(), vec![1u8; 32 << 20]).is_err(), "the disk is full");
    browser.wait(
        "what happened",
        "return document.getElementById('event-notices').textContent.includes('have made room')",
    );
    std::fs::remove_file(disk.hog()).expect("removed");
    browser.wait("no broken picture", "return document.querySelectorAll('#event .scene img').length === 0");
    // What is left can be judged all the same.
    name(&browser, "Jo");
    click(&browser, "confirmed");
    browser.wait("what was said", &format!("return ({STANDS}).includes('confirmed, by Jo')"));
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    browser.open(&watched.url("/"));
    browser.open(&watched.url(&format!("/#event/{unknown}")));
    browser
        .wait("an unknown event", "return document.getElementById('event').textContent.includes('no event')");
}

#[test]
fn a_clock_that_was_set_back_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = spotd::clock::ManualClock::new(SystemTime::now() + Duration::from_secs(400 * 86_400));
    let flags = dir.path().join("flags");
    let mut log = FlagLog::open(&records::config(&flags), "test box", Arc::new(clock)).expect("open");
    log.append(records::new_record("later", EventKind::Alert), None).expect("append");
    drop(log);
    let watched = SpotdBox::begin(dir, None, "", "", "");
    let event = watched
        .wait("an event", |b| b.get("/api/v1/events?source=studio.1", &[]).json()["events"].get(0).cloned());
    let id = id_of(&event);
    let detail = watched.get(&format!("/api/v1/events/{id}"), &[]).json();
    assert_eq!(detail["first"]["clock"], json!("set-back"), "{detail}");
    if Browser::is_here() {
        let browser = Browser::start(1280, 1000, false);
        open_event(&browser, &watched, &id);
        browser.wait(
            "what happened",
            "return document.getElementById('event-notices').textContent.includes('clock was set back')",
        );
    }
}
