//! Tables on S3, on a local server. `scripts/s3/server start` prints the value of `HUDI_SCD_S3_ENDPOINT`, and
//! `scripts/s3/server start ministack` prints the value of `HUDI_SCD_MINISTACK_ENDPOINT`.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{Place, Run, canonical};

/// A separate bucket for each test.
pub(crate) struct Bucket {
    pub(crate) place: Place,
    endpoint: String,
    name: String,
    region: &'static str,
}

impl Bucket {
    pub(crate) fn new(test: &str) -> Self {
        Self::on("HUDI_SCD_S3_ENDPOINT", "eu-north-1", test)
    }

    /// Creates a bucket on MiniStack, which creates all buckets in one region.
    pub(crate) fn on_ministack(test: &str) -> Self {
        Self::on("HUDI_SCD_MINISTACK_ENDPOINT", "us-east-1", test)
    }

    fn on(variable: &str, region: &'static str, test: &str) -> Self {
        let endpoint =
            std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: scripts/test sets it"));
        let name = format!("{test}-{}", std::process::id());
        let host = endpoint.strip_prefix("http://").unwrap();
        let mut server = TcpStream::connect(host).unwrap();
        write!(
            server,
            "PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut said = String::new();
        server.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        Self { place: Place::new(), endpoint, name, region }
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let words = words.replace("TABLE", &format!("s3://{}/lake/customer", self.name));
        let mut command = self.place.command(&words.split_whitespace().collect::<Vec<_>>());
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"] {
            command.env_remove(name);
        }
        command
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", self.region)
            .env("AWS_ENDPOINT_URL", &self.endpoint);
        command
    }

    pub(crate) fn ok(&self, words: &str) -> String {
        let run = Run::of(self.command(words).output().unwrap());
        assert_eq!(run.code, 0, "{words}: {}{}", run.out, run.err);
        run.out
    }

    pub(crate) fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{words} --json"))).unwrap()
    }

    fn start(&self, words: &str) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Returns the URL of a folder in the bucket.
    pub(crate) fn url(&self, folder: &str) -> String {
        format!("s3://{}/{folder}", self.name)
    }

    /// Sends a call to the server's Glue API and returns the response.
    pub(crate) fn glue(&self, call: &str, input: &Value) -> String {
        let host = self.endpoint.strip_prefix("http://").unwrap();
        let mut server = TcpStream::connect(host).unwrap();
        let body = input.to_string();
        // The server reads the service and the region in a signature, but does not verify it.
        write!(
            server,
            "POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: AWSGlue.{call}\r\n\
             Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=id/20260101/{}/glue/aws4_request, \
             SignedHeaders=host, Signature=x\r\n\r\n{body}",
            body.len(),
            self.region
        )
        .unwrap();
        let mut said = String::new();
        server.read_to_string(&mut said).unwrap();
        said
    }

    /// Returns the content of the table's lock file, or an empty text if the file does not exist.
    fn lock_file(&self) -> String {
        let host = self.endpoint.strip_prefix("http://").unwrap();
        let mut server = TcpStream::connect(host).unwrap();
        let path = format!("/{}/lake/customer/.hoodie/.locks/table_lock.json", self.name);
        // The server reads the name in a signature, but does not verify it.
        write!(
            server,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: AWS id:x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut said = String::new();
        server.read_to_string(&mut said).unwrap();
        if said.starts_with("HTTP/1.1 200") { said } else { String::new() }
    }

    fn create(&self) {
        self.place.write("columns.txt", "id bigint, v string, at bigint");
        self.ok("create TABLE --name t --record-key id --ordering-field at --schema columns.txt --retain-commits 2");
    }
}

#[test]
#[ignore = "needs an S3 server: scripts/test"]
fn a_table_on_s3_lives_as_one_on_disk_does() {
    let bucket = Bucket::new("life");
    bucket.create();
    let again = Run::of(
        bucket.command("create TABLE --name t --record-key id --schema columns.txt").output().unwrap(),
    );
    assert!(again.code == 1 && again.err.contains("already a table"), "{}", again.err);
    let mut instants = Vec::new();
    for at in 1..=4 {
        bucket.place.write("rows.csv", &format!("id,v,at\n1,v{at},{at}\n{},new,{at}\n", 10 + at));
        let report = bucket.json("upsert TABLE --input rows.csv");
        assert_eq!(report["rows"], 2, "{report}");
        instants.push(report["instant"].as_str().unwrap().to_owned());
    }
    let row = |id: i32, v: &str, at: i32| format!(r#"{{"at":{at},"id":{id},"v":"{v}"}}"#);
    let mut expected: Vec<String> = (1..=4).map(|at| row(10 + at, "new", at)).collect();
    expected.push(row(1, "v4", 4));
    expected.sort();
    assert_eq!(canonical(&bucket.ok("read TABLE")), expected);
    expected.retain(|line| !line.contains(r#""at":4"#));
    expected.push(row(1, "v3", 3));
    expected.sort();
    assert_eq!(canonical(&bucket.ok(&format!("read TABLE --as-of {}", instants[2]))), expected);
    let outside = bucket.command(&format!("read TABLE --as-of {}", instants[0])).output().unwrap();
    assert!(Run::of(outside).err.contains(&instants[2]), "the earliest instant is named");
    bucket.place.write("keys.csv", "id\n1\n");
    assert_eq!(bucket.json("delete TABLE --keys keys.csv")["deleted"], 1);
    let timeline = bucket.ok("timeline TABLE --json");
    let latest: Value =
        serde_json::from_str(timeline.lines().rfind(|line| line.contains(r#""commit""#)).unwrap()).unwrap();
    let undone = bucket.json(&format!("rollback TABLE --instant {}", latest["instant"].as_str().unwrap()));
    assert!(undone["files"].as_u64().unwrap() > 0);
    assert_eq!(bucket.ok("read TABLE").lines().count(), 5);
    bucket.ok("validate TABLE");
}

#[test]
#[ignore = "needs an S3 server: scripts/test"]
fn writers_of_a_table_on_s3_take_turns() {
    let bucket = Bucket::new("turns");
    bucket.create();
    for writer in 0..4 {
        bucket.place.write(
            &format!("{writer}.jsonl"),
            &format!("{{\"id\":{writer},\"at\":1}}\n{{\"id\":9,\"v\":\"{writer}\",\"at\":{writer}}}\n"),
        );
    }
    let writers: Vec<Child> =
        (0..4).map(|writer| bucket.start(&format!("upsert TABLE --input {writer}.jsonl --json"))).collect();
    let mut new = 0;
    for writer in writers {
        let run = Run::of(writer.wait_with_output().unwrap());
        assert_eq!(run.code, 0, "{}", run.err);
        let report: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(report["rolled_back"].as_array().unwrap().len(), 0, "no live writer was rolled back");
        new += report["inserted"].as_u64().unwrap();
    }
    assert_eq!(new, 5);
    let rows = canonical(&bucket.ok("read TABLE"));
    assert_eq!(rows.len(), 5);
    assert!(rows.contains(&r#"{"at":3,"id":9,"v":"3"}"#.to_owned()), "{rows:?}");
    bucket.ok("validate TABLE");
}

/// One column changes in a file of three parts. S3 copies the other columns.
#[test]
#[ignore = "needs an S3 server: scripts/test"]
fn unchanged_columns_are_copied_within_s3() {
    let bucket = Bucket::new("copied");
    bucket.place.write("columns.txt", "id bigint, v string, note string, at bigint");
    bucket.ok("create TABLE --name t --record-key id --ordering-field at --schema columns.txt");
    let mut random = fastrand::Rng::with_seed(1);
    let mut noise = || (0..6).map(|_| format!("{:032x}", random.u128(..))).collect::<String>();
    let rows: String = (0..100_000).map(|id| format!("{id},{},{id},1\n", noise())).collect();
    bucket.place.write("rows.csv", &format!("id,v,note,at\n{rows}"));
    let loaded = bucket.json("bulk-insert TABLE --input rows.csv");
    let row = rows.lines().nth(77_777).unwrap();
    let changed = format!("{},new,2", row.rsplitn(3, ',').last().unwrap());
    bucket.place.write("changed.csv", &format!("id,v,note,at\n{changed}\n"));
    let report = bucket.json("upsert TABLE --input changed.csv");
    let bytes = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((report["updated"].as_u64(), report["files"].as_u64()), (Some(1), Some(1)));
    assert_eq!(bytes("bytes_sent") + bytes("bytes_copied"), bytes("bytes"));
    assert!(bytes("bytes_copied") >= 5 * 1024 * 1024, "{report} after {loaded}");
    bucket.ok("validate TABLE");
    let read = bucket.ok("read TABLE");
    assert_eq!(read.lines().count(), 100_000);
    assert_eq!(read.lines().filter(|line| line.contains(r#""note":"new""#)).count(), 1);
}

#[test]
#[ignore = "needs an S3 server: scripts/test"]
fn a_profile_says_who_one_is() {
    let bucket = Bucket::new("profile");
    bucket.create();
    bucket.place.write("credentials", "[lake]\naws_access_key_id=id\naws_secret_access_key=secret\n");
    bucket
        .place
        .write("config", &format!("[profile lake]\nregion=eu-north-1\nendpoint_url={}\n", bucket.endpoint));
    let mut command = bucket.command("read TABLE");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"] {
        command.env_remove(name);
    }
    command
        .env("AWS_PROFILE", "lake")
        .env("AWS_SHARED_CREDENTIALS_FILE", bucket.place.path("credentials"))
        .env("AWS_CONFIG_FILE", bucket.place.path("config"));
    let run = Run::of(command.output().unwrap());
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let run = Run::of(command.env("AWS_PROFILE", "nobody").output().unwrap());
    assert!(run.code == 1 && run.err.contains("nobody"), "{}", run.err);
    // The keys of these profiles come from a program and from a role.
    bucket.place.write("keys.json", r#"{"Version":1,"AccessKeyId":"id","SecretAccessKey":"secret"}"#);
    let settings = format!("region=eu-north-1\nendpoint_url={}\n", bucket.endpoint);
    let keys = bucket.place.path("keys.json");
    let profiles = format!(
        "[profile printed]\ncredential_process=cat {}\n{settings}[profile role]\nsource_profile=lake\n\
         role_arn=arn:aws:iam::123456789012:role/lake\n{settings}[profile lake]\n{settings}",
        keys.display()
    );
    bucket.place.write("config", &profiles);
    for profile in ["printed", "role"] {
        let run = Run::of(command.env("AWS_PROFILE", profile).output().unwrap());
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""), "{profile}");
    }
}

#[test]
#[ignore = "needs an S3 server: scripts/test"]
fn a_bucket_that_is_not_there_is_named() {
    let bucket = Bucket::new("named");
    let words = ["read", "s3://no-such-bucket-anywhere/t"];
    let output = bucket.command("").args(words).output().unwrap();
    let run = Run::of(output);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(run.err.contains("no-such-bucket-anywhere"), "{}", run.err);
}

/// A signal releases the lease, so the next writer need not wait until it expires.
#[cfg(unix)]
#[rstest::rstest]
#[case("INT", 130)]
#[case("TERM", 143)]
#[ignore = "needs an S3 server: scripts/test"]
fn a_signal_releases_the_lock_on_s3(#[case] signal: &str, #[case] code: i32) {
    let bucket = Bucket::new(&format!("signal-{}", signal.to_lowercase()));
    bucket.create();
    let rows: String = (0..50_000).map(|id| format!("{id},v{id},1\n")).collect();
    bucket.place.write("rows.csv", &format!("id,v,at\n{rows}"));
    let mut writer = bucket.start("upsert TABLE --input rows.csv");
    while !bucket.lock_file().contains("\"expired\":false") {
        assert!(writer.try_wait().unwrap().is_none(), "the write ended before it was seen to hold the lock");
        std::thread::yield_now();
    }
    crate::signals::send(signal, &writer);
    let run = Run::of(writer.wait_with_output().unwrap());
    assert!([0, code].contains(&run.code), "{}: {}{}", run.code, run.out, run.err);
    assert!(bucket.lock_file().contains("\"expired\":true"), "{}: {}", run.code, bucket.lock_file());
    assert_eq!(bucket.json("upsert TABLE --input rows.csv")["rows"], 50_000);
}
