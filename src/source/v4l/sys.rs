//! The part of the kernel's V4L2 interface that capturing needs, straight from `linux/videodev2.h`.
//!
//! Written out here rather than taken from a crate: bindings to all of V4L2 need libclang at build time,
//! and the crates at hand panic on values that a driver may well answer. All `unsafe` of the daemon is in
//! this file. Its layouts are those of the kernel on 64-bit and 32-bit little-endian machines; the sizes
//! are asserted, because they are part of each request's number.

#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_ulong, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`, the only buffer type used here.
const CAPTURE: u32 = 1;
/// `V4L2_MEMORY_MMAP`.
const MMAP: u32 = 1;
/// `V4L2_PIX_FMT_PRIV_MAGIC`: the fields behind it are set.
const PRIV_MAGIC: u32 = 0xFEED_CAFE;

/// `V4L2_CAP_VIDEO_CAPTURE`.
pub const CAP_CAPTURE: u32 = 0x1;
/// `V4L2_CAP_VIDEO_CAPTURE_MPLANE`.
pub const CAP_CAPTURE_MPLANE: u32 = 0x1000;
/// `V4L2_CAP_STREAMING`.
pub const CAP_STREAMING: u32 = 0x0400_0000;
/// `V4L2_CAP_DEVICE_CAPS`: the node's own abilities are told apart from the device's.
const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
/// `V4L2_BUF_FLAG_ERROR`.
const FLAG_ERROR: u32 = 0x40;

#[repr(C)]
#[derive(Clone, Copy)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct FormatDescription {
    index: u32,
    kind: u32,
    flags: u32,
    description: [u8; 32],
    fourcc: [u8; 4],
    mbus_code: u32,
    reserved: [u32; 3],
}

/// What a picture looks like in memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PixFormat {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Layout of the pixels.
    pub fourcc: [u8; 4],
    /// Order of fields; 0 leaves it to the driver.
    pub field: u32,
    /// Bytes from row to row.
    pub stride: u32,
    /// Bytes of a picture at most.
    pub size: u32,
    /// `V4L2_COLORSPACE_*`.
    pub colorspace: u32,
    /// `V4L2_PIX_FMT_PRIV_MAGIC` when the fields behind it are set.
    pub private: u32,
    /// `V4L2_PIX_FMT_FLAG_*`.
    pub flags: u32,
    /// `V4L2_YCBCR_ENC_*`.
    pub encoding: u32,
    /// `V4L2_QUANTIZATION_*`.
    pub quantization: u32,
    /// `V4L2_XFER_FUNC_*`.
    pub transfer: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
union FormatUnion {
    pix: PixFormat,
    raw: [u8; 200],
    /// Other members hold pointers.
    align: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Format {
    kind: u32,
    fmt: FormatUnion,
}

/// A fraction of seconds.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fraction {
    /// Numerator.
    pub numerator: u32,
    /// Denominator.
    pub denominator: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct FrameSize {
    index: u32,
    fourcc: [u8; 4],
    kind: u32,
    /// Discrete: width, height. Otherwise least, greatest and step of the width, then of the height.
    numbers: [u32; 6],
    reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct FrameInterval {
    index: u32,
    fourcc: [u8; 4],
    width: u32,
    height: u32,
    kind: u32,
    /// Discrete: the first. Otherwise least, greatest and step.
    numbers: [Fraction; 3],
    reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct StreamParameters {
    kind: u32,
    capability: u32,
    mode: u32,
    interval: Fraction,
    rest: [u32; 46],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
union BufferPlace {
    offset: u32,
    /// Other members are pointers.
    pointer: c_ulong,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Buffer {
    index: u32,
    kind: u32,
    used: u32,
    flags: u32,
    field: u32,
    timestamp: libc::timeval,
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    place: BufferPlace,
    length: u32,
    reserved: u32,
    request_fd: i32,
}

const WIDE: bool = size_of::<usize>() == 8;
const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<FormatDescription>() == 64);
    assert!(size_of::<PixFormat>() == 48);
    assert!(size_of::<Format>() == if WIDE { 208 } else { 204 });
    assert!(size_of::<FrameSize>() == 44);
    assert!(size_of::<FrameInterval>() == 52);
    assert!(size_of::<StreamParameters>() == 204);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(!WIDE || size_of::<Buffer>() == 88);
};

const WRITE: u32 = 1;
const READ: u32 = 2;

/// The number of a V4L2 request: direction, size of the argument, letter `V`, ordinal.
const fn request(direction: u32, ordinal: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'V' as u32) << 8 | ordinal
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Kernel driver.
    pub driver: String,
    /// The camera's name.
    pub card: String,
    /// Where it is plugged in.
    pub bus: String,
    /// `V4L2_CAP_*` of this node.
    pub capabilities: u32,
}

/// Sizes that a format comes in, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Width and height.
    Discrete(u32, u32),
    /// Least, greatest and step of the width, then of the height.
    Stepwise([u32; 3], [u32; 3]),
}

/// An open node. Clones of the descriptor keep it open.
pub struct Device {
    fd: Arc<OwnedFd>,
}

impl Device {
    /// Opens a node without waiting for it.
    ///
    /// # Errors
    /// As of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the path is a string that ends with a zero byte and outlives the call.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: open has just returned this descriptor, and nobody else owns it.
        Ok(Self { fd: Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// What it is and can do.
    ///
    /// # Errors
    /// `ENOTTY` when it is no video device, and what the driver answers.
    pub fn identity(&self) -> io::Result<Identity> {
        let mut caps: Capability = zeroed();
        ioctl(&self.fd, READ, 0, &mut caps)?;
        let own = if caps.capabilities & CAP_DEVICE_CAPS == 0 { caps.capabilities } else { caps.device_caps };
        Ok(Identity {
            driver: text(&caps.driver),
            card: text(&caps.card),
            bus: text(&caps.bus),
            capabilities: own,
        })
    }

    /// Formats that it offers, each with a description.
    ///
    /// # Errors
    /// What the driver answers.
    pub fn formats(&self) -> io::Result<Vec<([u8; 4], String)>> {
        list(|index| {
            let mut description = FormatDescription { index, kind: CAPTURE, ..zeroed() };
            ioctl(&self.fd, READ | WRITE, 2, &mut description)?;
            Ok((description.fourcc, text(&description.description)))
        })
    }

    /// Sizes of a format. Empty where the driver does not tell.
    ///
    /// # Errors
    /// What the driver answers.
    pub fn sizes(&self, fourcc: [u8; 4]) -> io::Result<Vec<Size>> {
        let sizes = list(|index| {
            let mut size = FrameSize { index, fourcc, ..zeroed() };
            ioctl(&self.fd, READ | WRITE, 74, &mut size)?;
            let [a, b, c, d, e, f] = size.numbers;
            Ok(if size.kind == 1 { Size::Discrete(a, b) } else { Size::Stepwise([a, b, c], [d, e, f]) })
        });
        sizes.map(|mut sizes| {
            // Ranges are a single answer, which some drivers repeat for ever.
            if matches!(sizes.first(), Some(Size::Stepwise(..))) {
                sizes.truncate(1);
            }
            sizes
        })
    }

    /// Shortest interval between frames of a format and size, in seconds; `None` where the driver does
    /// not tell.
    pub fn shortest_interval(&self, fourcc: [u8; 4], width: u32, height: u32) -> Option<Fraction> {
        let intervals = list(|index| {
            let mut interval = FrameInterval { index, fourcc, width, height, ..zeroed() };
            ioctl(&self.fd, READ | WRITE, 75, &mut interval)?;
            Ok(interval.numbers[0])
        });
        let usable = intervals.ok()?.into_iter().filter(|i| i.numerator > 0 && i.denominator > 0);
        usable.min_by(|a, b| {
            let cross = |x: &Fraction, y: &Fraction| u64::from(x.numerator) * u64::from(y.denominator);
            cross(a, b).cmp(&cross(b, a))
        })
    }

    /// The format that is set.
    ///
    /// # Errors
    /// What the driver answers.
    pub fn format(&self) -> io::Result<PixFormat> {
        let mut format = Format { kind: CAPTURE, fmt: FormatUnion { raw: [0; 200] } };
        ioctl(&self.fd, READ | WRITE, 4, &mut format)?;
        // SAFETY: every bit pattern is a PixFormat, and for this buffer type the kernel filled it.
        Ok(unsafe { format.fmt.pix })
    }

    /// Asks for a format and a size; returns what the driver made of it, which may be something else.
    ///
    /// # Errors
    /// What the driver answers; `EBUSY` while another program captures.
    pub fn set_format(&self, fourcc: [u8; 4], width: u32, height: u32) -> io::Result<PixFormat> {
        // The stride is left to the driver: one that was set before would stay.
        let pix = PixFormat { width, height, fourcc, private: PRIV_MAGIC, ..PixFormat::default() };
        let mut format = Format { kind: CAPTURE, fmt: FormatUnion { raw: [0; 200] } };
        format.fmt.pix = pix;
        ioctl(&self.fd, READ | WRITE, 5, &mut format)?;
        // SAFETY: as in `format`.
        Ok(unsafe { format.fmt.pix })
    }

    /// Asks for an interval between frames; returns what the driver made of it.
    ///
    /// # Errors
    /// What the driver answers; many do not let it be set.
    pub fn set_interval(&self, interval: Fraction) -> io::Result<Fraction> {
        let mut parameters = StreamParameters { kind: CAPTURE, interval, ..zeroed() };
        ioctl(&self.fd, READ | WRITE, 22, &mut parameters)?;
        Ok(parameters.interval)
    }

    /// Maps `count` buffers (the driver may give more or fewer), queues them all and starts.
    ///
    /// # Errors
    /// What the driver answers; `EBUSY` while another program captures.
    pub fn start(&self, count: u32) -> io::Result<Stream> {
        let mut request = RequestBuffers { count, kind: CAPTURE, memory: MMAP, ..zeroed() };
        ioctl(&self.fd, READ | WRITE, 8, &mut request)?;
        // From here on dropping the stream gives back what was taken.
        let mut stream = Stream { fd: self.fd.clone(), buffers: Vec::new() };
        for index in 0..request.count {
            let mut buffer = Buffer { index, kind: CAPTURE, memory: MMAP, ..zeroed() };
            ioctl(&self.fd, READ | WRITE, 9, &mut buffer)?;
            // SAFETY: the kernel filled `offset` for this memory type.
            let offset = unsafe { buffer.place.offset };
            stream.buffers.push(Mapping::new(&self.fd, offset, buffer.length as usize)?);
        }
        if stream.buffers.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        for index in 0..request.count {
            stream.queue(index)?;
        }
        let mut kind = CAPTURE as c_int;
        ioctl(&self.fd, WRITE, 18, &mut kind)?;
        Ok(stream)
    }
}

/// A buffer that the driver filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    /// Which buffer.
    pub index: u32,
    /// Bytes that count, as the driver says; never more than the buffer has.
    pub used: usize,
    /// The driver marked the picture as damaged.
    pub damaged: bool,
    /// Counts the driver's frames; gaps are frames that it dropped.
    pub sequence: u32,
    /// When the driver had it, by the monotonic clock as a rule.
    pub timestamp: Duration,
}

/// A running capture. Dropping it stops it and gives the buffers back, whatever the driver answers.
pub struct Stream {
    fd: Arc<OwnedFd>,
    buffers: Vec<Mapping>,
}

impl Stream {
    /// The next filled buffer; `None` when none comes within `wait`.
    ///
    /// # Errors
    /// What the driver answers: `ENODEV` when it was unplugged, `EIO` when it gave up.
    pub fn dequeue(&self, wait: Duration) -> io::Result<Option<Filled>> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: one descriptor is handed over, and the structure outlives the call.
        if unsafe { libc::poll(&raw mut poll, 1, millis) } < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(None) } else { Err(error) };
        }
        if poll.revents == 0 {
            return Ok(None);
        }
        let mut buffer = Buffer { kind: CAPTURE, memory: MMAP, ..zeroed() };
        match ioctl(&self.fd, READ | WRITE, 17, &mut buffer) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
        let Some(mapping) = self.buffers.get(buffer.index as usize) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let (seconds, micros) = (buffer.timestamp.tv_sec, buffer.timestamp.tv_usec);
        Ok(Some(Filled {
            index: buffer.index,
            used: (buffer.used as usize).min(mapping.length),
            damaged: buffer.flags & FLAG_ERROR != 0,
            sequence: buffer.sequence,
            timestamp: Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
                + Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
        }))
    }

    /// The bytes that count of a filled buffer.
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        let mapping = &self.buffers[filled.index as usize];
        // SAFETY: the mapping lives as long as `self`, its length is the mapped one and bounds `used`;
        // between dequeue and queue the driver does not write to it. (One that did would change bytes
        // under us, which are then copied or decoded as they are.)
        unsafe { std::slice::from_raw_parts(mapping.start.cast(), filled.used.min(mapping.length)) }
    }

    /// Gives a buffer back to the driver.
    ///
    /// # Errors
    /// What the driver answers.
    pub fn queue(&self, index: u32) -> io::Result<()> {
        let mut buffer = Buffer { index, kind: CAPTURE, memory: MMAP, ..zeroed() };
        ioctl(&self.fd, READ | WRITE, 15, &mut buffer)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Of an unplugged camera all of these fail, and nothing is left to be done about it.
        let mut kind = CAPTURE as c_int;
        let _ = ioctl(&self.fd, WRITE, 19, &mut kind);
        self.buffers.clear();
        let mut request = RequestBuffers { count: 0, kind: CAPTURE, memory: MMAP, ..zeroed() };
        let _ = ioctl(&self.fd, READ | WRITE, 8, &mut request);
    }
}

/// A buffer of the driver in our memory.
struct Mapping {
    start: *mut c_void,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: it is only read through shared references.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: &OwnedFd, offset: u32, length: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { start, length }) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is a mapping of exactly this length, and no slice of it outlives its stream.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

/// Structures of the kernel's interface, all of which may be zero.
trait Plain: Copy {}
impl Plain for Capability {}
impl Plain for FormatDescription {}
impl Plain for Format {}
impl Plain for FrameSize {}
impl Plain for FrameInterval {}
impl Plain for StreamParameters {}
impl Plain for RequestBuffers {}
impl Plain for Buffer {}
impl Plain for c_int {}

fn zeroed<T: Plain>() -> T {
    // SAFETY: `Plain` types hold integers, arrays and unions of them.
    unsafe { std::mem::zeroed() }
}

/// Makes a request, again when a signal interrupts it.
fn ioctl<T: Plain>(fd: &OwnedFd, direction: u32, ordinal: u32, argument: &mut T) -> io::Result<()> {
    let number = request(direction, ordinal, size_of::<T>());
    loop {
        // SAFETY: the request's number states the size of the argument, which is that of `T`, and `T` is
        // the structure that the kernel expects for it. The kernel keeps no pointer to it.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, std::ptr::from_mut(argument)) };
        if done >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Asks for the item of each index until the driver says that there are no more.
fn list<T>(item: impl Fn(u32) -> io::Result<T>) -> io::Result<Vec<T>> {
    // No driver has as many; one that never ends must not keep us.
    const MOST: u32 = 256;
    let mut items = Vec::new();
    for index in 0..MOST {
        match item(index) {
            Ok(item) => items.push(item),
            // EINVAL ends a list, ENOTTY says that there is none.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(items)
}

/// A text that a zero byte ends.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_those_of_the_header() {
        // As printed by a C program that includes linux/videodev2.h on x86-64.
        assert_eq!(request(READ, 0, size_of::<Capability>()), 0x8068_5600);
        assert_eq!(request(READ | WRITE, 2, size_of::<FormatDescription>()), 0xC040_5602);
        assert_eq!(request(READ | WRITE, 8, size_of::<RequestBuffers>()), 0xC014_5608);
        assert_eq!(request(WRITE, 18, size_of::<c_int>()), 0x4004_5612);
        assert_eq!(request(READ | WRITE, 22, size_of::<StreamParameters>()), 0xC0CC_5616);
        assert_eq!(request(READ | WRITE, 74, size_of::<FrameSize>()), 0xC02C_564A);
        assert_eq!(request(READ | WRITE, 75, size_of::<FrameInterval>()), 0xC034_564B);
        if WIDE {
            assert_eq!(request(READ | WRITE, 5, size_of::<Format>()), 0xC0D0_5605);
            assert_eq!(request(READ | WRITE, 17, size_of::<Buffer>()), 0xC058_5611);
        }
    }

    #[test]
    fn what_is_no_camera_says_so() {
        let device = Device::open(Path::new("/dev/null")).expect("opens");
        let error = device.identity().expect_err("no camera");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(device.formats().expect("an empty list"), []);
    }
}
