//! Which clients there are: who produces how, and who reads in which group.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use klamm_history::Acks;

use crate::client::Client;
use crate::recording::{Recording, Role, Source};
use crate::stage::{PARTITIONS, TOPIC};

/// A client that is installed, with the command that starts it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) command: Vec<String>,
}

/// Producers that each client has, by the name of how they send.
const PRODUCERS: &[(&str, &[&str])] = &[
    ("librdkafka", &["idempotent", "plain", "leader"]),
    ("java", &["idempotent"]),
    ("franz-go", &["idempotent"]),
];
/// Members of each client's group.
const MEMBERS: &[(&str, usize)] = &[("librdkafka", 2), ("java", 1), ("franz-go", 1)];

/// The command of Java with the jars of Kafka's client and tools, where they are.
pub(crate) fn java() -> Option<Vec<String>> {
    let libs = std::env::var("KLAMM_JAVA_LIBS").ok()?;
    let log = here().join("../foreign/java/log4j2.properties");
    let words = ["java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"];
    let own = [format!("{libs}/*"), format!("-Dlog4j2.configurationFile={}", log.display())];
    Some(words.map(str::to_owned).into_iter().chain(own).collect())
}

/// The clients that are installed: `run` names their places.
pub(crate) fn programs() -> Vec<Program> {
    let clients = here().join("clients");
    let script = |name: &str| clients.join(name).display().to_string();
    let python = std::env::var("KLAMM_PYTHON").ok();
    let go = std::env::var("KLAMM_FRANZ_GO").ok();
    let commands = [
        ("librdkafka", python.map(|python| vec![python, script("librdkafka.py")])),
        ("java", java().map(|java| [java, vec![script("Load.java")]].concat())),
        ("franz-go", go.map(|go| vec![go])),
    ];
    let found = commands.into_iter();
    found.filter_map(|(name, command)| Some(Program { name, command: command? })).collect()
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Starts the producers of these clients.
pub(crate) fn produce(
    programs: &[Program],
    bootstrap: &str,
    recording: &Rc<RefCell<Recording>>,
    dir: &Path,
) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for program in programs {
        let kinds =
            PRODUCERS.iter().find(|(name, _)| *name == program.name).map_or(&[][..], |p| p.1);
        for kind in kinds {
            // Ids are given once in a history.
            let first_id = (u64::try_from(clients.len()).expect("few") + 1) << 40;
            let mut command = program.command.clone();
            let words = ["produce", bootstrap, TOPIC].map(str::to_owned);
            command.extend(words);
            command.extend([PARTITIONS.to_string(), first_id.to_string(), (*kind).to_owned()]);
            let acks = if *kind == "leader" { Acks::Leader } else { Acks::All };
            let role = Role::Produces { idempotent: *kind == "idempotent", acks };
            let source = Source { name: format!("{}-{kind}", program.name), role };
            clients.push(Client::start(&command, source, recording, dir)?);
        }
    }
    Ok(clients)
}

/// Starts the groups of these clients.
pub(crate) fn consume(
    programs: &[Program],
    bootstrap: &str,
    recording: &Rc<RefCell<Recording>>,
    dir: &Path,
) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for program in programs {
        let members = MEMBERS.iter().find(|(name, _)| *name == program.name).map_or(0, |m| m.1);
        for member in 1..=members {
            let mut command = program.command.clone();
            command.extend(["consume", bootstrap, TOPIC, program.name].map(str::to_owned));
            let role = Role::Consumes { group: program.name.to_owned() };
            let source = Source { name: format!("{}-member-{member}", program.name), role };
            clients.push(Client::start(&command, source, recording, dir)?);
        }
    }
    Ok(clients)
}
