//! Looks for the shared library of the Python that PyO3 was given. If it is there, the program is made with it (`cfg(python)`) and finds
//! that one and no other; else the program is a stub that says what is missing, in PYHOST_LACKS.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(python)");
    match library() {
        Ok(()) => println!("cargo::rustc-cfg=python"),
        Err(lacks) => println!("cargo::rustc-env=PYHOST_LACKS={lacks}"),
    }
}

#[cfg(not(feature = "python"))]
fn library() -> Result<(), String> {
    Err("it was built without its feature `python`: leave out `--no-default-features`".to_owned())
}

#[cfg(feature = "python")]
fn library() -> Result<(), String> {
    /// What the SDK needs.
    const OLDEST: (u8, u8) = (3, 11);
    /// The version, the folder of the installation, the library's name, and the folders where it may be; a line each.
    const SCRIPT: &str = "import os, platform, sys, sysconfig
of = lambda name: str(sysconfig.get_config_var(name) or '')
for line in (platform.python_version(), sys.base_prefix, of('INSTSONAME'), of('LIBDIR'), os.path.join(of('LIBDIR'), of('MULTIARCH'))):
    print(line)";

    let config = pyo3_build_config::get();
    let (major, minor) = (config.version().major, config.version().minor);
    let interpreter = config.executable().unwrap_or("python3");
    let other = "name another one, PYO3_PYTHON=/path/to/python3";
    if (major, minor) < OLDEST {
        return Err(format!(
            "PyO3 found Python {major}.{minor} (`{interpreter}`), and 3.11 or newer is needed: {other}"
        ));
    }
    let said = std::process::Command::new(interpreter).args(["-I", "-c", SCRIPT]).output();
    let said = said.map_err(|error| format!("`{interpreter}`, which PyO3 found, does not run: {error}; {other}"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let [version, prefix, name, folders @ ..] = lines.as_slice() else {
        return Err(format!("`{interpreter}`, which PyO3 found, does not say where its library is; {other}"));
    };
    let places = folders.iter().map(|folder| std::path::Path::new(folder).join(name));
    // Without a shared library the name is that of an archive, as `libpython3.11.a`.
    let shared = [".so", ".dylib"].iter().any(|ending| name.contains(ending));
    let found = places.filter(|_| shared).find(|place| place.is_file());
    let Some((found, folder)) = found.and_then(|found| Some((found.clone(), found.parent()?.to_owned()))) else {
        if shared {
            // The next build looks again.
            println!("cargo::rerun-if-changed={}", std::path::Path::new(folders[0]).join(name).display());
        }
        return Err(format!(
            "Python {version} (`{interpreter}`) has no shared library: on Debian and Ubuntu install libpython{major}.{minor}; with pyenv, \
             `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {version}`; or {other}"
        ));
    };
    // What a linker looks for is in the packages of developers alone, so the link is made here.
    let own = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let link = own.join(format!("lib{}.so", config.lib_name().unwrap_or("python3")));
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&found, &link).map_err(|error| format!("`{}`: {error}", link.display()))?;
    println!("cargo::rerun-if-changed={}", found.display());
    println!("cargo::rustc-link-search=native={}", own.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    println!("cargo::rustc-env=PYHOST_VERSION={version}");
    println!("cargo::rustc-env=PYHOST_PREFIX={prefix}");
    println!("cargo::rustc-env=PYHOST_LIBRARY={}", folder.display());
    Ok(())
}
