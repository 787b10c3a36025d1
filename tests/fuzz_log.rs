//! The bodies of the flag log's fuzz targets (`fuzz/`, `make fuzz`) on a bounded number of inputs.

#[path = "../fuzz/log_bodies.rs"]
mod log_bodies;

use proptest::prelude::*;

fn line() -> impl Strategy<Value = Vec<u8>> {
    let text = |t: String| t.into_bytes();
    prop_oneof![
        4 => (1u64..9).prop_map(|seq| format!("#{seq}\n").into_bytes()),
        1 => any::<u64>().prop_map(|seq| format!("#{seq}\n").into_bytes()),
        2 => (1u64..9).prop_map(|seq| format!("@{seq}\n").into_bytes()),
        1 => (1u64..9).prop_map(|seq| format!("~{seq}\n").into_bytes()),
        1 => (any::<u8>(), 1u64..9).prop_map(|(schema, seq)| format!("!\"schema\":{schema},\"seq\":{seq}\n").into_bytes()),
        1 => "!\\PC{0,80}\n".prop_map(text),
        1 => "\\PC{0,80}\n?".prop_map(text),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0usize..300).prop_map(|cut| {
            let line = log_bodies::note(1, spotd::flaglog::Hash::ZERO).1;
            line.as_bytes()[..cut.min(line.len())].to_vec()
        }),
    ]
}

fn cursor_like() -> impl Strategy<Value = Vec<u8>> {
    let at = prop_oneof![
        Just(String::new()),
        (any::<u64>(), any::<u64>()).prop_map(|(s, o)| format!(",\"at\":{{\"segment\":{s},\"offset\":{o}}}")),
        (1u64..3, 0u64..1500).prop_map(|(s, o)| format!(",\"at\":{{\"segment\":{s},\"offset\":{o}}}")),
        "\\PC{0,40}",
    ];
    prop_oneof![
        4 => (0u64..6, 1u64..5, at)
            .prop_map(|(seq, hash, at)| format!("{{\"version\":1,\"seq\":{seq},\"hash\":\"H{hash}\"{at}}}").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_lines_as_segments(lines in prop::collection::vec(line(), 0..12)) {
        log_bodies::segments(&lines.concat());
    }

    #[test]
    fn any_bytes_as_a_cursor(bytes in cursor_like()) {
        log_bodies::cursor(&bytes);
    }
}
