//! Compiles ggml's CPU kernels again for newer x86-64 CPUs, so that one binary has several sets and chooses when it runs (`src/kernels.rs`).
//!
//! llama-cpp-sys-2 compiled them once, for any x86-64 CPU since 2009. The commands that did it are repeated with more flags, and the
//! objects of a set become one object in which every symbol is local but the set's entry: sets do not see each other, and the linker
//! cannot take a copy of an inline function from the wrong one. ggml's own way to several sets is shared libraries beside the binary.

#![allow(clippy::panic)] // a build that cannot go on says why and ends

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use serde_json::Value;

/// A set's name and what is added to the compiler's flags. The defines are those of ggml's build: it names its features by them.
const SETS: [(&str, &str); 2] = [
    ("avx2", "-mavx -mavx2 -mfma -mf16c -mbmi2 -DGGML_AVX -DGGML_AVX2 -DGGML_FMA -DGGML_F16C -DGGML_BMI2"),
    (
        "avx512",
        "-mavx -mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mavx512vbmi -mavx512vnni \
         -DGGML_AVX -DGGML_AVX2 -DGGML_FMA -DGGML_F16C -DGGML_BMI2 -DGGML_AVX512 -DGGML_AVX512_VBMI -DGGML_AVX512_VNNI",
    ),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(kernel_sets)");
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("ARCH") != "x86_64" || target("OS") != "linux" || env::var("HOST").ok() != env::var("TARGET").ok() {
        return;
    }
    // `<out>/lib/cmake`; the folder of the build lies beside `lib`.
    let Ok(installed) = env::var("DEP_LLAMA_GGML_CMAKE_DIR") else {
        println!("cargo::warning=llama.cpp was not compiled here: its kernels are those of the library at hand");
        return;
    };
    let commands = Path::new(&installed).join("../../build/compile_commands.json");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let objects: Vec<PathBuf> = SETS.iter().map(|(name, flags)| set(&commands, &out, name, flags)).collect();
    let archive = out.join("libconsort_kernels.a");
    let _ = fs::remove_file(&archive);
    run(Command::new("ar").arg("crs").arg(&archive).args(&objects));
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=consort_kernels");
    println!("cargo::rustc-cfg=kernel_sets");
}

/// Compiles a set into one object that has the symbol `consort_kernels_<name>`.
fn set(commands: &Path, out: &Path, name: &str, flags: &str) -> PathBuf {
    let text = fs::read_to_string(commands)
        .unwrap_or_else(|error| panic!("{}, which CMake wrote for llama.cpp: {error}", commands.display()));
    let all: Vec<Value> = serde_json::from_str(&text).expect("compile_commands.json is a list");
    let field = |command: &Value, name: &str| command[name].as_str().expect("each has it as a string").to_owned();
    let kernels: Vec<&Value> =
        all.iter().filter(|command| field(command, "file").contains("/ggml/src/ggml-cpu/")).collect();
    assert!(!kernels.is_empty(), "{} has no kernels of ggml-cpu", commands.display());
    let folder = out.join(name);
    fs::create_dir_all(&folder).expect("OUT_DIR is writable");
    let objects: Vec<PathBuf> = (0..kernels.len()).map(|index| folder.join(format!("{index}.o"))).collect();
    let (next, jobs) = (AtomicUsize::new(0), env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((command, object)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    kernels.get(index).zip(objects.get(index))
                } {
                    // Of several `-o` the last one counts.
                    let line = format!("{} {flags} -o '{}'", field(command, "command"), object.display());
                    run(Command::new("sh").arg("-c").arg(line).current_dir(field(command, "directory")));
                }
            });
        }
    });
    let whole = out.join(format!("{name}.o"));
    let entry = format!("consort_kernels_{name}");
    run(Command::new("ld").args(["-r", "--force-group-allocation", "-o"]).arg(&whole).args(&objects));
    run(Command::new("objcopy")
        .arg(format!("--redefine-sym=ggml_backend_cpu_reg={entry}"))
        .arg(format!("--keep-global-symbol={entry}"))
        // GNU's unique symbols, data of inline functions, stay global; weak ones do not clash.
        .arg("--weaken")
        .arg(&whole));
    whole
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| {
        panic!("{command:?} does not start: {error}. A C compiler and binutils (ld, ar, objcopy) are needed")
    });
    assert!(done.status.success(), "{command:?} ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr));
}
