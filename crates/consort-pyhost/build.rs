//! Notes which Python the binary is made with, and where its library is, so that the binary finds that one and no other.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    python();
}

#[cfg(feature = "python")]
fn python() {
    let config = pyo3_build_config::get();
    pyo3_build_config::add_libpython_rpath_link_args();
    let interpreter = config.executable().map_or_else(|| "python3".to_owned(), str::to_owned);
    let script = "import platform, sys; print(platform.python_version()); print(sys.base_prefix)";
    let said = std::process::Command::new(&interpreter).args(["-I", "-c", script]).output();
    let said = said.expect("the interpreter that pyo3 found runs");
    let said = String::from_utf8(said.stdout).expect("a version and a path are text");
    let (version, prefix) = said.trim().split_once('\n').expect("two lines were printed");
    println!("cargo::rustc-env=PYHOST_VERSION={version}");
    println!("cargo::rustc-env=PYHOST_PREFIX={}", prefix.trim());
    println!("cargo::rustc-env=PYHOST_LIBRARY={}", config.lib_dir().unwrap_or_default());
}
