//! Instruction sets: which exist, which this processor has, which one is used.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(all(target_arch = "x86_64", feature = "__emulate"))]
mod emulated;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod peak;
pub(crate) mod weave;

use crate::error::{Error, Result};
use crate::kernel::Kernels;

/// The environment variable that overrides [`Isa::detect`].
pub const ISA_ENV: &str = "SPOTD_KERNELS_ISA";

/// An instruction set that the kernels are written for. All give bit-identical results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, VL and VNNI: Ice Lake, Zen 4 and later servers.
    Avx512Vnni,
    /// x86-64 with AVX2 and AVX-VNNI: Alder Lake and later clients, Zen 5.
    AvxVnni,
    /// x86-64 with only AVX2.
    Avx2,
    /// aarch64 with the int8 matrix extension: Neoverse V1, Cortex-X2, Apple M2 and later.
    NeonI8mm,
    /// aarch64 with `sdot`: Cortex-A76 (Raspberry Pi 5), Carmel, Cortex-A78AE (Jetson Orin).
    NeonDotprod,
    /// Baseline aarch64: Cortex-A72 (Raspberry Pi 4), Cortex-A57 (Jetson Nano).
    Neon,
    /// Plain Rust on any processor; defines the result.
    Portable,
}

impl Isa {
    /// All, the fastest of each architecture first.
    pub const ALL: [Isa; 7] =
        [Isa::Avx512Vnni, Isa::AvxVnni, Isa::Avx2, Isa::NeonI8mm, Isa::NeonDotprod, Isa::Neon, Isa::Portable];

    /// The name that [`ISA_ENV`] and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Avx512Vnni => "avx512vnni",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx2 => "avx2",
            Isa::NeonI8mm => "i8mm",
            Isa::NeonDotprod => "dotprod",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Isa::Avx512Vnni | Isa::AvxVnni if cfg!(feature = "__emulate") => {
                return is_x86_feature_detected!("avx2");
            }
            Isa::Avx512Vnni => {
                return is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("avx2");
            }
            Isa::AvxVnni => return is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2"),
            Isa::Avx2 => return is_x86_feature_detected!("avx2"),
            _ => {}
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Isa::NeonI8mm => {
                return std::arch::is_aarch64_feature_detected!("i8mm")
                    && std::arch::is_aarch64_feature_detected!("dotprod");
            }
            Isa::NeonDotprod => return std::arch::is_aarch64_feature_detected!("dotprod"),
            Isa::Neon => return std::arch::is_aarch64_feature_detected!("neon"),
            _ => {}
        }
        self == Isa::Portable
    }

    /// Those that this processor has, the fastest first; ends with [`Isa::Portable`].
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The fastest that this processor has.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// What [`ISA_ENV`] asks for, else [`Isa::detect`].
    ///
    /// # Errors
    /// The variable holds an unknown name, or an instruction set that this processor does not have.
    pub fn chosen() -> Result<Isa> {
        match std::env::var(ISA_ENV) {
            Ok(name) if !name.is_empty() => {
                let isa: Isa = name.parse()?;
                isa.require()?;
                Ok(isa)
            }
            _ => Ok(Isa::detect()),
        }
    }

    /// Its vector kernels, preferred ones first; none for [`Isa::Portable`] and for other
    /// architectures.
    pub(crate) fn kernels(self) -> &'static [Kernels] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => &[avx512::KERNELS],
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => &[avxvnni::KERNELS],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &[avx2::bytes::KERNELS, avx2::words::KERNELS],
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => &[neon::i8mm::KERNELS],
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => &[neon::dotprod::KERNELS],
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &[neon::words::KERNELS],
            _ => &[],
        }
    }

    /// An error where this processor does not have it.
    pub(crate) fn require(self) -> Result<()> {
        if self.is_available() {
            return Ok(());
        }
        Err(Error::IsaMissing { isa: self.name(), available: names(&Isa::available()) })
    }
}

fn names(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Isa> {
        let found = Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::IsaUnknown { name: name.to_string(), known: names(&Isa::ALL) })
    }
}

/// Compiles one plain function for several instruction sets. The code is the same and floating
/// point is never fused, so the result is the same too; only the vector width differs.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($arg:ident: $ty:ty) = $body:ident;) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $arg: $ty) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($arg: $ty) {
                    $body($arg);
                }
                if isa != $crate::isa::Isa::Portable && isa.is_available() {
                    // SAFETY: every x86 instruction set of ours includes AVX2, and this one was
                    // just found.
                    return unsafe { avx2($arg) };
                }
            }
            let _ = isa;
            $body($arg);
        }
    };
}
pub(crate) use multiversion;
