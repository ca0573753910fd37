//! Holds the table of rooms in ARCHITECTURE.md against what cargo knows: which crate may know which, and under which
//! licences the rest comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

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
        &["tonic", "prost", "sqlx", "tokio", "futures", "rand", "tracing"],
        "the domain knows no wire, no database, no runtime, and rolls no dice",
    ),
    ("consort-engine", &["tonic", "prost", "sqlx", "hyper", "tower", "http"], "the engine speaks through ports"),
    ("consort-store", &["tonic", "prost", "hyper", "tower", "http"], "a store knows nothing of the wire"),
    ("consort-bus", &["tonic", "prost", "sqlx", "hyper", "tower"], "the bus carries facts, not messages of the wire"),
];

static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    // Only this platform's packages: those of others need not have been downloaded.
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs, for it compiled this test");
    let described = String::from_utf8(rustc.stdout).expect("rustc describes itself in UTF-8");
    let host = described.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc -vV names its host");
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host.to_owned()])
        .exec()
        .expect("cargo describes this workspace")
});

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the root").to_owned()
}

fn ours() -> Vec<&'static Package> {
    METADATA.workspace_packages()
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

/// Dependencies of a crate that are linked into it or run to build it.
fn linked(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development).map(|d| d.name.as_str())
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
        for other in linked(package).filter(|name| name.starts_with("consort")) {
            if !allowed.contains(other) {
                problems.push(format!("{} may not know {other}: ARCHITECTURE.md allows {allowed:?}", package.name));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn every_row_is_a_room() {
    let rooms: BTreeSet<&str> = ours().iter().map(|package| row_of(&package.name)).collect();
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
        let names: BTreeSet<&str> = linked(package).collect();
        let joins = names.contains("consort-store") && names.contains("consort-engine");
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
        for other in linked(package).filter(|name| ["consort-testkit", "consort-tests"].contains(name)) {
            problems.push(format!("{} links {other}: make it a dev-dependency", package.name));
        }
    }
    assert_none(&problems);
}

#[test]
fn no_room_knows_what_is_forbidden_to_it() {
    let mut problems = Vec::new();
    for (room, forbidden, why) in FORBIDDEN {
        let package = ours().into_iter().find(|p| p.name.as_str() == room).expect("FORBIDDEN names rooms that exist");
        for name in linked(package) {
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
        .iter()
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
    let used = METADATA.resolve.as_ref().expect("cargo metadata resolves").nodes.iter().map(|node| &METADATA[&node.id]);
    let mut problems = Vec::new();
    for package in used {
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
