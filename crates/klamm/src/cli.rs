//! The command line: verbs and their options.

use clap::{Args, Parser, Subcommand};
use klamm_client::{ClientConfig, Cluster};
use klamm_env::Env;

use crate::failure::Failure;
use crate::verbs::{bench, consume, group, log, produce, serve, topic};

/// An event streaming broker that speaks Kafka's protocol.
#[derive(Debug, Parser)]
#[command(name = "klamm", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a broker
    Serve(serve::Serve),
    /// Create, list, describe and delete topics
    #[command(subcommand)]
    Topic(topic::Topic),
    /// Publish records: one for each line of standard input
    Produce(produce::Produce),
    /// Read records, and wait for more
    Consume(consume::Consume),
    /// List, describe and rewind consumer groups
    #[command(subcommand)]
    Group(group::Group),
    /// Look into a partition's files
    #[command(subcommand)]
    Log(log::Log),
    /// Measure a cluster: publishing, reading, and the time between the two
    #[command(subcommand)]
    Bench(bench::Bench),
}

impl Verb {
    /// The least severe log lines that are shown unless the environment says otherwise.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Verb::Serve(_) => "info",
            _ => "warn",
        }
    }
}

/// What every verb takes that talks to a cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connect {
    /// Brokers to ask first
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092",
        value_parser = address
    )]
    pub(crate) bootstrap: Vec<String>,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("not HOST:PORT".to_owned()),
    }
}

impl Connect {
    /// The cluster, without topics coming into being by being asked for.
    pub(crate) async fn cluster(&self, env: &Env) -> Result<Cluster, Failure> {
        self.cluster_that_creates(env, false).await
    }

    /// The cluster; `creates` lets unknown topics be created, where the broker allows that.
    pub(crate) async fn cluster_that_creates(
        &self,
        env: &Env,
        creates: bool,
    ) -> Result<Cluster, Failure> {
        let config = ClientConfig {
            client_id: "klamm-cli".to_owned(),
            allow_auto_topic_creation: creates,
            ..ClientConfig::new(self.bootstrap.clone())
        };
        Ok(Cluster::connect(env.clone(), config).await?)
    }
}

#[cfg(test)]
mod tests;
