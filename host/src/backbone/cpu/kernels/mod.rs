//! The arithmetic of the frozen transformer on the CPU: products, norms, activations and attention,
//! for each instruction set a plain loop cannot reach. Chosen at run time; all of them agree with
//! the plain candle path within rounding, and the tests hold them to it.
//!
//! This is the one place of the backbone with `unsafe`: what it needs it checks at the safe
//! functions' doors (lengths, and that the CPU has the instruction set).
#![allow(unsafe_code)]

pub(crate) mod activate;
pub(crate) mod attention;
pub mod bench;
pub mod clock;
mod drive;
pub(crate) mod gemm;
mod halves;
mod integers;
pub(crate) mod math;
mod micro;
mod micro_integers;
mod numbers;
mod packing;
mod pairs;
mod panels;
pub(crate) mod rotate;
#[cfg(test)]
mod tests;

use crate::backbone::error::BackboneError;

/// How the backbone computes. `ANYMC3D_KERNELS` forces one: `plain`, `portable`, `avx2`, `avx512`, `avx512bf16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Candle's own operations: the reference.
    Plain,
    Fast(Isa),
}

/// An instruction set that this CPU has: a value other than `Portable` is proof that it was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set, Vnni);

/// Whether the set's registers have instructions for products of small integers: AVX-VNNI, or AVX512-VNNI. `Vnni(true)` is proof
/// that it was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vnni(bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    Avx2,
    Avx512,
    Avx512Bf16,
}

impl Isa {
    /// What this CPU has, from the plainest to the fastest.
    pub fn available() -> Vec<Self> {
        [Set::Portable, Set::Avx2, Set::Avx512, Set::Avx512Bf16]
            .into_iter()
            .filter(Set::detected)
            .map(|set| Self(set, set.vnni()))
            .collect()
    }

    /// What this CPU computes fastest with. Intel's cores leave bf16 to AMX: their AVX-512 instruction for it has half the rate of f32
    /// (Emerald Rapids, one thread: 84 GFLOP/s against 171 of f32; so says libxsmm/tpp-mlir#1025), where AMD's has twice.
    pub fn fastest() -> Self {
        let found = Self::available().into_iter().rev().find(|isa| !isa.has_bf16() || !made_by_intel());
        found.unwrap_or(Self(Set::Portable, Vnni(false)))
    }

    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether it multiplies bf16 by instructions of their own.
    pub(crate) fn has_bf16(self) -> bool {
        self.0 == Set::Avx512Bf16
    }

    /// Whether it multiplies integers of 8 bits by instructions of their own.
    pub fn has_vnni(self) -> bool {
        self.1.0
    }

    /// The same set as it is on a CPU without VNNI.
    #[cfg(test)]
    pub(crate) fn without_vnni(self) -> Self {
        Self(self.0, Vnni(false))
    }
}

impl Set {
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn detected(&self) -> bool {
        let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = || {
            avx2()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        };
        match self {
            Self::Portable => true,
            Self::Avx2 => avx2(),
            Self::Avx512 => avx512(),
            Self::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn vnni(self) -> Vnni {
        Vnni(match self {
            Self::Portable => false,
            Self::Avx2 => is_x86_feature_detected!("avxvnni"),
            Self::Avx512 | Self::Avx512Bf16 => is_x86_feature_detected!("avx512vnni"),
        })
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn vnni(self) -> Vnni {
        Vnni(false)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detected(&self) -> bool {
        *self == Self::Portable
    }
}

#[cfg(target_arch = "x86_64")]
fn made_by_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn made_by_intel() -> bool {
    false
}

impl std::fmt::Display for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Fast(isa) if isa.has_vnni() => write!(f, "{} with VNNI", isa.name()),
            Self::Fast(isa) => f.write_str(isa.name()),
        }
    }
}

impl Kernels {
    /// [`Isa::fastest`], unless `ANYMC3D_KERNELS` names another.
    pub fn detect() -> Result<Self, BackboneError> {
        let Some(name) = std::env::var_os("ANYMC3D_KERNELS").filter(|n| !n.is_empty()) else {
            return Ok(Self::Fast(Isa::fastest()));
        };
        if name == "plain" {
            return Ok(Self::Plain);
        }
        let available = Isa::available();
        let found = available.iter().find(|isa| isa.name() == name);
        found.map(|isa| Self::Fast(*isa)).ok_or_else(|| {
            let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
            BackboneError::Input(format!(
                "ANYMC3D_KERNELS is {name:?}, but this CPU has: plain, {}; unset it to use the fastest",
                names.join(", ")
            ))
        })
    }
}

/// Compiles a function's body once per instruction set and picks by [`Isa`].
macro_rules! per_isa {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name(isa: $crate::backbone::cpu::kernels::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn wide($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn middle($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                use $crate::backbone::cpu::kernels::Set;
                match isa.0 {
                    // SAFETY: an `Isa` of this set exists only where the CPU has it.
                    Set::Avx512 | Set::Avx512Bf16 => return unsafe { wide($($arg),*) },
                    // SAFETY: as above.
                    Set::Avx2 => return unsafe { middle($($arg),*) },
                    Set::Portable => {}
                }
            }
            $body($($arg),*)
        }
    };
}
/// As [`per_isa`] for a body that is told whether there is a fused multiply-add.
macro_rules! per_isa_fma {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name(isa: $crate::backbone::cpu::kernels::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn wide($($arg: $ty),*) $(-> $ret)? { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn middle($($arg: $ty),*) $(-> $ret)? { $body::<true>($($arg),*) }
                use $crate::backbone::cpu::kernels::Set;
                match isa.0 {
                    // SAFETY: an `Isa` of this set exists only where the CPU has it.
                    Set::Avx512 | Set::Avx512Bf16 => return unsafe { wide($($arg),*) },
                    // SAFETY: as above.
                    Set::Avx2 => return unsafe { middle($($arg),*) },
                    Set::Portable => {}
                }
            }
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use per_isa;
pub(crate) use per_isa_fma;
