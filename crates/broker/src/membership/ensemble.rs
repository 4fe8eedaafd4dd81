//! How the ensemble of `zookeeper.connect` is reached, from the broker's settings and files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use klamm_cluster::tree::zookeeper::{Credentials, Identity, Tls, ZooKeeperConfig};
use klamm_env::Env;
use klamm_env::files::{Files, OpenMode};
use klamm_env::threads::run_blocking;

use super::MembershipError;
use crate::config::{AuthScheme, BrokerConfig};

/// Longest file of certificates that is read.
const PEM_BYTES_MAX: u64 = 1 << 20;

const TRUSTSTORE: &str = "zookeeper.ssl.truststore.location";
const KEYSTORE: &str = "zookeeper.ssl.keystore.location";

/// # Errors
/// A file of TLS that cannot be used.
pub(super) async fn config(
    env: &Env,
    config: &BrokerConfig,
    connect: &str,
    broker_id: i32,
) -> Result<ZooKeeperConfig, MembershipError> {
    let ms = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let session_timeout_ms = config.zookeeper_session_timeout_ms;
    let connection_timeout_ms = config.zookeeper_connection_timeout_ms;
    Ok(ZooKeeperConfig {
        connect: connect.parse().expect("checked with the settings"),
        session_timeout: ms(session_timeout_ms),
        connection_timeout: ms(connection_timeout_ms.unwrap_or(session_timeout_ms)),
        in_flight_max: usize::try_from(config.zookeeper_max_in_flight_requests).unwrap_or(1),
        probe: format!("/brokers/probe/{broker_id}"),
        credentials: credentials(config),
        tls: tls(env, config).await?,
        owns_nodes: config.zookeeper_set_acl,
        readable_by_all: true,
    })
}

fn credentials(config: &BrokerConfig) -> Credentials {
    let user = config.zookeeper_auth_user.clone().unwrap_or_default();
    let password = config.zookeeper_auth_password.as_ref().map(|it| it.text().to_owned());
    let password = password.unwrap_or_default();
    match config.zookeeper_auth_scheme {
        None => Credentials::Anonymous,
        Some(AuthScheme::Digest) => Credentials::Digest { user, password },
        Some(AuthScheme::Sasl) => Credentials::Sasl { user, password },
    }
}

async fn tls(env: &Env, config: &BrokerConfig) -> Result<Option<Tls>, MembershipError> {
    if !config.zookeeper_ssl_client_enable {
        return Ok(None);
    }
    let truststore = config.zookeeper_ssl_truststore_location.clone();
    let truststore = truststore.expect("checked with the settings");
    let authorities = read_pem(env, TRUSTSTORE, truststore).await?;
    let identity = match config.zookeeper_ssl_keystore_location.clone() {
        None => None,
        Some(path) => {
            let text = read_pem(env, KEYSTORE, path.clone()).await?;
            check_key(&text).map_err(|problem| MembershipError::Pem {
                key: KEYSTORE,
                path,
                problem,
            })?;
            // Certificates and key stand in one file; each is looked for in it.
            Some(Identity { certificate: text.clone(), key: text })
        }
    };
    Ok(Some(Tls { authorities, identity }))
}

fn check_key(text: &str) -> Result<(), &'static str> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err("has an encrypted private key, which is not read");
    }
    if text.contains("PRIVATE KEY-----") { Ok(()) } else { Err("has no private key") }
}

async fn read_pem(env: &Env, key: &'static str, path: String) -> Result<String, MembershipError> {
    let (files, file) = (Arc::clone(&env.files), PathBuf::from(&path));
    let bytes = run_blocking(&*env.threads, move || read(&*files, &file)).await;
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return Err(MembershipError::Io { path, error }),
    };
    let refused = |path, problem| MembershipError::Pem { key, path, problem };
    match String::from_utf8(bytes) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(text),
        Ok(_) => Err(refused(path, "holds no certificate in PEM")),
        Err(_) => Err(refused(
            path,
            "is not PEM, the only form that is read; keytool and openssl convert",
        )),
    }
}

fn read(files: &dyn Files, path: &std::path::Path) -> io::Result<Vec<u8>> {
    let file = files.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > PEM_BYTES_MAX {
        return Err(io::Error::other(format!("{len} bytes are too many for certificates")));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    async fn outcome(content: &[u8]) -> Result<String, String> {
        let (env, dir) = (Env::real().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("store");
        let file = env.files.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(content, 0).unwrap();
        let path = path.display().to_string();
        read_pem(&env, TRUSTSTORE, path).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_pem_is_read() {
        assert_eq!(outcome(CERTIFICATE.as_bytes()).await.as_deref(), Ok(CERTIFICATE));
        for (content, part) in [
            (b"\xfe\xed\xfe\xed\0\0\0\x02".as_slice(), "keytool"),
            (b"nothing", "no certificate"),
            (b"", "no certificate"),
        ] {
            let refused = outcome(content).await.unwrap_err();
            assert!(refused.contains(TRUSTSTORE) && refused.contains(part), "{refused}");
        }
        let missing = read_pem(&Env::real().unwrap(), TRUSTSTORE, "/nowhere/x".to_owned()).await;
        assert!(missing.unwrap_err().to_string().contains("/nowhere/x"));
    }

    #[test]
    fn a_key_must_be_there_and_not_encrypted() {
        check_key("-----BEGIN PRIVATE KEY-----").unwrap();
        check_key("-----BEGIN RSA PRIVATE KEY-----").unwrap();
        assert!(check_key("-----BEGIN ENCRYPTED PRIVATE KEY-----").unwrap_err().contains("encry"));
        assert!(check_key(CERTIFICATE).unwrap_err().contains("no private key"));
    }
}
