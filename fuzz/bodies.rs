//! What has to hold for any input at all. libFuzzer runs this for as long as it is let, and `cargo test`
//! for a bounded number of inputs.

use spotd_address::SourceUri;
use spotd_core::shown::redact;
use spotd_frame::{Captured, Colour, Interlacing, PixelFormat, Plane, jpeg, picture};

/// A camera's buffer that should hold a JPEG image.
pub fn mjpg(buffer: &[u8]) {
    let image = jpeg::extract(buffer);
    if let Ok(image) = image {
        assert!(buffer.starts_with(image), "it is the buffer's beginning");
        assert!(image.starts_with(&[0xFF, 0xD8]) && image.ends_with(&[0xFF, 0xD9]), "it is whole");
        assert_eq!(jpeg::extract(image).expect("still an image"), image, "and stays what it is");
    }
    let size = jpeg::size(buffer);
    // A picture of this size takes its time and finds nothing new.
    if size.as_ref().is_ok_and(|&(w, h)| u64::from(w) * u64::from(h) > 1 << 20) {
        return;
    }
    let captured = Captured {
        at: std::time::SystemTime::UNIX_EPOCH,
        format: PixelFormat::Mjpg,
        width: 1,
        height: 1,
        planes: [Plane::default(); 3],
        colour: Colour::default(),
        interlacing: Interlacing::Unsaid,
        data: Box::new(buffer.to_vec()),
    };
    let frame = captured.into_frame("fuzz".into(), 0, std::time::Duration::ZERO);
    if let Ok(decoded) = frame.decoded() {
        assert!(image.is_ok(), "what can be decoded has an end");
        assert_eq!((decoded.width, decoded.height), size.expect("what can be decoded has a size"));
        assert_eq!(decoded.to_rgb().expect("pixels").dimensions(), (decoded.width, decoded.height));
    }
}

/// A file that should hold a picture, or several.
pub fn picture(file: &[u8]) {
    let motion = picture::is_motion_jpeg(file);
    let size = image::ImageReader::new(std::io::Cursor::new(file))
        .with_guessed_format()
        .map(|r| r.into_dimensions());
    // A picture of this size takes its time and finds nothing new.
    if let Ok(Ok((width, height))) = size
        && u64::from(width) * u64::from(height) > 1 << 18
    {
        return;
    }
    let Ok(shots) = picture::shots(file) else { return };
    assert!(picture::is_picture(&file[..file.len().min(picture::HEAD)]), "its first bytes tell");
    assert!(!motion || shots.kind == picture::Kind::Animation);
    for shot in shots.take(4) {
        let Ok(shot) = shot else { return };
        let pixels = u64::from(shot.image.width()) * u64::from(shot.image.height());
        assert!(pixels > 0 && pixels <= picture::MAX_PIXELS && shot.hidden <= pixels, "{pixels} pixels");
        // Pages may be larger than the first one.
        if pixels > 1 << 20 {
            return;
        }
    }
}

/// What a person may write as the address of a source.
pub fn source_text(text: &str) {
    match SourceUri::parse(text) {
        Ok(SourceUri::Stream(url)) => {
            let shown = SourceUri::Stream(url.clone()).to_string();
            let url = url.expose();
            assert!(SourceUri::parse(url.as_str()).is_ok(), "{url:?} is an address as well");
            if let Some(password) = url.password().filter(|p| !p.is_empty()) {
                let login = format!("://{}:{password}@", url.username());
                assert!(!shown.contains(&login), "{shown} shows its password");
            }
        }
        Ok(uri) => assert_eq!(redact(&uri.to_string()), uri.to_string(), "nothing is left to hide"),
        Err(why) => assert!(!why.is_empty()),
    }
    let once = redact(text);
    assert_eq!(redact(&once), once, "nothing is left to hide");
}

/// Stands at both ends of every password below, so that half of one that shows is noticed as well.
const MARK: &str = "S3KRIT";

/// A password with `inner` in it, in every place where one can stand.
pub fn password(inner: &str) {
    let secret = format!("{MARK}{inner}{MARK}");
    let mut rtsp = url::Url::parse("rtsp://cam.lan/1").expect("an address");
    rtsp.set_username("editor").and_then(|()| rtsp.set_password(Some(&secret))).expect("has a login");
    let mut srt = url::Url::parse("srt://cam.lan:9000?mode=caller").expect("an address");
    srt.query_pairs_mut().append_pair("passphrase", &secret).append_pair("latency", "200");
    let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
    let mut bare = String::new();
    for c in secret.chars() {
        if !c.is_ascii_alphanumeric() {
            bare.push('\\');
        }
        bare.push(c);
    }
    let raw = secret.replace(|c: char| c.is_whitespace() || matches!(c, '@' | '"' | '\''), "");
    for text in [
        rtsp.to_string(),
        srt.to_string(),
        format!("rtspsrc location={rtsp} ! appsink"),
        format!("rtspsrc location=rtsp://editor:{raw}@cam.lan/1 ! appsink"),
        format!("rtspsrc location=rtsp://cam.lan/1 user-id=editor user-pw=\"{quoted}\" ! appsink"),
        format!("rtspsrc location=rtsp://cam.lan/1 user-id=editor user-pw = {bare} ! appsink"),
    ] {
        let shown = redact(&text);
        assert!(!shown.contains(MARK), "{shown} shows {text}");
        assert!(shown.contains("cam.lan"), "{shown} hides too much of {text}");
        if let Ok(uri) = SourceUri::parse(&text) {
            assert!(!uri.to_string().contains(MARK), "{uri} shows {text}");
        }
    }
}
