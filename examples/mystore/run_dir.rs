//! The directory of a run: the identity of the run, and the records of its cycles.
//!
//! | entry | content |
//! |---|---|
//! | `lock` | locked while a process works in the directory |
//! | `manifest.json` | identity of the run; written first |
//! | `warehouse/` | data of the embedded PostgreSQL server |
//! | `journal.jsonl` | intents, ids and outcomes of all statements |
//! | `lake/` | the Hudi tables, unless they are on S3 |
//! | `cycles.jsonl` | one line per finished cycle, from which the report is made |
//! | `expected/` | expected contents of the Hudi tables, one JSON object per row, for other programs |
//! | `finished` | empty; written after the proof has passed |
//! | `report.html` | the report |

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::options::Options;

/// Identity of the run in a directory. Runs that differ in any field cannot continue each other's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Random id. All names in the service and in the database contain it, so that a run cannot find another
    /// run's statements.
    pub(crate) run_id: String,
    pub(crate) scale: f64,
    pub(crate) cycles: u32,
    pub(crate) seed: u64,
    /// `embedded`, or the server and the database without user and password.
    pub(crate) warehouse: String,
    /// Folder of the Hudi tables on S3; `None` for the directory of the run.
    #[serde(default)]
    pub(crate) s3: Option<String>,
    /// Endpoint of the catalog.
    #[serde(default)]
    pub(crate) glue: Option<String>,
}

impl Manifest {
    /// Creates a manifest with a new id for these options.
    pub(crate) fn fresh(options: &Options) -> Self {
        #[expect(clippy::disallowed_methods, reason = "every run needs a different id")]
        let id = fastrand::Rng::new().u32(..);
        Self {
            run_id: format!("mystore-{id:08x}"),
            scale: options.scale,
            cycles: options.cycles,
            seed: options.seed,
            warehouse: options.postgres.as_deref().map_or_else(|| "embedded".to_owned(), without_secrets),
            s3: options.s3.as_ref().map(ToString::to_string),
            glue: options.glue_endpoint.clone(),
        }
    }

    fn is_same_run(&self, other: &Self) -> bool {
        Self { run_id: other.run_id.clone(), ..self.clone() } == *other
    }

    /// Returns the id of the pipeline run of a cycle.
    pub(crate) fn cycle_run(&self, cycle: u32) -> String {
        format!("{}-cycle-{cycle:02}", self.run_id)
    }

    /// Returns cargo's options for the program: S3 and Glue need a feature.
    pub(crate) fn program(&self) -> &'static str {
        match self.s3 {
            Some(_) => "-p examples --features aws --example mystore",
            None => "--example mystore",
        }
    }

    /// Returns the options with which the run was started.
    pub(crate) fn options(&self) -> String {
        let named = |name: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!(" {name} {value}"))
        };
        let (s3, glue) = (named("--s3", &self.s3), named("--glue-endpoint", &self.glue));
        let postgres = if self.warehouse == "embedded" {
            String::new()
        } else {
            format!(" --postgres … ({})", self.warehouse)
        };
        format!("--scale {} --cycles {} --seed {}{postgres}{s3}{glue}", self.scale, self.cycles, self.seed)
    }
}

fn without_secrets(url: &str) -> String {
    let Ok(config) = url.parse::<tokio_postgres::Config>() else { return "a server".to_owned() };
    let hosts: Vec<_> = config
        .get_hosts()
        .iter()
        .zip(config.get_ports().iter().chain(std::iter::repeat(&5432)))
        .map(|(host, port)| match host {
            tokio_postgres::config::Host::Tcp(host) => format!("{host}:{port}"),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().unwrap_or("postgres"))
}

/// A directory as it was found, and the run to execute in it.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    pub(crate) manifest: Manifest,
    /// `true` if an earlier process began this run.
    pub(crate) resumed: bool,
    replace: bool,
    /// Lock that is held until the process ends, even if it crashes.
    lock: Option<File>,
}

const MANIFEST: &str = "manifest.json";
/// Name of the manifest of a run that is being removed.
const MAKES_WAY: &str = "manifest.json.old";
/// Name of a manifest that is being written.
const BEGINS: &str = "manifest.json.new";

impl RunDir {
    /// Inspects the directory of the run without changing anything.
    ///
    /// # Errors
    /// Fails if it contains another run's data or other files, or if it is not a directory.
    pub(crate) fn look(options: &Options) -> Result<Self> {
        let (path, makes_way) = options.directory();
        let wanted = Manifest::fresh(options);
        let fresh =
            |manifest, replace| Self { path: path.clone(), manifest, resumed: false, replace, lock: None };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(fresh(wanted, false)),
            Err(error) => {
                return Err(error).with_context(|| format!("reading the directory {}", path.display()));
            }
        };
        let Some(found) = read_manifest(&path, MANIFEST)? else {
            let names: Vec<_> =
                entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
            if names.iter().all(|name| name == "lock" || name == BEGINS) {
                return Ok(fresh(wanted, false));
            }
            if read_manifest(&path, MAKES_WAY).is_ok_and(|removed| removed.is_some()) {
                return Ok(fresh(wanted, true));
            }
            bail!("{} contains files that are not a run of MyStore; use another --dir", path.display());
        };
        if makes_way && path.join("finished").exists() {
            return Ok(fresh(wanted, true));
        }
        if !found.is_same_run(&wanted) {
            bail!(
                "{} contains another run's data, which was started with {}; use the same options to continue it, use another --dir, or remove the directory",
                path.display(),
                found.options()
            );
        }
        Ok(Self { path, manifest: found, resumed: true, replace: false, lock: None })
    }

    /// Claims the directory for this run and this process.
    ///
    /// # Errors
    /// Fails if another process works in the directory or has done so since it was inspected, or if it is not
    /// writable.
    pub(crate) fn claim(&mut self) -> Result<()> {
        let unwritable = || format!("{} is not writable; use another --dir", self.path.display());
        fs::create_dir_all(&self.path).with_context(unwritable)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(self.file("lock"));
        let lock = lock.with_context(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another process is running in {}; wait for it to end, or use another --dir",
                    self.path.display()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(unwritable),
        }
        // Another process may have changed the directory between the inspection and the lock.
        let found = read_manifest(&self.path, MANIFEST)?;
        let as_looked_at = match &found {
            Some(found) if self.resumed => *found == self.manifest,
            Some(_) => self.replace && self.file("finished").exists(),
            None => !self.resumed,
        };
        if !as_looked_at {
            bail!("another process has just run in {}; start again", self.path.display());
        }
        self.prepare(found.is_some()).with_context(unwritable)?;
        self.lock = Some(lock);
        Ok(())
    }

    fn prepare(&self, occupied: bool) -> Result<()> {
        if self.resumed {
            File::create(self.file(".writable"))?;
            return Ok(fs::remove_file(self.file(".writable"))?);
        }
        if self.replace {
            // The renamed manifest marks an interrupted removal, so that the next process can continue it.
            if occupied {
                fs::rename(self.file(MANIFEST), self.file(MAKES_WAY))?;
            }
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_name() == "lock" || entry.file_name() == MAKES_WAY {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            remove_if_there(&self.file(MAKES_WAY))?;
        }
        remove_if_there(&self.file(BEGINS))?;
        let mut begins = File::create_new(self.file(BEGINS))?;
        begins.write_all(&serde_json::to_vec_pretty(&self.manifest)?)?;
        begins.sync_all()?;
        Ok(fs::rename(self.file(BEGINS), self.file(MANIFEST))?)
    }

    /// Returns the path of an entry of the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the records of the finished cycles, in order.
    pub(crate) fn cycles<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let path = self.file("cycles.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        // Text after the last line break is left over from a write that a crash interrupted, so that cycle
        // does not count as finished.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.len() + 1 < text.len() {
            fs::write(&path, format!("{whole}{}", if whole.is_empty() { "" } else { "\n" }))?;
        }
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("reading {}", path.display())))
            .collect()
    }

    /// Appends the record of a finished cycle durably.
    pub(crate) fn add_cycle(&self, record: &impl Serialize) -> Result<()> {
        let path = self.file("cycles.jsonl");
        let written = || -> Result<()> {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(&line)?;
            Ok(file.sync_data()?)
        };
        written().with_context(|| format!("writing {}", path.display()))
    }

    /// Removes the mark of an earlier proof, because the run is about to be proved again.
    pub(crate) fn not_finished(&self) -> Result<()> {
        remove_if_there(&self.file("finished")).context("removing the mark of a finished run")
    }

    /// Marks the run as complete and proved.
    pub(crate) fn finish(&self) -> Result<()> {
        fs::write(self.file("finished"), "").context("marking the run as finished")
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn read_manifest(dir: &Path, name: &str) -> Result<Option<Manifest>> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(text) => {
            serde_json::from_slice(&text).map(Some).with_context(|| format!("reading {}", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn options(dir: &Path, seed: &str) -> Options {
        Options::parse_from(["mystore", "--dir", &dir.display().to_string(), "--seed", seed])
    }

    #[test]
    fn a_run_resumes_only_in_its_own_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("a/b");
        let mut first = RunDir::look(&options(&dir, "1")).unwrap();
        assert!(!first.resumed && !dir.exists(), "inspecting changes nothing");
        first.claim().unwrap();
        let again = RunDir::look(&options(&dir, "1")).unwrap();
        assert!(again.resumed);
        assert_eq!(again.manifest, first.manifest);
        let error = RunDir::look(&options(&dir, "2")).unwrap_err().to_string();
        assert!(error.contains("another run's data") && error.contains("--seed 1"), "{error}");
    }

    #[test]
    fn a_directory_admits_one_process_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let options = options(temporary.path(), "1");
        let [mut first, mut late] = [RunDir::look(&options).unwrap(), RunDir::look(&options).unwrap()];
        first.claim().unwrap();
        let mut second = RunDir::look(&options).unwrap();
        for other in [&mut second, &mut late] {
            let error = other.claim().unwrap_err().to_string();
            assert!(error.contains("another process is running in"), "{error}");
        }
        drop(first);
        let error = late.claim().unwrap_err().to_string();
        assert!(error.contains("has just run in"), "a manifest was written after the inspection: {error}");
        drop(late);
        second.claim().unwrap();
    }

    #[test]
    fn leftovers_of_an_interrupted_start_or_removal_are_replaced() {
        let temporary = tempfile::tempdir().unwrap();
        let path = |name: &str| temporary.path().join(name);
        let begin = || {
            let mut dir = RunDir::look(&options(temporary.path(), "1")).unwrap();
            assert!(!dir.resumed);
            dir.claim().unwrap();
            let mut names: Vec<_> =
                fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["lock", MANIFEST]);
        };
        fs::write(path(BEGINS), "{").unwrap();
        begin();
        fs::rename(path(MANIFEST), path(MAKES_WAY)).unwrap();
        fs::create_dir_all(path("warehouse/base")).unwrap();
        fs::write(path("finished"), "").unwrap();
        begin();
    }

    #[test]
    fn a_directory_named_similarly_to_a_removed_run_is_not_changed() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join(MAKES_WAY), "{}").unwrap();
        assert!(RunDir::look(&options(temporary.path(), "1")).is_err());
    }

    #[test]
    fn a_foreign_directory_is_not_changed() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("thesis.txt"), "years").unwrap();
        let error = RunDir::look(&options(temporary.path(), "1")).unwrap_err().to_string();
        assert!(error.contains("not a run of MyStore"), "{error}");
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_not_a_cycle() {
        let temporary = tempfile::tempdir().unwrap();
        let mut dir = RunDir::look(&options(temporary.path(), "1")).unwrap();
        dir.claim().unwrap();
        assert_eq!(dir.cycles::<u32>().unwrap(), [0; 0]);
        dir.add_cycle(&7).unwrap();
        fs::OpenOptions::new().append(true).open(dir.file("cycles.jsonl")).unwrap().write_all(b"8").unwrap();
        assert_eq!(dir.cycles::<u32>().unwrap(), [7]);
        dir.add_cycle(&9).unwrap();
        assert_eq!(dir.cycles::<u32>().unwrap(), [7, 9]);
    }

    #[test]
    fn a_recorded_url_contains_no_secret() {
        let kept = without_secrets("postgresql://bob:hunter2@db.example.com:6000/shop");
        assert_eq!(kept, "db.example.com:6000/shop");
    }
}
