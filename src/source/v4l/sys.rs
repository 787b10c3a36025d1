//! What the `v4l` crate cannot do for us, done by the kernel's own ioctls. All of the daemon's
//! `unsafe` is here.
//!
//! Structures, their layouts and the numbers of the requests are those of the crate's bindings,
//! generated from the kernel's header for the target machine. Of its own functions these are not
//! used:
//!
//! - **Streaming.** After one timeout `MmapStream` queues a stale buffer and fails with `EINVAL`
//!   for ever, without a timeout it hangs on an unplugged camera, and it panics when `STREAMOFF`
//!   fails.
//! - **`query_caps`** panics when a name is no UTF-8, and the kernel cuts long names in the middle
//!   of a character.
//! - **`format` and `set_format`** panic on a colour space that the crate does not know, and lose
//!   the Y'CbCr encoding, which decides between BT.601 and BT.709.
//! - **Inputs** it does not know at all; they tell an HDMI receiver.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::v4l::device::Handle;
use ::v4l::v4l_sys::{
    V4L2_BUF_FLAG_ERROR, V4L2_CAP_DEVICE_CAPS, V4L2_IN_CAP_DV_TIMINGS, V4L2_PIX_FMT_PRIV_MAGIC,
    v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE as CAPTURE,
    v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE as CAPTURE_PLANES, v4l2_buffer, v4l2_capability,
    v4l2_fmtdesc, v4l2_format, v4l2_input, v4l2_memory_V4L2_MEMORY_MMAP as MMAP, v4l2_pix_format,
    v4l2_requestbuffers,
};
use ::v4l::v4l2::{self, vidioc};

use super::answer::{Identity, PixFormat};

// The kernel checks these sizes, as they are part of each request's number.
const WIDE: bool = size_of::<usize>() == 8;
const _: () = {
    assert!(size_of::<v4l2_capability>() == 104);
    assert!(size_of::<v4l2_pix_format>() == 48);
    assert!(size_of::<v4l2_format>() == if WIDE { 208 } else { 204 });
    assert!(size_of::<v4l2_input>() == 80);
    assert!(size_of::<v4l2_fmtdesc>() == 64);
    assert!(size_of::<v4l2_requestbuffers>() == 20);
    // With 32-bit time, or with 64-bit time on a 32-bit machine.
    assert!(WIDE && size_of::<v4l2_buffer>() == 88 || !WIDE && matches!(size_of::<v4l2_buffer>(), 68 | 80));
};

/// Makes GStreamer's `v4l2src` wait for its buffers when it is stopped. Call it first: once this
/// process has a second thread it does nothing, because changing the environment is not safe then.
///
/// By default `v4l2src` leaves buffers that are in use to their users and starts with new ones. Up
/// to 1.22 at least it then never frees its buffer pool, which keeps a descriptor of the device
/// open: one more at each reconnect, and the driver cannot be unloaded (`gst_v4l2_object_stop` in
/// `gstv4l2object.c` lacks an `unref` on that path).
pub fn have_v4l2src_drain() {
    const NAME: &str = "GST_V4L2_FORCE_DRAIN";
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if alone && std::env::var_os(NAME).is_none() {
        // SAFETY: no other thread can read or write the environment, as there is none.
        unsafe { std::env::set_var(NAME, "1") };
    }
}

/// Guards against a driver whose list never ends.
const MOST_FORMATS: u32 = 256;

/// Structures of the kernel's interface that are valid when all bytes are zero.
trait Plain: Copy {}
impl Plain for v4l2_capability {}
impl Plain for v4l2_format {}
impl Plain for v4l2_pix_format {}
impl Plain for v4l2_input {}
impl Plain for v4l2_fmtdesc {}
impl Plain for v4l2_requestbuffers {}
impl Plain for v4l2_buffer {}
impl Plain for c_int {}

fn zeroed<T: Plain>() -> T {
    // SAFETY: `Plain` types hold integers, raw pointers, arrays and unions of them.
    unsafe { std::mem::zeroed() }
}

/// Makes the ioctl whose argument is `T`, again when a signal interrupts it.
fn ioctl<T: Plain>(handle: &Handle, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    // The size is a field of the request's number.
    debug_assert_eq!((request >> 16) as usize & 0x3FFF, size_of::<T>());
    loop {
        // SAFETY: each request is called with the structure that its number was made of, and the
        // kernel keeps no pointer to it.
        match unsafe { v4l2::ioctl(handle.fd(), request, std::ptr::from_mut(argument).cast()) } {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Keeps child processes from inheriting the camera: the crate opens it without `O_CLOEXEC`.
pub(super) fn close_on_exec(handle: &Handle) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as its handle, and this call takes no pointer.
    let done = unsafe { libc::fcntl(handle.fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a node is and can do.
pub(super) fn identity(handle: &Handle) -> io::Result<Identity> {
    let mut caps: v4l2_capability = zeroed();
    ioctl(handle, vidioc::VIDIOC_QUERYCAP, &mut caps)?;
    let own =
        if caps.capabilities & V4L2_CAP_DEVICE_CAPS == 0 { caps.capabilities } else { caps.device_caps };
    Ok(Identity {
        driver: text(&caps.driver),
        card: text(&caps.card),
        bus: text(&caps.bus_info),
        capabilities: own,
    })
}

/// Whether the selected input follows a signal's timings, as an HDMI receiver's does.
pub(super) fn follows_signal(handle: &Handle) -> bool {
    let mut index: c_int = 0;
    let mut input: v4l2_input = zeroed();
    // A driver without inputs answers with an error, and is not a receiver.
    ioctl(handle, vidioc::VIDIOC_G_INPUT, &mut index).is_ok_and(|()| {
        input.index = index.unsigned_abs();
        ioctl(handle, vidioc::VIDIOC_ENUMINPUT, &mut input).is_ok()
    }) && input.capabilities & V4L2_IN_CAP_DV_TIMINGS != 0
}

/// Formats with planes in separate buffers that the driver offers, each with its description. The
/// crate only lists those in one buffer.
pub(super) fn formats_in_planes(handle: &Handle) -> Vec<([u8; 4], String)> {
    (0..MOST_FORMATS)
        .map_while(|index| {
            let mut format = v4l2_fmtdesc { index, type_: CAPTURE_PLANES, ..zeroed() };
            // After the last one the driver answers with an error.
            ioctl(handle, vidioc::VIDIOC_ENUM_FMT, &mut format).ok()?;
            Some((format.pixelformat.to_le_bytes(), text(&format.description)))
        })
        .collect()
}

/// The current format.
pub(super) fn format(handle: &Handle) -> io::Result<PixFormat> {
    let mut format = v4l2_format { type_: CAPTURE, ..zeroed() };
    ioctl(handle, vidioc::VIDIOC_G_FMT, &mut format)?;
    Ok(read(&format))
}

/// Requests a format and a size; returns what the driver chose, which may differ.
pub(super) fn set_format(handle: &Handle, fourcc: [u8; 4], width: u32, height: u32) -> io::Result<PixFormat> {
    let mut format = v4l2_format { type_: CAPTURE, ..zeroed() };
    // The stride is left to the driver: otherwise one that another program set would stay.
    format.fmt.pix = v4l2_pix_format {
        width,
        height,
        pixelformat: u32::from_le_bytes(fourcc),
        priv_: V4L2_PIX_FMT_PRIV_MAGIC,
        ..zeroed()
    };
    ioctl(handle, vidioc::VIDIOC_S_FMT, &mut format)?;
    Ok(read(&format))
}

fn read(format: &v4l2_format) -> PixFormat {
    // SAFETY: every bit pattern is a v4l2_pix_format, and for this buffer type the kernel filled
    // it.
    let pix = unsafe { format.fmt.pix };
    // SAFETY: both members of the union are the same integer.
    let encoding = unsafe { pix.__bindgen_anon_1.ycbcr_enc };
    PixFormat {
        width: pix.width,
        height: pix.height,
        fourcc: pix.pixelformat.to_le_bytes(),
        stride: pix.bytesperline,
        field: pix.field,
        colorspace: pix.colorspace,
        encoding,
        quantization: pix.quantization,
    }
}

/// A zero-terminated text.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A buffer that the driver filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filled {
    /// Which buffer.
    pub index: u32,
    /// Bytes in use, according to the driver; never more than the buffer has.
    pub used: usize,
    /// The driver marked the picture as damaged.
    pub damaged: bool,
    /// Counts the driver's frames; gaps are frames that it dropped.
    pub sequence: u32,
    /// When the driver captured it, usually by the monotonic clock.
    pub timestamp: Duration,
}

/// A running capture. Dropping it stops it and releases the buffers, whatever the driver answers.
pub(super) struct Stream {
    handle: Arc<Handle>,
    buffers: Vec<Mapping>,
}

impl Stream {
    /// Maps `count` buffers (the driver may give more or fewer), queues them all and starts.
    ///
    /// # Errors
    /// The driver's error; `EBUSY` while another program captures.
    pub fn start(handle: Arc<Handle>, count: u32) -> io::Result<Self> {
        let mut request = v4l2_requestbuffers { count, type_: CAPTURE, memory: MMAP, ..zeroed() };
        ioctl(&handle, vidioc::VIDIOC_REQBUFS, &mut request)?;
        // From here on dropping the stream releases what was allocated.
        let mut stream = Self { handle, buffers: Vec::new() };
        for index in 0..request.count {
            let mut buffer = v4l2_buffer { index, type_: CAPTURE, memory: MMAP, ..zeroed() };
            ioctl(&stream.handle, vidioc::VIDIOC_QUERYBUF, &mut buffer)?;
            // SAFETY: the kernel filled `offset` for this memory type.
            let offset = unsafe { buffer.m.offset };
            stream.buffers.push(Mapping::new(&stream.handle, offset, buffer.length as usize)?);
        }
        if stream.buffers.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        for index in 0..request.count {
            stream.queue(index)?;
        }
        ioctl(&stream.handle, vidioc::VIDIOC_STREAMON, &mut (CAPTURE as c_int))?;
        Ok(stream)
    }

    /// The next filled buffer; `None` when none comes within `wait`.
    ///
    /// # Errors
    /// The driver's error: `ENODEV` when it was unplugged, `EIO` when it gave up.
    pub(crate) fn dequeue(&self, wait: Duration) -> io::Result<Option<Filled>> {
        let millis = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        match self.handle.poll(libc::POLLIN, millis) {
            Ok(0) => return Ok(None),
            // Device errors are events too, and the ioctl says which.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(e) => return Err(e),
        }
        let mut buffer = v4l2_buffer { type_: CAPTURE, memory: MMAP, ..zeroed() };
        match ioctl(&self.handle, vidioc::VIDIOC_DQBUF, &mut buffer) {
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
            used: (buffer.bytesused as usize).min(mapping.length),
            damaged: buffer.flags & V4L2_BUF_FLAG_ERROR != 0,
            sequence: buffer.sequence,
            timestamp: Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
                + Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
        }))
    }

    /// The bytes in use of a filled buffer.
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        let mapping = &self.buffers[filled.index as usize];
        // SAFETY: the mapping lives as long as `self`, its length is the mapped one and bounds
        // `used`; between dequeue and queue the driver does not write to it. (One that did would
        // change bytes under us, which are then copied or decoded as they are.)
        unsafe { std::slice::from_raw_parts(mapping.start.cast(), filled.used.min(mapping.length)) }
    }

    /// Gives a buffer back to the driver.
    ///
    /// # Errors
    /// The driver's error.
    pub fn queue(&self, index: u32) -> io::Result<()> {
        let mut buffer = v4l2_buffer { index, type_: CAPTURE, memory: MMAP, ..zeroed() };
        ioctl(&self.handle, vidioc::VIDIOC_QBUF, &mut buffer)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // With an unplugged camera all of these fail, and nothing can be done about it.
        let _ = ioctl(&self.handle, vidioc::VIDIOC_STREAMOFF, &mut (CAPTURE as c_int));
        self.buffers.clear();
        let mut request = v4l2_requestbuffers { type_: CAPTURE, memory: MMAP, ..zeroed() };
        let _ = ioctl(&self.handle, vidioc::VIDIOC_REQBUFS, &mut request);
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
    fn new(handle: &Handle, offset: u32, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            v4l2::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                handle.fd(),
                offset as libc::off_t,
            )
        }?;
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is a mapping of exactly this length, and no slice of it outlives its stream.
        let _ = unsafe { v4l2::munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_those_of_the_header() {
        // As printed by a C program that includes linux/videodev2.h on x86-64.
        assert_eq!(vidioc::VIDIOC_QUERYCAP, 0x8068_5600);
        assert_eq!(vidioc::VIDIOC_REQBUFS, 0xC014_5608);
        assert_eq!(vidioc::VIDIOC_STREAMON, 0x4004_5612);
        assert_eq!(vidioc::VIDIOC_STREAMOFF, 0x4004_5613);
        assert_eq!(vidioc::VIDIOC_ENUMINPUT, 0xC050_561A);
        assert_eq!(vidioc::VIDIOC_ENUM_FMT, 0xC040_5602);
        assert_eq!(vidioc::VIDIOC_G_INPUT, 0x8004_5626);
        if WIDE {
            assert_eq!(vidioc::VIDIOC_S_FMT, 0xC0D0_5605);
            assert_eq!(vidioc::VIDIOC_QBUF, 0xC058_560F);
            assert_eq!(vidioc::VIDIOC_DQBUF, 0xC058_5611);
        }
    }

    #[test]
    fn a_name_ends_at_its_zero_byte_and_may_be_cut_in_a_character() {
        assert_eq!(text(b"Cam\0left over"), "Cam");
        // The kernel copies at most 31 bytes.
        assert_eq!(text("摄像头".as_bytes().split_last().expect("bytes").1), "摄像\u{FFFD}");
    }
}
