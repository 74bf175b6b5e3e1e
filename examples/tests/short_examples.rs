//! Checks that each short example prints the output in its module comment.

#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

#[test]
fn every_short_example_prints_the_output_in_its_head() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = std::env::current_exe().unwrap();
    let programs = tests.parent().unwrap().parent().unwrap().join("examples");
    let readme = std::fs::read_to_string(package.join("README.md")).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(package).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = std::fs::read_to_string(&path).unwrap();
        let head = source.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next());
        let expected = head.expect(name).replace("//! ", "");
        let output = Command::new(programs.join(name)).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{name}");
        assert!(readme.contains(&format!("{name}.rs")), "the README has no line for {name}");
        seen += 1;
    }
    assert!(seen >= 3);
}
