//! The cameras of this machine, their persistent names, and what they offer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::device::{Device, Flags, Size, rate};
use super::layout::KNOWN;
use super::name;

/// A camera, or a node that may be one but could not be queried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Camera {
    /// What to write into a configuration: where there is one, the name that persists when it is
    /// plugged in elsewhere or together with others.
    #[serde(serialize_with = "crate::shown::serialize_path")]
    pub uri: PathBuf,
    /// The node, whose number may change at the next boot.
    #[serde(serialize_with = "crate::shown::serialize_path")]
    pub device: PathBuf,
    /// What it calls itself.
    pub name: String,
    /// Its kernel driver.
    pub driver: String,
    /// Where it is plugged in.
    pub bus: String,
    /// Why GStreamer's `v4l2src` captures from it; `None` where that is done here.
    pub gstreamer: Option<String>,
    /// What it offers. Empty where the driver does not list it.
    pub formats: Vec<CameraFormat>,
    /// Why it could not be queried.
    pub problem: Option<String>,
}

/// A format that a camera offers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraFormat {
    /// As V4L2 names it, such as `YUYV`.
    pub format: String,
    /// What the driver calls it.
    pub description: String,
    /// Whether spotd can read frames of this format.
    pub readable: bool,
    /// Sizes that it comes in.
    pub sizes: Vec<CameraSize>,
}

/// A size of a format.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraSize {
    /// `640x480`, or from the least to the greatest: `16x16..1920x1080`.
    pub size: String,
    /// Frames per second, fastest first; of a range, its two ends.
    pub rates: Vec<f64>,
}

/// All cameras of this machine, by the number of their nodes.
pub fn list() -> Vec<Camera> {
    list_in(Path::new("/dev"))
}

fn list_in(dev: &Path) -> Vec<Camera> {
    let mut nodes: Vec<(u32, PathBuf)> = entries(dev)
        .filter_map(|path| Some((path.file_name()?.to_str()?.strip_prefix("video")?.parse().ok()?, path)))
        .collect();
    nodes.sort();
    let names = lasting_names(dev);
    nodes.into_iter().filter_map(|(_, node)| camera(node, &names)).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path())
}

/// The best persistent name of each node: by what the camera is, else by where it is plugged in.
fn lasting_names(dev: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut names = BTreeMap::new();
    for kind in ["by-path", "by-id"] {
        let mut links: Vec<_> = entries(&dev.join("v4l").join(kind)).collect();
        // Where several lead to one node, the first in alphabetical order is always chosen.
        links.sort_by(|a, b| b.cmp(a));
        for link in links {
            if let Ok(node) = link.canonicalize() {
                names.insert(node, link);
            }
        }
    }
    names
}

/// What a node is; `None` if it does not capture pictures, as a camera's second node.
fn camera(node: PathBuf, names: &BTreeMap<PathBuf, PathBuf>) -> Option<Camera> {
    let mut camera = Camera {
        uri: names.get(&node).unwrap_or(&node).clone(),
        device: node,
        name: String::new(),
        driver: String::new(),
        bus: String::new(),
        gstreamer: None,
        formats: Vec::new(),
        problem: None,
    };
    let device = match Device::open(&camera.device) {
        Ok(device) => device,
        Err(e) => {
            camera.problem = Some(super::trouble(&camera.device, "cannot be opened", &e).1);
            return Some(camera);
        }
    };
    let identity = match device.identity() {
        Ok(identity) => identity,
        // Something else that is named video.
        Err(e) if e.raw_os_error() == Some(libc::ENOTTY) => return None,
        Err(e) => {
            camera.problem = Some(super::trouble(&camera.device, "does not say what it is", &e).1);
            return Some(camera);
        }
    };
    (camera.name, camera.driver, camera.bus) =
        (identity.card.clone(), identity.driver.clone(), identity.bus.clone());
    // Encoders and scalers take pictures too, but from programs.
    if identity.can(Flags::VIDEO_M2M) || identity.can(Flags::VIDEO_M2M_MPLANE) {
        return None;
    }
    if identity.can(Flags::VIDEO_CAPTURE) {
        if device.follows_signal() {
            camera.gstreamer = Some(super::FOLLOWS_SIGNAL.to_owned());
        }
        let offered = device.formats().unwrap_or_default();
        camera.formats = formats(&device, offered, |fourcc| KNOWN.contains(&fourcc));
    } else if identity.can(Flags::VIDEO_CAPTURE_MPLANE) {
        camera.gstreamer = Some(super::SEPARATE_PLANES.to_owned());
        camera.formats = formats(&device, device.formats_in_planes(), super::relay::takes);
    } else {
        return None;
    }
    Some(camera)
}

fn formats(
    device: &Device,
    offered: Vec<([u8; 4], String)>,
    readable: impl Fn([u8; 4]) -> bool,
) -> Vec<CameraFormat> {
    offered
        .into_iter()
        .map(|(fourcc, description)| {
            let sizes = device.sizes(fourcc).unwrap_or_default().into_iter().map(|size| {
                let (size, (width, height)) = match size {
                    Size::Discrete(width, height) => (format!("{width}x{height}"), (width, height)),
                    Size::Stepwise(w, h) => (format!("{}x{}..{}x{}", w[0], h[0], w[1], h[1]), (w[1], h[1])),
                };
                let mut rates: Vec<f64> =
                    device.intervals(fourcc, width, height).into_iter().map(rate).collect();
                rates.sort_by(|a, b| b.total_cmp(a));
                rates.dedup();
                CameraSize { size, rates }
            });
            CameraFormat {
                format: name(fourcc),
                description,
                readable: readable(fourcc),
                sizes: sizes.collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_camera_is_names_it_before_where_it_is_plugged_in() {
        let dev = tempfile::tempdir().expect("folder");
        let dev = dev.path().canonicalize().expect("a path");
        for kind in ["by-id", "by-path"] {
            std::fs::create_dir_all(dev.join("v4l").join(kind)).expect("folder");
        }
        for node in ["video0", "video1", "video2", "videos", "video3"] {
            std::fs::write(dev.join(node), "").expect("written");
        }
        let link =
            |to: &str, name: &str| symlink(format!("../../{to}"), dev.join("v4l").join(name)).expect(name);
        link("video0", "by-path/pci-1");
        link("video0", "by-id/usb-b");
        link("video0", "by-id/usb-a");
        link("video1", "by-path/pci-2");
        link("gone", "by-id/usb-c");
        let names = lasting_names(&dev);
        let of =
            |node: &str| names.get(&dev.join(node)).map(|p| p.strip_prefix(&dev).expect("inside").to_owned());
        assert_eq!(of("video0"), Some("v4l/by-id/usb-a".into()));
        assert_eq!(of("video1"), Some("v4l/by-path/pci-2".into()));
        assert_eq!((of("video2"), of("gone"), names.len()), (None, None, 2));
        // Files are not cameras.
        assert_eq!(list_in(&dev), []);
    }

    #[test]
    fn a_node_that_cannot_be_opened_is_shown_with_the_reason() {
        let dev = tempfile::tempdir().expect("folder");
        symlink("/nowhere/video", dev.path().join("video7")).expect("link");
        let found = list_in(dev.path());
        assert_eq!(found.len(), 1);
        let problem = found[0].problem.as_deref().expect("a problem");
        assert!(problem.contains("video7 cannot be opened"), "{problem}");
    }
}
