//! The machine: what its CPU can do, and how much memory is free.

use consort_core::Error;

/// Whether this CPU can run what llama.cpp itself was compiled for; a lesser one would end the process with an illegal instruction at
/// the first token. That is any x86-64 CPU since 2009 unless the build's environment asks for more (`.cargo/config.toml`).
pub fn check_cpu() -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    {
        let on = |setting: Option<&str>| setting.is_some_and(|value| value.eq_ignore_ascii_case("on"));
        let sse = !option_env!("GGML_SSE42").is_some_and(|value| value.eq_ignore_ascii_case("off"));
        let wanted = [
            ("sse4.2", std::is_x86_feature_detected!("sse4.2"), sse),
            ("avx", std::is_x86_feature_detected!("avx"), on(option_env!("GGML_AVX"))),
            ("avx2", std::is_x86_feature_detected!("avx2"), on(option_env!("GGML_AVX2"))),
            ("fma", std::is_x86_feature_detected!("fma"), on(option_env!("GGML_FMA"))),
            ("bmi2", std::is_x86_feature_detected!("bmi2"), on(option_env!("GGML_BMI2"))),
            ("f16c", std::is_x86_feature_detected!("f16c"), on(option_env!("GGML_F16C"))),
        ];
        let missing: Vec<&str> =
            wanted.iter().filter(|(_, has, needed)| !has && *needed).map(|(name, ..)| *name).collect();
        if !missing.is_empty() {
            return Err(Error::precondition(
                "CPU_TOO_OLD",
                format!(
                    "this build's local models need a CPU with {}; build without the GGML variables that ask for it",
                    missing.join(", ")
                ),
            ));
        }
    }
    Ok(())
}

/// Bytes of memory that can still be taken without swapping; `None` where that is not known.
pub(crate) fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024;
    // A container may have less than its machine.
    let group = [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = group.iter().find_map(|(limit, used)| Some(number(limit)?.saturating_sub(number(used)?)));
    Some(left.map_or(machine, |left| left.min(machine)))
}
