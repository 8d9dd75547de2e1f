//! The choice of instruction set, made once at run time: no build flag decides how fast a program is.

use std::sync::OnceLock;

/// A set of vector instructions, from the plainest to the widest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every processor of the target has: SSE2 on x86-64, NEON on aarch64.
    #[default]
    Plain,
    /// AVX2 with fused multiply–add.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512,
    /// AVX-512 with products of bfloat16 pairs.
    Avx512Bf16,
}

impl Isa {
    /// The widest this processor has.
    fn widest() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && wide {
                return if is_x86_feature_detected!("avx512bf16") { Isa::Avx512Bf16 } else { Isa::Avx512 };
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Plain
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Bf16 => "avx512 + bf16",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2 + fma",
            Isa::Plain if cfg!(target_arch = "aarch64") => "neon",
            Isa::Plain => "scalar",
        }
    }

    /// All that this processor has.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Plain, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16].into_iter().filter(|&isa| isa <= Isa::widest())
    }
}

/// The instruction set in use: the widest of the processor, or a lower one that the environment variable
/// `PENWRIGHT_ISA` names (`scalar`, `avx2`, `avx512`, `avx512bf16`).
pub fn isa() -> Isa {
    #[cfg(test)]
    if let Some(isa) = FORCED.get() {
        return isa;
    }
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let most = match std::env::var("PENWRIGHT_ISA").as_deref() {
            Ok("scalar") => Isa::Plain,
            Ok("avx2") => Isa::Avx2,
            Ok("avx512") => Isa::Avx512,
            _ => Isa::Avx512Bf16,
        };
        most.min(Isa::widest())
    })
}

/// Whether products of bfloat16 are faster than those of f32: AMD's cores do twice as many at a time, Intel's have the
/// instruction but were measured at less than half of f32's rate (family 6, model 207: 152 of 350 GFLOP/s on two cores).
pub fn fast_bf16() -> bool {
    isa() == Isa::Avx512Bf16 && !is_intel()
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    #[allow(unused_unsafe)] // newer compilers know that it is safe
    // SAFETY: every x86-64 processor has the instruction `cpuid`, and it only reads.
    let leaf = unsafe { std::arch::x86_64::__cpuid(0) };
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// Runs `f` once with each instruction set of this processor; holds for this thread only.
#[cfg(test)]
pub(crate) fn with_each(mut f: impl FnMut(Isa)) {
    for isa in Isa::available() {
        FORCED.set(Some(isa));
        f(isa);
    }
    FORCED.set(None);
}

/// Whether the plain path multiplies and adds in one instruction.
pub(crate) const PLAIN_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Asks for values that will be read soon: a hint, where the processor takes one.
#[inline(always)]
pub(crate) fn fetch<S>(values: &[S]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(values)).step_by(64) {
        use std::arch::x86_64::*;
        // SAFETY: a hint, whatever the address is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast::<i8>().wrapping_add(at)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Defines a function whose body is compiled once for each instruction set; the caller gets the one in use.
///
/// The body is an inlined function `body::<FMA>` of safe code without branches on the instruction set; `FMA` says
/// whether [`crate::math::fma`] may be one instruction. The compiler turns its loops into vectors of each width.
macro_rules! dispatched {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<$gen:ident: $bound:ident>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        = $body:ident;) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name$(<$gen: $bound>)?($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512$(<$gen: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                    $body::<$($gen,)? true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2$(<$gen: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                    $body::<$($gen,)? true>($($arg),*)
                }
                match $crate::isa::isa() {
                    // SAFETY: `isa` answers with sets that the processor was found to have.
                    $crate::isa::Isa::Avx512 | $crate::isa::Isa::Avx512Bf16 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::isa::Isa::Plain => {}
                }
            }
            $body::<$($gen,)? { $crate::isa::PLAIN_FMA }>($($arg),*)
        }
    };
}
pub(crate) use dispatched;
