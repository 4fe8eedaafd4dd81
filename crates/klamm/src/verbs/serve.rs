//! `klamm serve`: a broker until Ctrl-C.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use klamm_broker::Broker;
use klamm_broker::config::load;
use klamm_env::Env;
use klamm_env::files::OpenMode;
use tracing::warn;

use crate::failure::{Failure, Outcome};
use crate::signal::Stop;

/// Longest settings file that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Runs a broker until Ctrl-C or SIGTERM.
///
/// Without any option it listens on 127.0.0.1:9092 and keeps its data in ./klamm-data. One line on
/// standard output says when it is ready and where; logs go to standard error (KLAMM_LOG=debug for
/// more of them). A second Ctrl-C stops it at once.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// A file of settings, in the form of Kafka's server.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the data is kept [default: ./klamm-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where clients connect; port 0 picks a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// A setting, over what the file says; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("not KEY=VALUE".to_owned()),
    }
}

pub(crate) async fn run(env: &Env, verb: Serve) -> Outcome {
    let mut stop = Stop::new()?;
    let file = match &verb.config {
        Some(path) => Some((path.display().to_string(), read(env, path)?)),
        None => None,
    };
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let loaded =
        load(file, &verb.settings()).map_err(|error| Failure::Refused(error.to_string()))?;
    for report in &loaded.reports {
        warn!("{report}");
    }
    let broker = Broker::start(env.clone(), loaded.config);
    let broker = broker.await.map_err(|error| Failure::Refused(error.to_string()))?;
    let ready = format!("klamm {} ready on {}\n", env!("CARGO_PKG_VERSION"), broker.address());
    io::stdout().write_all(ready.as_bytes())?;
    io::stdout().flush()?;
    tokio::select! {
        biased;
        () = stop.asked() => {}
        reason = broker.all_disks_lost() => return Err(Failure::Refused(reason)),
        reason = broker.replaced() => return Err(Failure::Refused(reason)),
    }
    tokio::select! {
        () = broker.stop() => Ok(()),
        () = stop.asked() => Err(Failure::Refused("stopped at once".to_owned())),
    }
}

impl Serve {
    /// What the options say, as settings over the file's.
    fn settings(&self) -> Vec<(String, String)> {
        let mut settings = self.set.clone();
        if let Some(dir) = &self.data_dir {
            settings.push(("log.dirs".to_owned(), dir.clone()));
        }
        if let Some(listen) = &self.listen {
            settings.push(("listeners".to_owned(), format!("PLAINTEXT://{listen}")));
        }
        settings
    }
}

fn read(env: &Env, path: &std::path::Path) -> Result<String, Failure> {
    let refused = |reason: String| Failure::Refused(format!("{}: {reason}", path.display()));
    let bytes = || {
        let file = env.files.open(path, OpenMode::Read)?;
        let len = file.len()?;
        if len > CONFIG_BYTES_MAX {
            return Err(io::Error::other(format!("{len} bytes are too long for settings")));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = bytes().map_err(|error| refused(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| refused("not UTF-8".to_owned()))
}
