//! Rules of the house that a compiler does not check. Each failure names the file and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Longer than this is more than one thing.
const MAX_LINES: usize = 600;

/// Folders that hold what we write.
const FOLDERS: [&str; 7] = ["crates", "plugins", "python", "proto", "tests", "deploy", ".ci"];

/// Kinds of file that are read by people.
const KINDS: [&str; 8] = ["rs", "py", "go", "proto", "sh", "toml", "yaml", "md"];

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn is(&self, kind: &str) -> bool {
        self.path.extension().is_some_and(|extension| extension == kind)
    }

    /// Path from the root, for messages.
    fn name(&self) -> String {
        self.path.strip_prefix(root()).expect("every file is under the root").display().to_string()
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the root").to_owned()
}

/// Every file that we wrote: what is generated, built or cached is left out.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "only {} files were found: is this the right folder?", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("our folders can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            let made = ["target", "__pycache__", "node_modules", "build", "dist", "_proto"].contains(&name.as_str());
            if !made && !name.starts_with('.') && !name.ends_with(".egg-info") {
                collect(&path, found);
            }
        } else if KINDS.iter().any(|kind| path.extension().is_some_and(|found| found == *kind))
            && !name.contains("_pb2")
            && !name.ends_with(".pb.go")
        {
            let text = fs::read_to_string(&path).expect("what people read is UTF-8");
            found.push(File { path, text });
        }
    }
}

/// Asserts that `complaint` has nothing to say about any file.
fn check(complaint: impl Fn(&File) -> Option<String>) {
    check_all(&files(), complaint);
}

fn check_all(files: &[File], complaint: impl Fn(&File) -> Option<String>) {
    let problems: Vec<String> =
        files.iter().filter_map(|file| Some(format!("{}: {}", file.name(), complaint(file)?))).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    check(|file| {
        let lines = file.text.lines().count();
        (lines > MAX_LINES).then(|| format!("{lines} lines; split it, {MAX_LINES} is the most"))
    });
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks: Vec<String> =
        [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("dbg", "!("), ("todo", "!("), ("unimplemented", "!(")]
            .map(|(head, tail)| format!("{head}{tail}"))
            .into();
    check(|file| {
        let mark_in = |line: &str| marks.iter().find(|mark| line.contains(mark.as_str()));
        let (number, mark) =
            file.text.lines().zip(1..).find_map(|(line, number): (_, usize)| Some((number, mark_in(line)?)))?;
        Some(format!("line {number} has `{mark}`: do it now, or write an issue"))
    });
}

#[test]
fn no_test_is_ignored_without_a_reason() {
    let bare = ["#[ig", "nore]"].concat();
    check(|file| file.text.contains(&bare).then(|| format!("write `{} = \"why\"]`", bare.trim_end_matches(']'))));
}

#[test]
fn every_crate_and_test_says_what_it_is() {
    check(|file| {
        let path = file.name();
        let head =
            ["src/lib.rs", "src/main.rs"].iter().any(|end| path.ends_with(end)) || path.starts_with("tests/tests/");
        (file.is("rs") && head && !file.text.starts_with("//!")).then(|| "begin with `//!` and what this is".to_owned())
    });
}

#[test]
fn every_python_module_says_what_it_is() {
    check(|file| {
        let code = file.text.trim_start_matches(|c: char| c.is_whitespace());
        let silent = !code.is_empty() && !code.starts_with("\"\"\"") && !code.starts_with("#!");
        (file.is("py") && silent).then(|| "begin with a docstring that says what this is".to_owned())
    });
}

#[test]
fn a_package_is_named_by_its_folder() {
    check(|file| {
        let name = file.name();
        let inside = name.strip_prefix("proto/")?;
        let folder = Path::new(inside).parent()?.display().to_string().replace('/', ".");
        let package = file.text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';'))?;
        let versioned = folder.starts_with("google.") || folder.rsplit('.').next().is_some_and(is_version);
        (package != folder || !versioned)
            .then(|| format!("package `{package}` stands in `{folder}`; write consort/<area>/v1 and the same package"))
    });
}

fn is_version(text: &str) -> bool {
    text.strip_prefix('v').is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

#[test]
fn a_proto_file_has_at_most_one_service() {
    check(|file| {
        let services = file.text.lines().filter(|line| file.is("proto") && line.starts_with("service ")).count();
        (services > 1).then(|| format!("{services} services; one file each"))
    });
}

#[test]
fn every_plugin_introduces_itself() {
    let mut problems = Vec::new();
    for entry in fs::read_dir(root().join("plugins")).expect("plugins/ stands in the root") {
        let folder = entry.expect("the folder can be read").path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if !folder.join("README.md").is_file() {
            problems.push(format!("plugins/{name} has no README.md"));
        }
        // Workflows are no processes, and SDKs are what plugins are made with.
        if ["audit", "patterns"].contains(&name.as_str()) || name.starts_with("sdk-") {
            continue;
        }
        match fs::read_to_string(folder.join("consort-plugin.toml")) {
            Err(error) => problems.push(format!("plugins/{name}/consort-plugin.toml: {error}")),
            Ok(manifest) if !manifest.lines().any(|line| line == format!("id = \"{name}\"")) => {
                problems.push(format!("plugins/{name}/consort-plugin.toml must have `id = \"{name}\"`"));
            }
            Ok(_) => {}
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn the_core_reads_no_clock_and_rolls_no_dice() {
    let forbidden = [
        "SystemTime::now",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        "Uuid::now_v7",
        "Uuid::new_v4",
        "thread::spawn",
        "thread::sleep",
    ];
    check(|file| {
        if !file.name().starts_with("crates/consort-core/src/") || !file.is("rs") {
            return None;
        }
        let found = forbidden.iter().find(|word| file.text.contains(**word))?;
        Some(format!("has `{found}`: time and chance are arguments of the core"))
    });
}

#[test]
fn scripts_run_and_stop_at_the_first_error() {
    let scripts: Vec<File> =
        ["deploy/setup.sh", "tests/bench/setup.sh", "plugins/sdk-go/generate.sh", ".ci/run", ".ci/breaking"]
            .iter()
            .map(|name| root().join(name))
            .map(|path| File { text: fs::read_to_string(&path).expect("the script exists"), path })
            .collect();
    check_all(&scripts, |file| {
        let mode = fs::metadata(&file.path).expect("the script exists").permissions().mode();
        if mode & 0o111 == 0 {
            return Some("is not executable: chmod +x".to_owned());
        }
        let careful = file.text.contains("\nset -euo pipefail\n") || file.text.contains("\nset -uo pipefail\n");
        (!careful).then(|| "needs `set -euo pipefail`".to_owned())
    });
}

#[test]
fn a_planted_fault_is_found() {
    let planted = File { path: root().join("crates/x/src/lib.rs"), text: "fn x() {}\n".repeat(MAX_LINES + 1) };
    let caught = std::panic::catch_unwind(|| {
        check_all(&[planted], |file| (file.text.lines().count() > MAX_LINES).then(|| "too long".to_owned()));
    });
    assert!(caught.is_err(), "a rule that cannot fail proves nothing");
}
