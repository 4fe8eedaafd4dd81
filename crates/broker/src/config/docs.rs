//! `docs/config.md`, made from the table.

use std::fmt::Write;

use super::broker_keys::BROKER_KEYS;
use super::key::{Key, Origin, Update};
use super::topic_keys::TOPIC_KEYS;

const HEAD: &str = "\
# Settings

Made from the table in `crates/broker/src/config`; a test compares the two
(`KLAMM_WRITE_DOCS=1 cargo test -p klamm-broker config_docs` writes this page).

A broker reads Kafka's `server.properties` (`klamm serve --config FILE`) and lays `--set key=value`
over it. Topics and running brokers are changed with `klamm config` or Kafka's own `kafka-configs`.
A key that Kafka knows and Klamm does not implement, and a key that nobody knows, are named once at
start and have no effect. A value that a key does not take stops the start.

";

/// The whole page.
pub fn config_page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("## Klamm's own\n\nKeys that Kafka does not have:\n\n");
    for key in BROKER_KEYS.iter().chain(TOPIC_KEYS) {
        let scope = if key.synonyms.is_empty() { "broker" } else { "topic" };
        if key.origin == Origin::Klamm {
            line(&mut page, format_args!("- `{}` ({scope})", key.name));
        }
    }
    page.push_str("\nKafka's keys with another default:\n\n");
    for key in BROKER_KEYS {
        if let Origin::Default(reason) = key.origin {
            line(&mut page, format_args!("- `{}`: {}. {reason}.", key.name, default(key)));
        }
    }
    page.push_str("\n## Topics\n\n");
    TOPIC_KEYS.iter().for_each(|key| entry(&mut page, key));
    page.push_str("## Brokers\n\n");
    BROKER_KEYS.iter().for_each(|key| entry(&mut page, key));
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn entry(page: &mut String, key: &Key) {
    line(page, format_args!("### `{}`\n\n{}\n", key.name, key.doc));
    line(page, format_args!("- takes: {}", key.takes()));
    line(page, format_args!("- default: {}", default(key)));
    if let [(first, _), rest @ ..] = key.synonyms {
        let mut names = format!("`{first}`");
        for (name, _) in rest {
            let _ = write!(names, ", then `{name}`");
        }
        line(page, format_args!("- where the topic does not say: {names}"));
    } else {
        let changes = match key.update {
            Update::ReadOnly => "no",
            Update::PerBroker => "yes, for one broker",
            Update::ClusterWide => "yes",
        };
        line(page, format_args!("- changes while running: {changes}"));
    }
    page.push('\n');
}

fn default(key: &Key) -> String {
    match key.default {
        None => "not set".to_owned(),
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}
