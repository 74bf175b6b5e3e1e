//! Writes reports to files.

use std::{fs, path::PathBuf};

use redshift_orchestrator::{Error, ErrorKind, Report, Result};

/// File to write a report to. The extension determines the format.
#[derive(Clone, Debug)]
pub(crate) struct ReportFile(PathBuf);

impl std::str::FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json" | "txt" | "svg" | "html") => Ok(Self(path)),
            _ => Err("the extension must be .json, .txt, .svg or .html".to_owned()),
        }
    }
}

impl ReportFile {
    /// Checks the directory before the run begins.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.parent() {
            Some(directory) if !directory.as_os_str().is_empty() && !directory.is_dir() => Err(Error::new(
                ErrorKind::Invalid,
                "the directory for the report does not exist; create it first",
            )
            .with_context("file", self.0.display())),
            _ => Ok(()),
        }
    }

    pub(crate) fn write(&self, report: &Report) -> Result<()> {
        let text = match self.0.extension().and_then(|extension| extension.to_str()) {
            Some("json") => format!("{:#}\n", report.to_json()),
            Some("svg") => report.to_svg(),
            Some("html") => html(report),
            _ => report.to_string(),
        };
        fs::write(&self.0, text).map_err(|error| {
            Error::new(ErrorKind::Other, "the report cannot be written")
                .with_context("file", self.0.display())
                .with_source(error)
        })
    }
}

fn html(report: &Report) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{}</title>\n<body style=\"max-width:70rem;margin:1rem auto\">\n\
         {}\n<pre style=\"overflow-x:auto\">{}</pre>\n</body></html>\n",
        escape(&format!("{}, run {}", report.pipeline, report.run)),
        report.to_svg(),
        escape(&report.to_string())
    )
}
