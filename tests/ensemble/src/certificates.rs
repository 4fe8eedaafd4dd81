//! An authority, a server's certificate and a client's, made by openssl for one test.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// PEM texts, and where the server listens with TLS.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Who vouches for the others.
    pub authority: String,
    /// The client's certificate.
    pub client_certificate: String,
    /// The client's key.
    pub client_key: String,
    /// `host:port`.
    pub address: String,
    dir: PathBuf,
}

impl Certificates {
    pub(crate) fn make(dir: &Path) -> io::Result<Certificates> {
        let path = |name: &str| dir.join(name).display().to_string();
        let (authority, authority_key) = (path("authority.pem"), path("authority.key"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-keyout",
            &authority_key,
            "-out",
            &authority,
        ])?;
        for name in ["server", "client"] {
            let (key, asked, signed) = (
                path(&format!("{name}.key")),
                path(&format!("{name}.csr")),
                path(&format!("{name}.crt")),
            );
            let extensions = path(&format!("{name}.ext"));
            std::fs::write(
                &extensions,
                "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
            )?;
            let subject = format!("/CN={name}");
            openssl(&[
                "req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out",
                &asked,
            ])?;
            openssl(&[
                "x509",
                "-req",
                "-in",
                &asked,
                "-CA",
                &authority,
                "-CAkey",
                &authority_key,
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &extensions,
                "-out",
                &signed,
            ])?;
        }
        let read = |name: &str| std::fs::read_to_string(dir.join(name));
        // The server takes key and certificate from one file.
        std::fs::write(dir.join("server.pem"), read("server.key")? + &read("server.crt")?)?;
        Ok(Certificates {
            authority: read("authority.pem")?,
            client_certificate: read("client.crt")?,
            client_key: read("client.key")?,
            address: String::new(),
            dir: dir.to_owned(),
        })
    }

    /// What a server's configuration says of TLS.
    pub(crate) fn server_lines(&self, port: u16) -> Vec<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        vec![
            format!("secureClientPort={port}"),
            "secureClientPortAddress=127.0.0.1".to_owned(),
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
            format!("ssl.keyStore.location={}", path("server.pem")),
            format!("ssl.trustStore.location={}", path("authority.pem")),
            "ssl.clientAuth=want".to_owned(),
        ]
    }

    pub(crate) fn at(self, port: u16) -> Certificates {
        Certificates { address: format!("127.0.0.1:{port}"), ..self }
    }
}

fn openssl(arguments: &[&str]) -> io::Result<()> {
    let made = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    Err(io::Error::other(format!("openssl {}: {said}", arguments[0])))
}
