//! What README.md shows must work: its workflow is applied as it stands, its Python is Python, and its Rust compiles (as a
//! documentation test of this crate).

use std::fs;
use std::path::Path;
use std::process::Command;

use consort_core::workflow::Workflow;

fn readme() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the root");
    fs::read_to_string(root.join("README.md")).expect("README.md stands in the root")
}

/// The only code block in a language.
fn block(language: &str) -> String {
    let text = readme();
    let mut blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(language));
    let found = blocks.next().expect("the README has such a block").to_owned();
    assert!(blocks.next().is_none(), "the README has a second block in {language}; check it too");
    found
}

#[test]
fn the_workflow_is_accepted() {
    let workflow = Workflow::parse(&block("yaml\n")).expect("the README's workflow has no mistakes");
    assert_eq!(&*workflow.name, "hello");
}

#[test]
fn the_python_worker_compiles() {
    let check = "import sys; compile(sys.argv[1], 'README.md', 'exec')";
    let output =
        Command::new("python3").args(["-c", check, &block("python\n")]).output().expect("python3 is installed");
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
