//! Which of the compiled sets of CPU kernels is used: the best one that this CPU can run.
//!
//! `build.rs` compiles them. AMX has none: where a hypervisor announces it without letting it be used, a process dies of it.

use std::sync::atomic::{AtomicU8, Ordering};

/// The variable that holds the choice down, for example `CONSORT_KERNELS=avx2`.
pub(crate) const VARIABLE: &str = "CONSORT_KERNELS";

/// A set of kernels, from the one that runs everywhere to the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kernels {
    /// What llama.cpp itself was compiled for: any x86-64 CPU since 2009 (SSE 4.2), or the target's own baseline.
    Baseline,
    /// AVX2, FMA, F16C and BMI2: CPUs since 2013.
    Avx2,
    /// AVX-512 with VBMI and VNNI: Ice Lake, Zen 4 and newer.
    Avx512,
}

/// The highest set that may be used; lowered when a child died of one.
static CEILING: AtomicU8 = AtomicU8::new(Kernels::Avx512 as u8);

impl Kernels {
    const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    /// The name, as in [`VARIABLE`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The best set that was compiled, that this CPU can run, and that is not held down.
    #[must_use]
    pub fn best() -> Self {
        let wanted = std::env::var(VARIABLE).ok();
        let wanted = wanted.and_then(|name| Self::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(&name)));
        let ceiling = Self::ALL[usize::from(CEILING.load(Ordering::Relaxed))].min(wanted.unwrap_or(Self::Avx512));
        Self::ALL.into_iter().rev().find(|set| *set <= ceiling && set.runs_here()).unwrap_or(Self::Baseline)
    }

    /// The next one down.
    pub(crate) fn lower(self) -> Option<Self> {
        (self as usize).checked_sub(1).map(|index| Self::ALL[index])
    }

    /// From now on at most this one; what runs already goes on with what it has.
    pub(crate) fn hold_down(self) {
        CEILING.fetch_min(self as u8, Ordering::Relaxed);
    }

    #[cfg(kernel_sets)]
    fn runs_here(self) -> bool {
        macro_rules! has {
            ($($feature:tt)*) => { $(std::is_x86_feature_detected!($feature))&&* };
        }
        match self {
            Self::Baseline => true,
            Self::Avx2 => has!("avx" "avx2" "fma" "f16c" "bmi2"),
            Self::Avx512 => {
                Self::Avx2.runs_here()
                    && has!("avx512f" "avx512cd" "avx512bw" "avx512dq" "avx512vl" "avx512vbmi" "avx512vnni")
            }
        }
    }

    #[cfg(not(kernel_sets))]
    fn runs_here(self) -> bool {
        self == Self::Baseline
    }

    /// Puts this set in the place of the one that llama.cpp brought. To be called once, before anything is loaded.
    #[cfg(kernel_sets)]
    pub(crate) fn install(self) {
        use llama_cpp_sys_2 as sys;

        #[expect(
            unsafe_code,
            reason = "the entries of the objects that build.rs made: the same function, compiled again"
        )]
        // SAFETY: both are `ggml_backend_cpu_reg` of the very sources that sys was generated from, under other names.
        unsafe extern "C" {
            fn consort_kernels_avx2() -> sys::ggml_backend_reg_t;
            fn consort_kernels_avx512() -> sys::ggml_backend_reg_t;
        }

        #[expect(unsafe_code, reason = "ggml's registry of backends has no safe face")]
        // SAFETY: nothing is loaded yet, so nothing holds the set that goes, and `runs_here` knew the CPU.
        unsafe {
            let set = match self {
                Self::Baseline => return,
                Self::Avx2 => consort_kernels_avx2(),
                Self::Avx512 => consort_kernels_avx512(),
            };
            sys::ggml_backend_unload(sys::ggml_backend_cpu_reg());
            sys::ggml_backend_register(set);
        }
    }

    #[cfg(not(kernel_sets))]
    pub(crate) fn install(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_but_the_first_has_one_below_it() {
        assert_eq!(Kernels::Avx512.lower(), Some(Kernels::Avx2));
        assert_eq!(Kernels::Avx2.lower(), Some(Kernels::Baseline));
        assert_eq!(Kernels::Baseline.lower(), None);
        assert!(Kernels::best().runs_here());
    }
}
