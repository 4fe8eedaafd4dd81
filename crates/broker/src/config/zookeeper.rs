//! Who the broker is to the ensemble, and what of Kafka's settings for that cannot be honoured: then
//! the broker does not start. A setting that only seems to protect is worse than none.

use klamm_cluster::tree::zookeeper::{HAS_SASL, HAS_TLS};

use super::broker_keys::BrokerValues;
use super::key::AuthScheme;

type Problem = (&'static str, String);

/// # Errors
/// The key and a phrase.
pub(super) fn check(values: &BrokerValues) -> Result<(), Problem> {
    needs_an_ensemble(values)?;
    check_credentials(values)?;
    if values.zookeeper_ssl_client_enable {
        check_tls(values)?;
    }
    let has_certificate =
        values.zookeeper_ssl_client_enable && values.zookeeper_ssl_keystore_location.is_some();
    if values.zookeeper_set_acl && values.zookeeper_auth_scheme.is_none() && !has_certificate {
        return refused(
            "zookeeper.set.acl",
            "is true, and the broker is nobody to the ensemble: it needs zookeeper.auth.scheme with \
             a name and a password, or a certificate (zookeeper.ssl.keystore.location)",
        );
    }
    Ok(())
}

fn needs_an_ensemble(values: &BrokerValues) -> Result<(), Problem> {
    let asked = [
        ("zookeeper.set.acl", values.zookeeper_set_acl),
        ("zookeeper.ssl.client.enable", values.zookeeper_ssl_client_enable),
        ("zookeeper.auth.scheme", values.zookeeper_auth_scheme.is_some()),
    ];
    match asked.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((key, _)) if values.zookeeper_connect.is_none() => {
            refused(key, "is set without zookeeper.connect")
        }
        _ => Ok(()),
    }
}

fn check_credentials(values: &BrokerValues) -> Result<(), Problem> {
    let user = values.zookeeper_auth_user.as_deref();
    let password = values.zookeeper_auth_password.as_ref();
    let Some(scheme) = values.zookeeper_auth_scheme else {
        return match (user, password) {
            (None, None) => Ok(()),
            (Some(_), _) => refused("zookeeper.auth.user", "is set without zookeeper.auth.scheme"),
            _ => refused("zookeeper.auth.password", "is set without zookeeper.auth.scheme"),
        };
    };
    if user.is_none_or(str::is_empty) {
        return refused("zookeeper.auth.user", "is not set, and zookeeper.auth.scheme is");
    }
    if password.is_none() {
        return refused("zookeeper.auth.password", "is not set, and zookeeper.auth.scheme is");
    }
    match scheme {
        AuthScheme::Digest if user.is_some_and(|user| user.contains(':')) => refused(
            "zookeeper.auth.user",
            "has a colon, which ends a name in ZooKeeper's scheme digest",
        ),
        AuthScheme::Sasl if !HAS_SASL => refused(
            "zookeeper.auth.scheme",
            "is sasl, and this program was built without it (feature zookeeper-sasl)",
        ),
        AuthScheme::Digest | AuthScheme::Sasl => Ok(()),
    }
}

fn check_tls(values: &BrokerValues) -> Result<(), Problem> {
    if !HAS_TLS {
        return refused(
            "zookeeper.ssl.client.enable",
            "is true, and this program was built without TLS to ZooKeeper (feature zookeeper-tls)",
        );
    }
    let algorithm = &values.zookeeper_ssl_endpoint_identification_algorithm;
    if !algorithm.eq_ignore_ascii_case("https") {
        return refused(
            "zookeeper.ssl.endpoint.identification.algorithm",
            "is not HTTPS: the servers' names are always verified",
        );
    }
    if values.zookeeper_ssl_truststore_location.is_none() {
        return refused(
            "zookeeper.ssl.truststore.location",
            "is not set: the system's own authorities are not asked",
        );
    }
    for (key, kind) in [
        ("zookeeper.ssl.truststore.type", &values.zookeeper_ssl_truststore_type),
        ("zookeeper.ssl.keystore.type", &values.zookeeper_ssl_keystore_type),
    ] {
        if kind.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("pem")) {
            return refused(
                key,
                "is not PEM, the only form that is read; keytool and openssl convert",
            );
        }
    }
    for (key, password) in [
        ("zookeeper.ssl.truststore.password", &values.zookeeper_ssl_truststore_password),
        ("zookeeper.ssl.keystore.password", &values.zookeeper_ssl_keystore_password),
    ] {
        if password.is_some() {
            return refused(
                key,
                "is set, and files in PEM are read without one: no encrypted keys",
            );
        }
    }
    check_tls_details(values)
}

fn check_tls_details(values: &BrokerValues) -> Result<(), Problem> {
    if values.zookeeper_ssl_protocol != DEFAULT_PROTOCOL {
        return refused(
            "zookeeper.ssl.protocol",
            "cannot be chosen: TLSv1.3 and TLSv1.2 are offered, and the server takes one",
        );
    }
    let protocols = &values.zookeeper_ssl_enabled_protocols;
    let restricts = ["TLSv1.2", "TLSv1.3"].iter().any(|it| !protocols.iter().any(|p| p == it));
    if !protocols.is_empty() && restricts {
        return refused(
            "zookeeper.ssl.enabled.protocols",
            "cannot be less than TLSv1.2,TLSv1.3: both are offered",
        );
    }
    if !values.zookeeper_ssl_cipher_suites.is_empty() {
        return refused("zookeeper.ssl.cipher.suites", "cannot be chosen");
    }
    if values.zookeeper_ssl_crl_enable {
        return refused(
            "zookeeper.ssl.crl.enable",
            "is true, and nothing is fetched; lists of revoked certificates in the truststore's file \
             are honoured without it",
        );
    }
    if values.zookeeper_ssl_ocsp_enable {
        return refused("zookeeper.ssl.ocsp.enable", "is true, and nobody is asked");
    }
    Ok(())
}

/// Kafka's, which restricts nothing here.
const DEFAULT_PROTOCOL: &str = "TLSv1.2";

fn refused(key: &'static str, problem: &str) -> Result<(), Problem> {
    Err((key, problem.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn outcome(text: &str) -> Result<(), String> {
        let text = format!("zookeeper.connect=h:1\n{text}");
        load(Some(("f", &text)), &[]).map(|_| ()).map_err(|error| error.to_string())
    }

    fn refusal(text: &str, parts: &[&str]) {
        let refused = outcome(text).expect_err(text);
        for part in parts {
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }

    const DIGEST: &str =
        "zookeeper.auth.scheme=digest\nzookeeper.auth.user=u\nzookeeper.auth.password=p\n";

    #[test]
    fn credentials_are_whole_or_absent() {
        outcome(DIGEST).unwrap();
        outcome(&format!("{DIGEST}zookeeper.set.acl=true")).unwrap();
        refusal("zookeeper.auth.user=u", &["zookeeper.auth.user", "without"]);
        refusal("zookeeper.auth.password=p", &["zookeeper.auth.password", "without"]);
        refusal("zookeeper.auth.scheme=digest", &["zookeeper.auth.user", "not set"]);
        refusal(
            "zookeeper.auth.scheme=digest\nzookeeper.auth.user=u",
            &["zookeeper.auth.password", "not set"],
        );
        refusal(&DIGEST.replace("user=u", "user=a:b"), &["colon"]);
        refusal("zookeeper.auth.scheme=kerberos", &["digest, sasl"]);
        let sasl = outcome(&DIGEST.replace("digest", "sasl"));
        assert_eq!(sasl.is_ok(), HAS_SASL, "{sasl:?}");
    }

    #[test]
    fn access_lists_need_somebody_whom_they_name() {
        refusal("zookeeper.set.acl=true", &["zookeeper.set.acl", "zookeeper.auth.scheme"]);
        let alone = load(Some(("f", "offsets.storage=zookeeper")), &[]).unwrap();
        assert!(alone.config.keeps_offsets_in_tree(), "the tree need not be in an ensemble");
        let without = load(Some(("f", DIGEST)), &[]).unwrap_err().to_string();
        assert!(without.contains("without zookeeper.connect"), "{without}");
    }

    #[test]
    fn kafkas_client_socket_is_accepted() {
        for socket in ["Netty", "NIO"] {
            let class = format!("org.apache.zookeeper.ClientCnxnSocket{socket}");
            outcome(&format!("zookeeper.clientCnxnSocket={class}")).unwrap();
        }
        refusal("zookeeper.clientCnxnSocket=com.example.Mine", &["ClientCnxnSocketNetty"]);
    }

    #[test]
    fn what_tls_cannot_honour_is_refused_where_there_is_any() {
        const TLS: &str = "zookeeper.ssl.client.enable=true\nzookeeper.ssl.truststore.location=t\n";
        if !HAS_TLS {
            refusal(TLS, &["zookeeper.ssl.client.enable", "zookeeper-tls"]);
            return;
        }
        outcome(TLS).unwrap();
        outcome(&format!("{TLS}zookeeper.ssl.enabled.protocols=TLSv1.3,TLSv1.2")).unwrap();
        let certificate = format!("{TLS}zookeeper.ssl.keystore.location=k\n");
        outcome(&format!("{certificate}zookeeper.set.acl=true")).unwrap();
        refusal("zookeeper.ssl.client.enable=true", &["zookeeper.ssl.truststore.location"]);
        for (setting, part) in [
            ("endpoint.identification.algorithm=", "always verified"),
            ("truststore.type=JKS", "PEM"),
            ("keystore.type=PKCS12", "PEM"),
            ("truststore.password=p", "zookeeper.ssl.truststore.password"),
            ("keystore.password=p", "encrypted"),
            ("protocol=TLSv1.3", "zookeeper.ssl.protocol"),
            ("enabled.protocols=TLSv1.2", "zookeeper.ssl.enabled.protocols"),
            ("cipher.suites=X", "zookeeper.ssl.cipher.suites"),
            ("crl.enable=true", "zookeeper.ssl.crl.enable"),
            ("ocsp.enable=true", "zookeeper.ssl.ocsp.enable"),
        ] {
            refusal(&format!("{TLS}zookeeper.ssl.{setting}"), &[part]);
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let loaded = load(Some(("f", &format!("zookeeper.connect=h:1\n{DIGEST}"))), &[]).unwrap();
        let mut password = None;
        for shown in super::super::describe_broker(&loaded.config) {
            if shown.name == "zookeeper.auth.password" {
                password = Some((shown.value, shown.synonyms));
            }
        }
        let (value, synonyms) = password.unwrap();
        assert_eq!(value, None);
        assert!(synonyms.iter().all(|place| place.value.is_none()), "{synonyms:?}");
        let secret = format!("zookeeper.connect=h:1\n{}", DIGEST.replace("=p\n", "=s3cret\n"));
        let loaded = load(Some(("f", &secret)), &[]).unwrap();
        assert!(!format!("{loaded:?}").contains("s3cret"));
    }
}
