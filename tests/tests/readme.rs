//! What README.md shows must work: its workflow is applied as it stands, its Python is Python, and its Rust compiles (as a
//! documentation test of this crate).

#![allow(clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use consort_core::workflow::Workflow;

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the root");
    fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The code blocks of a document in a language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let blocks = document.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)).map(str::to_owned).collect()
}

#[test]
fn every_workflow_that_is_shown_is_accepted() {
    let mut names = Vec::new();
    for name in ["README.md", "proto/WORKFLOW.md"] {
        for source in blocks(&document(name), "yaml\n") {
            // The reference shows parts of workflows, too.
            if source.contains("\nsteps:") {
                let workflow = Workflow::parse(&source);
                names.push(
                    workflow.unwrap_or_else(|mistakes| panic!("{name}: {mistakes:?}\n{source}")).name.to_string(),
                );
            }
        }
    }
    assert_eq!(names, ["hello", "nightly-audit", "audit"]);
}

#[test]
fn the_python_worker_compiles() {
    let check = "import sys; compile(sys.argv[1], 'README.md', 'exec')";
    let output = Command::new("python3")
        .args(["-c", check, &blocks(&document("README.md"), "python\n").remove(0)])
        .output()
        .expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the root");
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let text = fs::read_to_string(root.join(document)).expect("the document stands in the root");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let inside = !link.starts_with("http") && !link.starts_with('#');
            assert!(!inside || root.join(link).exists(), "{document} links to `{link}`, which is not there");
        }
    }
}
