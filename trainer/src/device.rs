//! The device and precision of training.

use std::ffi::CStr;
use tch::Device;

/// CUDA if available, else the CPU; logs which in one line, and what is missing for CUDA.
///
/// The binary is linked only against the CPU library, so that it runs on any machine; CUDA
/// registers itself when its library is opened, which must happen before the first tensor.
pub fn choose() -> Device {
    let opened = open(c"libtorch_cuda.so");
    let gpus = if opened.is_ok() && tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
    let (device, line) = decide(opened, gpus);
    log::info!("{line}");
    device
}

fn decide(opened: Result<(), String>, gpus: i64) -> (Device, String) {
    match opened {
        Ok(()) if gpus > 0 => (Device::Cuda(0), format!("training on CUDA ({gpus} device(s))")),
        Ok(()) => (
            Device::Cpu,
            "training on the CPU: libtorch_cuda.so is there, but no usable GPU or driver".into(),
        ),
        Err(reason) => (Device::Cpu, format!("training on the CPU: no CUDA ({reason})")),
    }
}

/// Whether bfloat16 pays off: on CUDA, and on processors that multiply it in hardware. Elsewhere
/// libtorch emulates it, which is slower than float32.
pub fn bf16_pays(device: Device) -> bool {
    #[cfg(target_arch = "x86_64")]
    let processor = std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let processor = false;
    device.is_cuda() || processor
}

fn open(library: &CStr) -> Result<(), String> {
    // SAFETY: `library` ends in a zero byte. Opening runs the library's initialisers, which
    // libtorch provides for exactly this; the handle is kept for the life of the process.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen, dlerror gives a string that lives until this thread's next dl
    // call.
    let message =
        unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text).to_string_lossy().into_owned()) };
    Err(message.unwrap_or_else(|| "unknown reason".into()))
}

/// While alive, convolutions and products of this thread run in bfloat16 with float32 weights.
///
/// tch can only switch autocast for CUDA, so libtorch's functions are called directly.
pub struct Autocast {
    kind: i8,
    before: bool,
}

/// `c10::DeviceType` of the CPU and of CUDA, `c10::ScalarType` of bfloat16.
const CPU: i8 = 0;
const CUDA: i8 = 1;
const BFLOAT16: i8 = 15;

unsafe extern "C" {
    #[link_name = "_ZN2at8autocast20set_autocast_enabledEN3c1010DeviceTypeEb"]
    fn set_autocast_enabled(device: i8, enabled: bool);
    #[link_name = "_ZN2at8autocast19is_autocast_enabledEN3c1010DeviceTypeE"]
    fn is_autocast_enabled(device: i8) -> bool;
    #[link_name = "_ZN2at8autocast18set_autocast_dtypeEN3c1010DeviceTypeENS1_10ScalarTypeE"]
    fn set_autocast_dtype(device: i8, dtype: i8);
    #[link_name = "_ZN2at8autocast17increment_nestingEv"]
    fn increment_nesting() -> i32;
    #[link_name = "_ZN2at8autocast17decrement_nestingEv"]
    fn decrement_nesting() -> i32;
    #[link_name = "_ZN2at8autocast11clear_cacheEv"]
    fn clear_cache();
}

impl Autocast {
    /// Begins; nothing happens when `on` is false.
    pub fn new(device: Device, on: bool) -> Option<Autocast> {
        let kind = if device.is_cuda() { CUDA } else { CPU };
        // SAFETY: plain functions of libtorch's C++ interface on thread-local state; both
        // enumerations are one byte wide (c10/core/DeviceType.h and ScalarType.h of 2.11, the
        // version that tch pins).
        on.then(|| unsafe {
            let before = is_autocast_enabled(kind);
            set_autocast_enabled(kind, true);
            set_autocast_dtype(kind, BFLOAT16);
            increment_nesting();
            Autocast { kind, before }
        })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe {
            // Weights cast in this scope would be stale after the optimiser's step.
            if decrement_nesting() == 0 {
                clear_cache();
            }
            set_autocast_enabled(self.kind, self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn a_gpu_is_taken_where_it_can_be_used_and_one_line_says_why_not() {
        let (device, line) = decide(Ok(()), 2);
        assert_eq!((device, line.contains("CUDA (2 device")), (Device::Cuda(0), true));
        for (opened, why) in [(Ok(()), "no usable GPU"), (Err("no such file".into()), "no such file")] {
            let (device, line) = decide(opened, 0);
            assert_eq!((device, line.lines().count()), (Device::Cpu, 1));
            assert!(line.contains("on the CPU") && line.contains(why), "{line}");
        }
        assert!(open(c"libspotd_no_such_library.so").is_err_and(|why| why.contains("no_such_library")));
    }

    #[test]
    fn autocast_holds_for_its_scope() {
        let product = || {
            let x = Tensor::ones([4, 4], (Kind::Float, Device::Cpu));
            x.matmul(&x).kind()
        };
        assert_eq!(product(), Kind::Float);
        {
            let _cast = Autocast::new(Device::Cpu, true);
            assert_eq!(product(), Kind::BFloat16);
        }
        assert_eq!(product(), Kind::Float);
        let _none = Autocast::new(Device::Cpu, false);
        assert_eq!(product(), Kind::Float);
    }
}
