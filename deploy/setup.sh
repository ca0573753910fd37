#!/usr/bin/env bash
# Installs what a clone needs to build, run and test Consort. Run it as often as you like: it looks first, and what is
# there stays.
#
#   deploy/setup.sh run    C and C++ compilers, CMake, libclang, Rust and Python are there; .venv holds the Python SDK
#   deploy/setup.sh dev    the same, with what the tests and linters need
#
# On Debian and Ubuntu missing system packages are installed by apt when this runs as root or when sudo asks for no
# password. Everywhere else it prints what to install and exits with 1. Rust and Python themselves are never installed
# over what you have. PYTHON=/path/to/python3 chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode="${1:-run}"
if [[ "$mode" != run && "$mode" != dev ]]; then
    echo "setup: '$mode' is not a mode: write deploy/setup.sh run or deploy/setup.sh dev" >&2
    exit 2
fi

say() { echo "setup: $*" >&2; }

# Whether the version in $1 is at least the one in $2; both are numbers joined by dots.
at_least() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

# Only a compiler that finds the C library's headers can build SQLite and libgit2, which come as C sources.
c_compiler_works() {
    command -v cc >/dev/null &&
        printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | cc -x c - -o /dev/null 2>/dev/null
}

# llama.cpp is C++.
cxx_compiler_works() {
    command -v c++ >/dev/null &&
        printf '#include <vector>\nint main() { return 0; }\n' | c++ -x c++ - -o /dev/null 2>/dev/null
}

# Its bindings are made by bindgen, which loads libclang and wants clang's own headers.
libclang_is_there() {
    [[ -n "${LIBCLANG_PATH:-}" || "$(uname)" == Darwin ]] && return
    local found
    for found in /usr/lib/llvm*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* /usr/lib/libclang*.so*; do
        # libclang-cpp is another library.
        if [[ -e "$found" && "$found" != *libclang-cpp* ]]; then return; fi
    done
    return 1
}

# Prints the first Python that is new enough, or nothing.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

# Prints the Debian package with the shared library that consort-pyhost holds, if it is missing and Python is Debian's. For
# another Python it says what is missing; consort-pyhost is then a stub, and its tests are ignored.
missing_libpython() {
    if [[ -z "$python" ]] || "$python" - <<'END'
import os, sys, sysconfig
name, place, arch = (sysconfig.get_config_var(key) or "" for key in ("INSTSONAME", "LIBDIR", "MULTIARCH"))
there = any(os.path.exists(os.path.join(place, part, name)) for part in ("", arch))
sys.exit(not (".so" in name and there))
END
    then return; fi
    if command -v apt-get >/dev/null && "$python" -c 'import sys; sys.exit(sys.base_prefix != "/usr")'; then
        "$python" -c 'import sys; print("libpython%d.%d" % sys.version_info[:2])'
    else
        say "$python has no shared library, so consort-pyhost will be a stub (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared)"
    fi
}

# Installs Debian packages, or says how and stops.
install_packages() {
    local command=(apt-get install -y --no-install-recommends "$@")
    if ! command -v apt-get >/dev/null; then
        say "missing here; on Debian the packages are called: $*"
        say "install them with your system's package manager, then run this again"
        exit 1
    fi
    local as_root=(env)
    if [[ "$(id -u)" != 0 ]]; then
        if ! sudo -n true 2>/dev/null; then
            say "missing: $*. Run this, then try again:"
            echo "    sudo apt-get update && sudo ${command[*]}" >&2
            exit 1
        fi
        as_root=(sudo -n env)
    fi
    say "installing $*"
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive "${command[@]}"
}

system_packages() {
    local missing=() library
    c_compiler_works || missing+=(gcc libc6-dev)
    cxx_compiler_works || missing+=(g++)
    command -v cmake >/dev/null || missing+=(cmake)
    libclang_is_there || missing+=(libclang-dev)
    command -v make >/dev/null || missing+=(make)
    # Counts instructions; the regression guard of speed needs it.
    if [[ "$mode" == dev ]] && ! command -v valgrind >/dev/null; then missing+=(valgrind); fi
    library="$(if [[ "$mode" == dev ]]; then missing_libpython; fi)"
    missing+=(${library:+"$library"})
    # What plugins are tried on. Elsewhere than in CI nobody has to have a database or a screen: those tests are skipped, and say so.
    if [[ "$mode" == dev && -n "${CI:-}" ]]; then
        command -v Xvfb >/dev/null || missing+=(xvfb)
        local program
        for program in tmux xterm openbox xclip; do command -v "$program" >/dev/null || missing+=("$program"); done
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
    fi
    if [[ -z "$python" ]] && ! command -v python3 >/dev/null; then
        missing+=(python3 python3-venv)
    elif [[ -n "$python" ]] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian takes these modules out of python3 and ships them apart.
        missing+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
    fi
    if ((${#missing[@]} == 0)); then return; fi
    install_packages "${missing[@]}"
    # The library is older than the last build, which cargo takes for a sign that nothing is new.
    if [[ -n "$library" ]]; then touch crates/consort-pyhost/build.rs; fi
    python="$(find_python)"
}

rust() {
    local wanted found
    wanted="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)"
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        say "Rust is missing. Install $wanted or newer from https://rustup.rs, open a new shell, then try again."
        exit 1
    fi
    found="$(rustc --version | cut -d' ' -f2)"
    if ! at_least "${found%%-*}" "$wanted"; then
        say "rustc is $found, and $wanted or newer is needed. Run: rustup update stable"
        exit 1
    fi
}

# A stamp names what it was made from, so that a changed file or interpreter makes it void.
stamp_of() { cat "$@" <("$python" --version) | sha256sum | cut -d' ' -f1; }
stamp_holds() { [[ -f ".venv/$1" && "$(<".venv/$1")" == "$2" ]]; }

virtual_environment() {
    local run dev
    if [[ -z "$python" ]]; then
        say "$(python3 --version 2>&1) is too old: Python 3.11 or newer is needed."
        say "Install a newer one beside it, or name one that is there: PYTHON=/path/to/python3 make demo"
        exit 1
    fi
    run="$(stamp_of python/pyproject.toml)"
    dev="$(stamp_of python/pyproject.toml deploy/tools.txt)"
    if .venv/bin/python -c '' 2>/dev/null; then
        if stamp_holds dev-stamp "$dev"; then return; fi
        if [[ "$mode" == run ]] && stamp_holds run-stamp "$run"; then return; fi
    else
        say "making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
    fi
    local pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
    if [[ "$mode" == dev ]]; then
        say "installing the Python SDK and the checkers into .venv"
        "${pip[@]}" -e 'python[dev]' -r deploy/tools.txt
        echo "$dev" >.venv/dev-stamp
    else
        say "installing the Python SDK into .venv"
        "${pip[@]}" -e python
    fi
    echo "$run" >.venv/run-stamp
}

python="$(find_python)"
system_packages
rust
virtual_environment
