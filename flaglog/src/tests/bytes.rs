//! Whatever bytes lie in the folder: reader, cursor, check and start come to an end and say something.

use proptest::prelude::*;

use super::*;
use crate::cursor::CursorFile;

/// Bytes that are sometimes close to a segment.
fn segment_like() -> impl Strategy<Value = Vec<u8>> {
    let line = Just(()).prop_map(|()| {
        let body = format!("{{\"schema\":1,\"seq\":1,\"prev\":\"{}\"}}", Hash::ZERO);
        chain::seal(&body).1.into_bytes()
    });
    let piece = prop_oneof![
        line,
        prop::collection::vec(any::<u8>(), 0..300),
        Just(b"\n".to_vec()),
        Just(vec![0; 700]),
        Just(b"{\"type\":\"event\",\"schema\":1,\"seq\":18446744073709551615".to_vec()),
        (0..3000usize).prop_map(|n| {
            let fs = MemFs::default();
            fill(&fs, 3, 1 << 20);
            let mut bytes = fs.read(&segments(&fs)[0], 0, usize::MAX).expect("read");
            bytes.truncate(n);
            bytes
        }),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_as_segments_are_read_to_their_end(
        first in segment_like(),
        second in segment_like(),
        at in prop_oneof![Just(1u64), Just(4), any::<u64>()],
    ) {
        let fs = MemFs::default();
        fs.create_dirs(Path::new(DIR)).expect("a folder");
        fs.put(&segment::path(Path::new(DIR), 1), &first);
        fs.put(&segment::path(Path::new(DIR), at), &second);
        let (items, _) = read(&fs);
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let report = verify::verify(&shared, Path::new(DIR), None);
        if let Ok(report) = &report {
            prop_assert_eq!(report.records, items.len() as u64);
        }
        // The writer starts on anything but a newer log (or one that has no number left), and goes on.
        if let Ok(mut log) = open(&fs, 1 << 20)
            && let Ok(record) = log.append(new_record("cam", 0.9), None)
        {
            let (items, _) = read(&fs);
            prop_assert!(events(&items).contains(&record), "what was appended can be read");
        }
    }

    #[test]
    fn any_bytes_as_a_cursor_are_one_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), seq: u64, segment: u64, offset: u64) {
        let fs = MemFs::default();
        let records = fill(&fs, 4, 2500);
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let cursor = CursorFile::new(shared.clone(), Path::new(DIR), "mqtt");
        let almost = format!("{{\"version\":1,\"seq\":{seq},\"hash\":\"{}\"}}", records[1].hash);
        let place = format!(",\"at\":{{\"segment\":{segment},\"offset\":{offset}}}}}");
        let placed = almost.replace('}', &place);
        for content in [bytes, almost.into_bytes(), placed.into_bytes()] {
            fs.put(cursor.path(), &content);
            if let Ok(Some(mark)) = cursor.load() {
                let reader = Reader::after(shared.clone(), Path::new(DIR), mark);
                let right = records.iter().any(|r| (r.seq, r.hash) == (mark.seq, mark.hash));
                prop_assert_eq!(reader.is_ok(), right || mark.seq == 0, "{:?}", mark);
            }
        }
    }
}
