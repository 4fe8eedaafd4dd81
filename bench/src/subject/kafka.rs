//! Apache Kafka: one KRaft node with its defaults and a heap of 1 GiB.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Setting, free_port, placed};
use crate::Result;
use crate::bed::Bed;

const HEAP: &str = "-Xmx1g";
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// Writes the settings and formats the folder, as a first start demands.
pub(super) fn format(bed: &Bed, dir: &Path, address: &str, settings: &[Setting]) -> Result<()> {
    let controller = format!("127.0.0.1:{}", free_port()?);
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=0\n\
         controller.quorum.bootstrap.servers={controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        dir.join("data").display()
    );
    for (_, key, value) in settings.iter().filter(|setting| setting.0 != "klamm") {
        let _ = writeln!(text, "{key}={value}");
    }
    let file = settings_file(dir);
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut tool = bed.tools.java(&bed.root, HEAP, "kafka.tools.StorageTool")?;
    tool.args(["format", "--standalone", "-t", CLUSTER_ID, "-c"]).arg(&file);
    let output = tool.stdin(Stdio::null()).output().map_err(|e| format!("java: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("Kafka's folder is not formatted: {}", String::from_utf8_lossy(&output.stderr)))
}

pub(super) fn command(bed: &Bed, dir: &Path) -> Result<Command> {
    let java = bed.tools.java(&bed.root, HEAP, "kafka.Kafka")?;
    let mut command = placed(bed, Path::new(java.get_program()));
    command.args(java.get_args()).arg(settings_file(dir));
    Ok(command)
}

fn settings_file(dir: &Path) -> PathBuf {
    dir.join("server.properties")
}
