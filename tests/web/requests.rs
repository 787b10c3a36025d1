//! What is answered, and to whom.

use serde_json::{Value, json};

use crate::box_of::SpotdBox;

#[test]
fn the_api_tells_what_the_page_shows() {
    let watched = SpotdBox::start("", "");
    let event = watched.flagged();
    let about = watched.get("/api/v1", &[]).json();
    assert_eq!((&about["node"], &about["schema"]), (&json!("test box"), &json!(2)));

    let sources = watched.get("/api/v1/sources", &[]).json();
    assert_eq!((&sources[0]["id"], &sources[0]["state"]), (&json!("studio.1"), &json!("live")));
    let newest = watched.get("/api/v1/sources/studio.1", &[]).json()["newest"].clone();
    assert_eq!((&newest["width"], &newest["height"]), (&json!(480), &json!(270)));
    assert!(newest["tiles"].as_array().is_some_and(|t| t.iter().all(|t| t["score"].is_f64())), "{newest}");
    let columns = watched.get("/api/v1/sources/studio.1/history", &[]).json();
    let length = |name: &str| columns[name].as_array().expect("a column").len();
    assert!(
        length("at") > 5 && length("at") == length("raw") && length("at") == length("smoothed"),
        "{columns}"
    );
    let picture = watched.get("/api/v1/sources/studio.1/picture", &[]);
    assert_eq!(picture.header("content-type"), "image/jpeg");
    let picture = image::load_from_memory(&picture.body).expect("a JPEG");
    assert_eq!((picture.width(), picture.height()), (480, 270));

    let map = watched.get("/api/v1/sources/studio.1/map", &[]).json();
    let cells = |name: &str| map[name].as_array().expect("a cell each").clone();
    assert_eq!((&map["columns"], &map["rows"], &map["side"]), (&json!(15), &json!(9), &json!(32)));
    let (values, judged) = (cells("values"), cells("judged"));
    assert_eq!((values.len(), judged.len()), (135, 135));
    // What no tile has covered yet is unknown, and everything else is known.
    for (value, judged) in values.iter().zip(&judged) {
        assert_eq!(value.is_f64(), judged.as_u64() > Some(0), "{map}");
    }
    assert!(values.iter().filter(|v| v.is_f64()).count() > 100, "{map}");
    let time = |name: &str| map[name].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    assert!(time("since") < time("at"));

    // The event, whole, and its evidence, which a browser keeps.
    let id = event["id"].as_str().expect("an id");
    let detail = watched.get(&format!("/api/v1/events/{id}"), &[]).json();
    assert_eq!((&detail["first"]["seq"], &detail["checks"]["chain"]["holds"]), (&json!(1), &json!(true)));
    assert_eq!(detail["checks"]["evidence"]["holds"], json!(true));
    assert_eq!(detail["checks"]["signature"]["holds"], json!(null));
    let path = format!("/api/v1/events/{id}/evidence/{}", event["picture"].as_str().expect("a hash"));
    let kept = watched.get(&path, &[]);
    assert_eq!((kept.status, kept.header("content-type")), (200, "image/jpeg"));
    assert!(kept.header("cache-control").contains("immutable"));
    let again = watched.get(&path, &[("If-None-Match", kept.header("etag"))]);
    assert_eq!((again.status, again.body.len()), (304, 0));

    // Its spectrum, beside that of the source while it was clear.
    let spectrum = watched.get(&format!("/api/v1/events/{id}/spectrum"), &[]).json();
    assert_eq!(spectrum["side"], json!(64));
    for name in ["event", "normal"] {
        let values = spectrum[name].as_array().unwrap_or_else(|| panic!("no {name}: {spectrum}"));
        assert!(values.len() == 64 * 64 && values.iter().all(Value::is_f64), "{name}");
    }
    assert!(spectrum["pictures"].as_u64() >= Some(1));

    let kept = &detail["first"]["evidence"]["map"];
    let of_map = format!("/api/v1/events/{id}/evidence/{}", kept["sha256"].as_str().expect("a map"));
    let map = image::load_from_memory(&watched.get(&of_map, &[]).body).expect("a PNG");
    assert_eq!((map.width(), map.height(), &kept["side"]), (15, 9, &json!(32)));

    // Somebody touches the picture: the page says so and does not show it.
    let file = detail["first"]["evidence"]["frame"]["file"].as_str().expect("a file");
    let file = watched.dir.path().join("flags").join(file);
    let mut bytes = std::fs::read(&file).expect("the evidence");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    assert_eq!(watched.get(&path, &[]).status, 409);
    let detail = watched.get(&format!("/api/v1/events/{id}"), &[]).json();
    assert_eq!(detail["checks"]["evidence"]["holds"], json!(false), "{detail}");
    // And is gone.
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(watched.get(&path, &[]).status, 410);
}

#[test]
fn what_is_wrong_is_named() {
    let watched = SpotdBox::start("", "");
    for (path, status, said) in [
        ("/nothing", 404, "the API at /api/v1"),
        ("/api/v1/sources/none", 404, "/api/v1/sources lists them"),
        ("/api/v1/sources/none/picture", 404, "no source 'none'"),
        ("/api/v1/sources/none/map", 404, "no source 'none'"),
        ("/api/v1/events/x", 400, "is no id"),
        ("/api/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "spotd log"),
        ("/api/v1/events?from=yesterday", 400, "2026-11-29T12:00:00Z"),
        ("/api/v1/events?from=", 400, "2026-11-29T12:00:00Z"),
        ("/api/v1/events?colour=red", 400, "colour"),
        ("/api/v1/events?limit=-1", 400, "limit is a number"),
        ("/api/v1/events?limit=0", 400, "limit is a number"),
        ("/api/v1/events?limit=201", 400, "limit is a number"),
        ("/assets/../../../../etc/passwd", 404, "nothing here"),
        ("/assets/%2e%2e%2f%2e%2e%2fetc/passwd", 404, "nothing here"),
        ("/api/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV/evidence/..%2f..%2flock", 404, "no event"),
    ] {
        let answer = watched.get(path, &[]);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let error = answer.json()["error"].as_str().expect("an error").to_owned();
        assert!(error.contains(said), "{path}: {error}");
    }
}

#[test]
fn health_readiness_and_metrics_are_told() {
    let gone = "[[source]]\nid = \"gone\"\nuri = \"/dev/video-that-is-not-there\"";
    let watched = SpotdBox::start("", gone);
    assert_eq!(watched.get("/healthz", &[]).text(), "alive\n");
    let ready = watched.wait("the first frame", |b| {
        let ready = b.get("/readyz", &[]);
        (ready.json()["why"].as_array().expect("a list").len() == 1).then_some(ready)
    });
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("source gone has not delivered yet"), "{}", ready.text());
    let map = watched.get("/api/v1/sources/gone/map", &[]);
    assert_eq!(map.status, 503);
    assert!(map.text().contains("no frame of it was judged"), "{}", map.text());
    let metrics = watched.get("/metrics", &[]);
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("spotd_source_frames_total{source=\"studio.1\"}"), "{}", metrics.text());
    let open =
        watched.get("/metrics", &[("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")]);
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    let text = open.text();
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE spotd_source_frames counter"), "{text}");
    // Frames have gone through all stages but the log's.
    for stage in ["choice", "tile", "verdict"] {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(&format!("spotd_stage_seconds_count{{stage=\"{stage}\"}} ")));
        assert!(line.and_then(|n| n.parse::<f64>().ok()).is_some_and(|n| n > 0.0), "{stage}: {text}");
    }
}

#[test]
fn another_sites_page_reads_nothing_and_changes_nothing() {
    let watched = SpotdBox::start("names = [\"Box.lan\"]", "");
    for (host, status) in
        [("evil.example", 421), ("127.0.0.1.evil.example", 421), ("box.lan", 200), ("[::1]:1", 200)]
    {
        let answer = watched.get("/api/v1/sources", &[("Host", host)]);
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
    }
    assert_eq!(watched.post("/logout", "", &[("Origin", "http://evil.example")]).status, 403);
    assert_eq!(watched.post("/logout", "", &[]).status, 403);
    let page = watched.get("/", &[]);
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text().contains("<style") && !page.text().contains("onclick"), "something is inline");
}

#[test]
fn where_a_token_is_needed_nothing_is_told_without_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    std::fs::write(&file, "a token of some length\n").expect("written");
    let watched = SpotdBox::start(&format!("token_file = {file:?}"), "");
    let own = format!("http://127.0.0.1:{}", watched.port);
    for path in [
        "/api/v1",
        "/api/v1/sources",
        "/metrics",
        "/readyz",
        "/api/v1/live",
        "/api/v1/sources/studio.1/picture",
        "/api/v1/sources/studio.1/map",
    ] {
        assert_eq!(watched.get(path, &[]).status, 401, "{path}");
    }
    let page = watched.get("/", &[]);
    assert_eq!((page.status, page.header("location")), (303, "/login"));
    assert_eq!(watched.get("/healthz", &[]).status, 200);
    let bearer = [("Authorization", "Bearer a token of some length")];
    assert_eq!(watched.get("/metrics", &bearer).status, 200);

    let form = [("Origin", own.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let wrong = watched.post("/login", "token=wrong", &form);
    assert_eq!((wrong.status, wrong.header("location")), (303, "/login?wrong"));
    let right = watched.post("/login", "token=a+token+of+some+length", &form);
    let cookie = right.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair");
    assert_eq!(watched.get("/", &[("Cookie", pair)]).status, 200);
    for _ in 0..20 {
        watched.post("/login", "token=wrong", &form);
    }
    assert_eq!(watched.post("/login", "token=a+token+of+some+length", &form).status, 429);
    // Who has logged in before is not locked out by that.
    assert_eq!(watched.get("/api/v1", &[("Cookie", pair)]).status, 200);
}
