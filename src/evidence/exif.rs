//! The little EXIF that evidence JPEGs carry: source, software and capture time in UTC.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const ASCII: u16 = 2;
const LONG: u16 = 4;

const IMAGE_DESCRIPTION: u16 = 0x010e;
const SOFTWARE: u16 = 0x0131;
const DATE_TIME: u16 = 0x0132;
const EXIF_IFD: u16 = 0x8769;
const DATE_TIME_ORIGINAL: u16 = 0x9003;
const OFFSET_TIME_ORIGINAL: u16 = 0x9011;
const SUB_SEC_TIME_ORIGINAL: u16 = 0x9291;

/// EXIF data (a big-endian TIFF header with two directories) that says what is given and when it was
/// captured, in UTC to the millisecond. A NUL in a text ends it, as EXIF has it.
pub fn build(description: &str, software: &str, captured: Timestamp) -> Vec<u8> {
    let zoned = captured.to_zoned(TimeZone::UTC);
    let date = zoned.strftime("%Y:%m:%d %H:%M:%S").to_string();
    let millis = format!("{:03}", captured.as_millisecond().rem_euclid(1000));
    let mut out = b"MM\0\x2a\0\0\0\x08".to_vec();
    let main = [(IMAGE_DESCRIPTION, description), (SOFTWARE, software), (DATE_TIME, &date)];
    let original = [
        (DATE_TIME_ORIGINAL, date.as_str()),
        (OFFSET_TIME_ORIGINAL, "+00:00"),
        (SUB_SEC_TIME_ORIGINAL, &millis),
    ];
    directory(&mut out, &main, true);
    directory(&mut out, &original, false);
    out
}

/// Appends a directory of texts and their values. With `more`, its last entry points to a directory
/// right behind it.
fn directory(out: &mut Vec<u8>, texts: &[(u16, &str)], more: bool) {
    let entries = texts.len() + usize::from(more);
    let mut values_at = out.len() + 2 + entries * 12 + 4;
    let mut values = Vec::new();
    out.extend((entries as u16).to_be_bytes());
    for &(tag, text) in texts {
        let text = text.split('\0').next().unwrap_or_default();
        let len = text.len() + 1;
        out.extend(tag.to_be_bytes());
        out.extend(ASCII.to_be_bytes());
        out.extend((len as u32).to_be_bytes());
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        if len <= 4 {
            value.resize(4, 0);
            out.extend(value);
        } else {
            out.extend((values_at as u32).to_be_bytes());
            // Values begin at even offsets.
            value.resize(len.next_multiple_of(2), 0);
            values_at += value.len();
            values.extend(value);
        }
    }
    if more {
        out.extend(EXIF_IFD.to_be_bytes());
        out.extend(LONG.to_be_bytes());
        out.extend(1u32.to_be_bytes());
        out.extend((values_at as u32).to_be_bytes());
    }
    out.extend(0u32.to_be_bytes());
    out.extend(values);
}
