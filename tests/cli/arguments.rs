//! What is wrong with an argument is said of the argument, not of a configuration that nobody wrote.

use crate::setup::{Site, said};

#[test]
fn an_error_about_a_source_names_the_flag() {
    let site = Site::new();
    for (given, word) in [
        ("nonsense://x", "--source nonsense://x: has an unknown scheme 'nonsense://'; known are rtsp,"),
        ("", "--source is empty; give /dev/video0, rtsp://..., "),
        ("  ", "--source is empty; "),
        ("rtsp://", "--source rtsp://: names no host; write rtsp://HOST/PATH"),
        ("RTSPS:///stream", "names no host; write rtsps://HOST/PATH"),
        ("http://", "--source http://: is not a valid address: empty host"),
        ("srt://", "--source srt://: names neither host nor port; write srt://HOST:PORT"),
        ("udp://", "--source udp://: names neither host nor port"),
        ("rtmp://server", "--source rtmp://server: names no stream: rtmp://HOST/APPLICATION/STREAM"),
        ("rist://:5005", "--source rist://:5005: rist:// takes the address and an even port"),
        ("v4l2:///dev/video0?size=big", "size=big must be WIDTHxHEIGHT"),
        ("v4l2:///elsewhere", "v4l2:// takes a device: v4l2:///dev/video0"),
        ("demo://x", "demo://SEED takes a number, not 'x'"),
        ("file:///a?b", "is written %3F"),
        ("pipeline:", "--source pipeline:: names no element; write pipeline:ELEMENT ! ELEMENT"),
        ("videotestsrc ! appsink", "a GStreamer pipeline is written pipeline:TEXT"),
        ("rtsp://user:pa#ss@cam/1", "write # as %23"),
    ] {
        let output = site.spotd("run --log-dir new --source").arg(given).output().expect("runs");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{given}: {said}");
        assert!(said.starts_with("spotd: --source ") && said.contains(word), "{given}: {said}");
        assert!(
            !said.contains("command line") && !said.contains("source[") && !said.contains("pa#ss"),
            "{said}"
        );
        assert!(!site.path("new").exists(), "nothing is begun: {given}");
    }
}

/// A name without a scheme may be a file that comes later, as on a disk that is mounted; so it is watched, and what fails
/// is said of it.
#[test]
fn a_file_that_is_not_there_is_named_and_watched() {
    let site = Site::new();
    let mut run = site.spotd("run --log-dir new --for-seconds 1 --source a|b");
    let output = run.output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("cannot open a|b: No such file"), "{}", said(&output));
}

#[test]
fn an_error_about_a_rate_names_the_flag() {
    let site = Site::new();
    for rate in ["0", "1000", "many", "nan"] {
        let output = site.spotd("run --demo --log-dir new --fps").arg(rate).output().expect("runs");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let word = format!("invalid value '{rate}' for '--fps <N>': must be a number from 0.01 to 120");
        assert!(said.contains(&word) && !said.contains("source["), "{said}");
    }
}
