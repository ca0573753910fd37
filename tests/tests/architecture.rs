//! Holds the table of rooms in ARCHITECTURE.md against what cargo knows: which crate may know which, and under which
//! licences the rest comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// Licences that may come with a dependency; deny.toml has the same list.
const LICENCES: [&str; 11] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// What a room must not know, directly: the crate of this name and all whose name begins with it and `-`.
const FORBIDDEN: [(&str, &[&str], &str); 4] = [
    (
        "consort-core",
        &["tonic", "prost", "sqlx", "rusqlite", "tokio", "futures", "rand", "tracing"],
        "the domain knows no wire, no database, no runtime, and rolls no dice",
    ),
    (
        "consort-engine",
        &["tonic", "prost", "sqlx", "rusqlite", "hyper", "tower", "http"],
        "the engine speaks through ports",
    ),
    ("consort-store", &["tonic", "prost", "hyper", "tower", "http"], "a store knows nothing of the wire"),
    (
        "consort-bus",
        &["tonic", "prost", "sqlx", "rusqlite", "hyper", "tower"],
        "the bus carries facts, not messages of the wire",
    ),
];

/// A package as `cargo metadata` tells it.
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: String,
    /// Names of the dependencies that are linked into it or run to build it; those of its tests are left out.
    linked: Vec<String>,
    /// Whether it is one of the workspace.
    ours: bool,
}

/// The workspace and everything it uses on this platform, tests included.
static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| {
    // Only this platform's packages: those of others need not have been downloaded.
    let described = output("rustc", &["-vV"]);
    let host = described.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc -vV names its host");
    let manifest = root().join("Cargo.toml").display().to_string();
    let metadata = output(
        "cargo",
        &["metadata", "--locked", "--format-version=1", "--filter-platform", host, "--manifest-path", &manifest],
    );
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    let ids = |list: &Value| -> BTreeSet<String> { list.as_array().expect("a list of ids").iter().map(text).collect() };
    let members = ids(&metadata["workspace_members"]);
    let nodes = metadata["resolve"]["nodes"].as_array().expect("cargo metadata resolves");
    let used: BTreeSet<String> = nodes.iter().map(|node| text(&node["id"])).collect();
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    packages.iter().filter(|p| used.contains(&text(&p["id"]))).map(|p| package(p, &members)).collect()
});

fn package(json: &Value, members: &BTreeSet<String>) -> Package {
    let dependencies = json["dependencies"].as_array().expect("a package lists its dependencies");
    Package {
        name: text(&json["name"]),
        version: text(&json["version"]),
        license: json["license"].as_str().map(str::to_owned),
        manifest_path: text(&json["manifest_path"]),
        linked: dependencies.iter().filter(|d| d["kind"] != "dev").map(|d| text(&d["name"])).collect(),
        ours: members.contains(&text(&json["id"])),
    }
}

fn text(json: &Value) -> String {
    json.as_str().expect("cargo metadata has text here").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("cargo and rustc run, for they built this test");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo and rustc print UTF-8")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the root").to_owned()
}

fn ours() -> impl Iterator<Item = &'static Package> {
    PACKAGES.iter().filter(|package| package.ours)
}

/// The row of a crate: all plugins share one.
fn row_of(package: &str) -> &str {
    if package.starts_with("consort-plugin-") { "consort-plugin-*" } else { package }
}

/// Crate to the crates it may know, from the rows "| `crate` | what it does | may know |" of ARCHITECTURE.md. `None` means all
/// but those that are for tests.
fn table() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md stands in the root");
    text.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<(String, Option<BTreeSet<String>>)> {
    let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
    let [name, _, may_know] = cells[..] else { return None };
    let name = name.strip_prefix('`')?.strip_suffix('`')?;
    if name != "consort" && !name.starts_with("consort-") {
        return None;
    }
    let allowed = match may_know {
        "all" => None,
        "-" => Some(BTreeSet::new()),
        list => Some(list.split(", ").map(|room| format!("consort-{room}")).collect()),
    };
    Some((name.to_owned(), allowed))
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn a_room_knows_only_the_rooms_of_its_row() {
    let table = table();
    let mut problems = Vec::new();
    for package in ours() {
        let Some(allowed) = table.get(row_of(&package.name)) else {
            problems.push(format!("{} has no row in ARCHITECTURE.md", package.name));
            continue;
        };
        let Some(allowed) = allowed else { continue };
        for other in package.linked.iter().filter(|name| name.starts_with("consort")) {
            if !allowed.contains(other) {
                problems.push(format!("{} may not know {other}: ARCHITECTURE.md allows {allowed:?}", package.name));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn every_row_is_a_room() {
    let rooms: BTreeSet<&str> = ours().map(|package| row_of(&package.name)).collect();
    let problems: Vec<String> = table()
        .keys()
        .filter(|name| !rooms.contains(name.as_str()))
        .map(|name| format!("ARCHITECTURE.md has a row for `{name}`, and the workspace has no such crate"))
        .collect();
    assert_none(&problems);
}

#[test]
fn only_the_binary_joins_engine_and_adapters() {
    let mut problems = Vec::new();
    for package in ours() {
        let knows = |name: &str| package.linked.iter().any(|linked| linked == name);
        let joins = knows("consort-store") && knows("consort-engine");
        if joins && !["consort", "consort-testkit"].contains(&package.name.as_str()) {
            problems.push(format!("{} joins the engine and a store; only the binary may", package.name));
        }
    }
    assert_none(&problems);
}

#[test]
fn what_is_for_tests_is_linked_into_nothing_else() {
    let mut problems = Vec::new();
    for package in ours() {
        for other in package.linked.iter().filter(|name| ["consort-testkit", "consort-tests"].contains(&name.as_str()))
        {
            problems.push(format!("{} links {other}: make it a dev-dependency", package.name));
        }
    }
    assert_none(&problems);
}

#[test]
fn no_room_knows_what_is_forbidden_to_it() {
    let mut problems = Vec::new();
    for (room, forbidden, why) in FORBIDDEN {
        let package = ours().find(|p| p.name == room).expect("FORBIDDEN names rooms that exist");
        for name in &package.linked {
            let stems = forbidden.iter().filter(|stem| name.strip_prefix(**stem).is_some_and(is_end_of_stem));
            problems.extend(stems.map(|_| format!("{room} depends on {name}: {why}")));
        }
    }
    assert_none(&problems);
}

fn is_end_of_stem(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('-')
}

#[test]
fn every_crate_takes_its_settings_from_the_workspace() {
    let problems: Vec<String> = ours()
        .filter(|package| {
            let manifest = fs::read_to_string(&package.manifest_path).expect("cargo read it too");
            !manifest.contains("[lints]\nworkspace = true") || !manifest.contains("license.workspace = true")
        })
        .map(|package| format!("{} needs `license.workspace = true` and `[lints] workspace = true`", package.name))
        .collect();
    assert_none(&problems);
}

#[test]
fn dependencies_come_under_licences_we_accept() {
    let mut problems = Vec::new();
    for package in PACKAGES.iter() {
        match &package.license {
            Some(expression) if accepted(expression) => {}
            found => problems.push(format!("{} {} has licence {found:?}", package.name, package.version)),
        }
    }
    assert_none(&problems);
}

/// Whether an SPDX expression can be met with [`LICENCES`]. `/` is the old way to write `OR`.
fn accepted(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &tokens[..];
    let verdict = either(&mut rest);
    verdict && rest.is_empty()
}

/// `a OR b`. Both sides are read, whatever the first says.
fn either(rest: &mut &[&str]) -> bool {
    let mut verdict = both(rest);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        verdict |= both(rest);
    }
    verdict
}

/// `a AND b`, which binds more tightly.
fn both(rest: &mut &[&str]) -> bool {
    let mut verdict = term(rest);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        verdict &= term(rest);
    }
    verdict
}

/// A licence, one with an exception, or a group in parentheses.
fn term(rest: &mut &[&str]) -> bool {
    let (verdict, tail): (bool, &[&str]) = match *rest {
        ["(", tail @ ..] => {
            let mut inner = tail;
            let verdict = either(&mut inner);
            match inner {
                [")", tail @ ..] => (verdict, tail),
                _ => (false, inner),
            }
        }
        [name, "WITH", exception, tail @ ..] => (LICENCES.contains(&format!("{name} WITH {exception}").as_str()), tail),
        [name, tail @ ..] => (LICENCES.contains(name), tail),
        [] => (false, &[]),
    };
    *rest = tail;
    verdict
}

#[test]
fn licence_expressions_are_understood() {
    let cases = [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("GPL-3.0-only OR MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT/Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT AND ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0 WITH Other-exception", false),
        ("", false),
        ("MIT OR", true),
        ("(MIT", false),
        ("MIT) ISC", false),
    ];
    for (expression, expected) in cases {
        assert_eq!(accepted(expression), expected, "{expression:?}");
    }
}

#[test]
fn deny_toml_has_the_same_licences() {
    let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml stands in the root");
    let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).expect("it has an allow list").0;
    let listed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, BTreeSet::from(LICENCES));
}
