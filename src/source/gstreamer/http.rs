//! The content type that a web server states, and Motion JPEG that begins without its boundary.

use std::sync::{Arc, Mutex, PoisonError};

use ::gstreamer as gst;
use gst::prelude::*;

/// The content type of an answer, once there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct ContentType(Arc<Mutex<Option<String>>>);

impl ContentType {
    /// As the server wrote it.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, value: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }
}

/// Remembers the content type that `source` receives, and inserts the first boundary of Motion JPEG
/// that lacks it.
pub(super) fn watch(source: &gst::Element, content: &ContentType) {
    let Some(pad) = source.static_pad("src") else { return };
    let content = content.clone();
    let kinds = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
    let _ = pad.add_probe(kinds, move |_, info| match &mut info.data {
        Some(gst::PadProbeData::Event(event)) => {
            if let Some(found) = event.structure().and_then(content_type) {
                content.set(found);
            }
            gst::PadProbeReturn::Ok
        }
        Some(gst::PadProbeData::Buffer(buffer)) => {
            if let Some(boundary) = content.get().as_deref().and_then(boundary) {
                begin(buffer, &boundary);
            }
            // Only the beginning is examined.
            gst::PadProbeReturn::Remove
        }
        _ => gst::PadProbeReturn::Ok,
    });
}

/// The content type in the headers that `souphttpsrc` passes on.
fn content_type(event: &gst::StructureRef) -> Option<String> {
    if event.name() != "http-headers" {
        return None;
    }
    let headers = event.get::<gst::Structure>("response-headers").ok()?;
    let name = headers.fields().find(|name| name.eq_ignore_ascii_case("content-type"))?;
    headers.get::<String>(name).ok()
}

/// The boundary line of a multipart content type.
fn boundary(content: &str) -> Option<String> {
    let (kind, rest) = content.split_once(';')?;
    if !kind.trim().to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let parameter = rest.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    // Many cameras put the leading dashes, which belong to the line only, into the parameter as
    // well.
    let name = parameter.trim_start_matches("--");
    (!name.is_empty()).then(|| format!("--{name}\r\n"))
}

/// Inserts what is missing in front of the first part: the boundary, and the part's header if it
/// begins with a picture. Older ESP32-CAM and Tasmota firmware sends them only between parts.
fn begin(buffer: &mut gst::Buffer, boundary: &str) {
    const START_OF_IMAGE: [u8; 2] = [0xFF, 0xD8];
    let Ok(map) = buffer.map_readable() else { return };
    let first = map.as_slice().trim_ascii_start();
    if first.is_empty() || first.starts_with(b"--") {
        return;
    }
    let header: &[u8] =
        if first.starts_with(&START_OF_IMAGE) { b"Content-Type: image/jpeg\r\n\r\n" } else { b"" };
    let mut whole = gst::Buffer::from_mut_slice([boundary.as_bytes(), header, first].concat());
    let flags = buffer.flags();
    whole.get_mut().expect("not shared yet").set_flags(flags);
    drop(map);
    *buffer = whole;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_read_however_they_are_written() {
        for (content, line) in [
            ("multipart/x-mixed-replace;boundary=frame", Some("--frame\r\n")),
            ("Multipart/X-Mixed-Replace; charset=x; Boundary=\"a b\"", Some("--a b\r\n")),
            ("multipart/x-mixed-replace; boundary=--myboundary", Some("--myboundary\r\n")),
            ("multipart/x-mixed-replace", None),
            ("multipart/x-mixed-replace; boundary=", None),
            ("text/html; boundary=x", None),
            ("image/jpeg", None),
        ] {
            assert_eq!(boundary(content).as_deref(), line, "{content}");
        }
    }

    #[test]
    fn only_a_beginning_that_lacks_its_boundary_gets_one() {
        gst::init().expect("GStreamer");
        for (sent, seen) in [
            (&b"Content-Type: image/jpeg\r\n\r\n"[..], &b"--x\r\nContent-Type: image/jpeg\r\n\r\n"[..]),
            (b"\r\n\xFF\xD8\xFF", b"--x\r\nContent-Type: image/jpeg\r\n\r\n\xFF\xD8\xFF"),
            (b"--x\r\nContent-Type: image/jpeg\r\n\r\n", b"--x\r\nContent-Type: image/jpeg\r\n\r\n"),
            (b"\r\n--x\r\n", b"\r\n--x\r\n"),
            (b"", b""),
        ] {
            let mut buffer = gst::Buffer::from_slice(sent);
            begin(&mut buffer, "--x\r\n");
            assert_eq!(buffer.map_readable().expect("mapped").as_slice(), seen);
        }
    }
}
