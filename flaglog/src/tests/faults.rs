//! What crashes, edits, full and failing disks do to a log.

use std::io;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::fs::read_whole;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the byte at which the newest segment ends: every whole record is kept, work goes on, and
    /// the cut is noted in the chain.
    #[test]
    fn a_log_cut_at_any_byte_keeps_all_whole_records(records in 1..5usize, cut: prop::sample::Index) {
        let fs = MemFs::default();
        let written = fill(&fs, records, 1 << 20);
        let path = &segments(&fs)[0];
        let whole = fs.read(path, 0, usize::MAX).expect("read");
        let cut = cut.index(whole.len() + 1);
        fs.edit(path, |bytes| bytes.truncate(cut));
        let kept = whole[..cut].iter().filter(|&&b| b == b'\n').count();
        let torn = cut > 0 && whole[cut - 1] != b'\n';
        let more = fill(&fs, 1, 1 << 20);
        let (items, errors) = read(&fs);
        prop_assert!(errors.is_empty(), "{errors:?}");
        let mut expected = written[..kept].to_vec();
        expected.extend(more);
        prop_assert_eq!(events(&items), expected);
        prop_assert_eq!(notes(&items), if torn { vec![NoteKind::Recovered] } else { vec![] });
        let saved = fs.files().iter().filter(|p| p.to_string_lossy().contains("/cut-")).count();
        prop_assert_eq!(saved, usize::from(torn));
    }

    /// Any changed byte is found, and the first error names the record that it is in.
    #[test]
    fn an_edited_byte_is_named(at: prop::sample::Index, flip in 1..=255u8) {
        let fs = MemFs::default();
        fill(&fs, 6, 2500);
        let all = segments(&fs);
        let total: u64 = all.iter().map(|p| fs.len(p).expect("len")).sum();
        let mut at = at.index(total as usize);
        let mut seq = 0;
        for path in &all {
            let bytes = fs.read(path, 0, usize::MAX).expect("read");
            if at < bytes.len() {
                seq += 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count() as u64;
                fs.edit(path, |bytes| bytes[at] ^= flip);
                break;
            }
            at -= bytes.len();
            seq += bytes.iter().filter(|&&b| b == b'\n').count() as u64;
        }
        let (items, errors) = read(&fs);
        let sound = items.iter().map(|i| i.entry.seq()).take_while(|&s| s < seq).count() as u64;
        prop_assert_eq!(sound, seq - 1, "records before the edited one hold");
        prop_assert!(items.iter().all(|i| i.entry.seq() != seq), "the edited one does not");
        let unfinished = seq == 6 && errors.is_empty();
        match errors.first() {
            Some(ReadError::Damaged { seq: found, .. }) => prop_assert_eq!(*found, Some(seq)),
            // The very last line feed is gone: a record in progress, which opening cuts off and says.
            None => prop_assert!(unfinished),
            Some(other) => prop_assert!(false, "{}", other),
        }
        // The writer goes on behind any damage and leaves it in place.
        let more = fill(&fs, 2, 2500);
        let (items, after) = read(&fs);
        prop_assert!(events(&items).ends_with(&more));
        if !unfinished {
            prop_assert!(matches!(after.first(), Some(ReadError::Damaged { seq: found, .. }) if *found == Some(seq)), "{:?}", after);
        }
    }

    /// One failing operation at any point, then loss of power at any point: nothing that was acknowledged
    /// is missing, nothing else appears, the chain holds.
    #[test]
    fn nothing_acknowledged_is_lost(
        fail_at in 0..120u64,
        fail_len in 1..12u64,
        full: bool,
        kept in prop_oneof![Just(0), 1..4000usize, Just(usize::MAX)],
        zeros: bool,
        kill: bool,
    ) {
        let fs = MemFs::default();
        let tiles = [ScoredTile { rect: rect(0), score: 0.9 }, ScoredTile { rect: rect(32), score: 0.5 }];
        let evidence = evidence(&tiles);
        let mut acknowledged = Vec::new();
        {
            let mut log = open(&fs, 2500).expect("open");
            let kind = if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            fs.fail(fail_at..fail_at + fail_len, kind);
            for i in 0..6 {
                let pictures = (i % 2 == 0).then_some(&evidence);
                if let Ok(record) = log.append(new_record("cam", f64::from(i) / 10.0), pictures) {
                    acknowledged.push(record);
                }
            }
        }
        if kill { fs.kill() } else { fs.cut_power(kept, zeros) }
        let mut log = open(&fs, 2500).expect("open again");
        acknowledged.push(log.append(new_record("cam", 1.0), Some(&evidence)).expect("work goes on"));
        let (items, errors) = read(&fs);
        prop_assert!(errors.is_empty(), "{errors:?}");
        let found = events(&items);
        let mut rest = found.iter();
        for record in &acknowledged {
            prop_assert!(rest.any(|r| r == record), "record {} is missing or out of order", record.seq);
            // Only a full disk may cost evidence that was there, and then the log says so.
            for file in record.evidence.iter().flat_map(record::EvidenceFiles::files) {
                let path = file.path_in(Path::new(DIR)).expect("a path of ours");
                match read_whole(&fs, &path, 1 << 20) {
                    Ok(bytes) => prop_assert_eq!(Hash::of(&bytes), file.sha256),
                    Err(e) => prop_assert!(full, "evidence is missing: {e}"),
                }
            }
        }
        let report = verified(&fs);
        prop_assert!(report.holds, "{:?}", report.problems);
        prop_assert!(report.unfinished.is_empty(), "{:?}", report.unfinished);
        // A record in progress may have reached the disk whole; it was then never acknowledged.
        prop_assert!(found.len() <= acknowledged.len() + 1, "{} found, {} acknowledged", found.len(), acknowledged.len());
    }
}

#[test]
fn a_full_disk_costs_evidence_before_records_and_heals() {
    let fs = MemFs::default();
    let mut log = open(&fs, 1 << 20).expect("open");
    let evidence = evidence(&[ScoredTile { rect: rect(0), score: 0.9 }]);
    let first = log.append(new_record("cam", 0.9), None).expect("append");
    // Room for a line, not for pictures.
    let line = fs.len(&segments(&fs)[0]).expect("len") as usize;
    fs.leave_room(line + 500);
    let poor = log.append(new_record("cam", 0.8), Some(&evidence)).expect("append without evidence");
    assert_eq!(poor.evidence, None);
    assert!(
        poor.evidence_error.as_deref().is_some_and(|e| e.contains("evidence/")),
        "{:?}",
        poor.evidence_error
    );
    // Room for nothing.
    fs.leave_room(0);
    let files = fs.files().len();
    for _ in 0..3 {
        let error = log.append(new_record("cam", 0.7), Some(&evidence)).expect_err("full");
        assert!(
            matches!(&error, LogError::Write { seq: 3, error, .. } if error.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
    }
    assert_eq!(fs.files().len(), files, "nothing is left behind");
    fs.heal();
    let rich = log.append(new_record("cam", 0.6), Some(&evidence)).expect("append");
    assert!(rich.evidence.is_some() && rich.seq == 3);
    let (items, errors) = read(&fs);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(events(&items), [first, poor, rich]);
}

#[test]
fn pictures_give_way_when_they_leave_no_room_for_the_record() {
    let fs = MemFs::default();
    let mut log = open(&fs, 1 << 20).expect("open");
    let evidence = evidence(&[ScoredTile { rect: rect(0), score: 0.9 }]);
    let elsewhere = MemFs::default();
    let whole = open(&elsewhere, 1 << 20).expect("open").append(new_record("cam", 0.9), Some(&evidence));
    let files = whole.expect("append").evidence.expect("evidence");
    log.append(new_record("cam", 0.9), None).expect("append");
    fs.leave_room((files.frame.bytes + files.tiles[0].png.bytes) as usize + 100);
    let poor = log.append(new_record("cam", 0.8), Some(&evidence)).expect("append");
    assert!(poor.evidence_error.is_some_and(|e| e.contains("room")) && poor.evidence.is_none());
}

#[test]
fn sectors_that_never_reached_the_disk_are_cut_and_a_lone_nul_is_not() {
    for (zeros, cut) in
        [(0..usize::MAX, true), (0..700, true), (0..512, true), (600..601, false), (0..1, false)]
    {
        let fs = MemFs::default();
        let written = fill(&fs, 2, 1 << 20);
        let path = &segments(&fs)[0];
        let from =
            fs.read(path, 0, usize::MAX).expect("read").iter().position(|&b| b == b'\n').expect("a line") + 1;
        fs.edit(path, |bytes| {
            // Begin at a sector's first byte, so that the ranges above mean sectors.
            let padding = (512 - from % 512) % 512;
            let (start, end) = (from + padding, bytes.len() - 1);
            let range = zeros.start.saturating_add(start)..zeros.end.saturating_add(start).min(end);
            let begin = if zeros.start == 0 && zeros.end > 512 { from } else { range.start };
            bytes[begin..range.end].fill(0);
        });
        fill(&fs, 0, 1 << 20);
        let (items, errors) = read(&fs);
        if cut {
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!((events(&items), notes(&items)), (written[..1].to_vec(), vec![NoteKind::Recovered]));
        } else {
            assert!(matches!(errors[..], [ReadError::Damaged { seq: Some(2), .. }]), "{errors:?}");
            assert_eq!((events(&items), notes(&items)), (written[..1].to_vec(), vec![NoteKind::Damaged]));
        }
    }
}
