//! `spotd sources`: the cameras of this machine, what they offer, and how to name them.

use clap::Args;

use super::manual::{DONE_OR_FAILED, Manual};

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd sources", "List the cameras"),
        ("spotd sources --json | jq -r .name", "Print their names alone"),
    ],
    exit_status: DONE_OR_FAILED,
    files: &[("/dev/v4l/by-id/, /dev/v4l/by-path/", "Names of cameras that last, where udev makes them")],
    environment: &[],
};

/// Arguments of `spotd sources`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct SourcesArgs {
    /// Print one JSON object per camera and line instead of text.
    #[arg(long)]
    json: bool,
}

/// Lists the cameras.
///
/// # Errors
/// This build does not support cameras.
#[cfg(feature = "v4l")]
pub fn sources(args: SourcesArgs) -> anyhow::Result<u8> {
    use super::{EXIT_FINE, console};
    use spotd::source::v4l;

    let cameras = v4l::list();
    if cameras.is_empty() {
        log::warn!(
            "no camera found among /dev/video*; is one plugged in, and its driver loaded? In a container, pass the device in"
        );
    }
    for camera in &cameras {
        if args.json {
            console::print_json(&serde_json::to_string(camera).expect("text and numbers serialise"))?;
        } else {
            console::print_line(&describe(camera))?;
        }
    }
    Ok(EXIT_FINE)
}

/// Reports what is missing.
///
/// # Errors
/// Always: this build does not support cameras.
#[cfg(not(feature = "v4l"))]
pub fn sources(args: SourcesArgs) -> anyhow::Result<u8> {
    // Only used where there is something to print.
    let _ = args.json;
    anyhow::bail!("this spotd was built without cameras; build with --features v4l")
}

/// A camera for people: the name to use, what it is, and a line for each format and size.
#[cfg(feature = "v4l")]
fn describe(camera: &spotd::source::v4l::Camera) -> String {
    use spotd::shown::Shown as _;

    let mut lines = vec![camera.uri.shown()];
    if let Some(problem) = &camera.problem {
        lines.push(format!("  {problem}"));
        return lines.join("\n");
    }
    lines.push(format!(
        "  {}, {} at {}, driver {}",
        camera.name,
        camera.device.shown(),
        camera.bus,
        camera.driver
    ));
    if let Some(why) = &camera.gstreamer {
        lines.push(format!("  {why}: captured through GStreamer's v4l2src"));
    }
    for format in &camera.formats {
        let unreadable = if format.readable { "" } else { " (not readable here)" };
        lines.push(format!("  {:<5} {}{unreadable}", format.format, format.description));
        for size in &format.sizes {
            let rates: Vec<_> =
                size.rates.iter().map(|r| format!("{}", (r * 100.0).round() / 100.0)).collect();
            let rates =
                if rates.is_empty() { "rates not listed".to_owned() } else { rates.join(", ") + " frames/s" };
            lines.push(format!("        {:<10} {rates}", size.size));
        }
    }
    lines.join("\n")
}

#[cfg(all(test, feature = "v4l"))]
mod tests {
    use super::*;
    use spotd::source::v4l::{Camera, CameraFormat, CameraSize};

    #[test]
    fn a_camera_is_shown_with_its_lasting_name_and_what_it_offers() {
        let camera = Camera {
            uri: "/dev/v4l/by-id/usb-cam".into(),
            device: "/dev/video2".into(),
            name: "Cam".into(),
            driver: "uvcvideo".into(),
            bus: "usb-1".into(),
            gstreamer: None,
            formats: vec![
                CameraFormat {
                    format: "YUYV".into(),
                    description: "YUYV 4:2:2".into(),
                    readable: true,
                    sizes: vec![CameraSize { size: "640x480".into(), rates: vec![30.0, 29.970_03, 7.5] }],
                },
                CameraFormat {
                    format: "H264".into(),
                    description: "H.264".into(),
                    readable: false,
                    sizes: vec![CameraSize { size: "1920x1080".into(), rates: vec![] }],
                },
            ],
            problem: None,
        };
        assert_eq!(
            describe(&camera),
            "/dev/v4l/by-id/usb-cam\n  \
             Cam, /dev/video2 at usb-1, driver uvcvideo\n  \
             YUYV  YUYV 4:2:2\n        \
             640x480    30, 29.97, 7.5 frames/s\n  \
             H264  H.264 (not readable here)\n        \
             1920x1080  rates not listed"
        );
        let relayed =
            Camera { gstreamer: Some("it follows its signal".into()), formats: vec![], ..camera.clone() };
        assert!(describe(&relayed).ends_with("it follows its signal: captured through GStreamer's v4l2src"));
        let away = Camera { problem: Some("/dev/video2 cannot be opened".into()), ..camera };
        assert_eq!(describe(&away), "/dev/v4l/by-id/usb-cam\n  /dev/video2 cannot be opened");
    }
}
