//! Builds the functions that run on AWS Lambda.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// A function that `scripts/deploy/zip` has built.
#[derive(Clone, Debug)]
pub struct Zipped {
    /// The name of its set of features.
    pub set: String,
    /// Bytes of the archive.
    pub bytes: String,
    /// Bytes of the executable.
    pub unzipped: String,
    /// The target triple.
    pub triple: String,
    /// The executable.
    pub executable: PathBuf,
}

/// Returns the folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program in the folder of the workspace, and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.current_dir(workspace()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Builds our functions for deployment, one for each set of features. Fails if one exceeds its limit.
pub fn zipped(sets: &[&str]) -> Result<Vec<Zipped>> {
    let lines = output(Command::new(workspace().join("scripts/deploy/zip")).args(sets))?;
    let parsed = lines.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ([set, bytes, ..], [.., unzipped, _, triple, zip]) = (&words[..], &words[..]) else {
            bail!("scripts/deploy/zip printed {line}");
        };
        Ok(Zipped {
            set: set.trim_end_matches(':').to_owned(),
            bytes: (*bytes).to_owned(),
            unzipped: (*unzipped).to_owned(),
            triple: triple.trim_end_matches(',').to_owned(),
            executable: Path::new(zip).with_extension("").join("bootstrap"),
        })
    });
    parsed.collect()
}

/// Builds a package's executable with the profile `deploy`.
pub fn deployed(package: &str, executable: &str) -> Result<PathBuf> {
    output(cargo(package, executable).args(["--profile", "deploy"]))?;
    let folder = profiles()?.join("deploy");
    Ok(folder.join(executable))
}

/// Returns an executable of the dev profile with all features. The tests have usually built it.
pub fn for_tests(package: &str, executable: &str) -> Result<PathBuf> {
    let path = profiles()?.join("debug").join(executable);
    if !path.exists() {
        output(cargo(package, executable).arg("--all-features"))?;
    }
    Ok(path)
}

fn cargo(package: &str, executable: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--quiet", "-p", package, "--bin", executable]);
    cargo
}

/// Returns the folder that has a folder for each profile.
fn profiles() -> Result<PathBuf> {
    let this = env::current_exe()?;
    Ok(this.ancestors().nth(2).context("the target directory")?.to_owned())
}
