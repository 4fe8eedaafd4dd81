//! ApiVersions.

use klamm_protocol::messages::api_versions::ApiVersionsRequest;
use klamm_protocol::{ApiKey, api};

use super::{Behaviour, of};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::ApiVersions, "ranges", ranges),
    of(ApiKey::ApiVersions, "names of clients", software),
    of(ApiKey::ApiVersions, "unknown version", unknown_version),
];

fn request(name: &str, version: &str) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: name.to_owned(),
        client_software_version: version.to_owned(),
    }
}

/// The ranges of what Klamm serves; what it does not serve is for the documentation to say.
fn ranges(case: &mut Case) -> Step {
    let named = if case.version >= 3 { request("oracle", "1.0") } else { request("", "") };
    let response = case.quietly(case.version, &named)?;
    case.note("ranges", "error_code", response.error_code.to_string());
    for served in api::SERVED {
        let found = response.api_keys.iter().find(|api| api.api_key == served.key.as_i16());
        case.note(&format!("range of {:?}", served.key), "range", format!("{found:?}"));
    }
    Ok(())
}

fn software(case: &mut Case) -> Step {
    for (step, name, version) in [
        ("no name", "", "1"),
        ("no version", "x", ""),
        ("blank", "a b", "1"),
        ("slash", "a/b", "1"),
        ("dash at the end", "a-", "1"),
        ("long enough", "a.b-c", "1.2.3-x"),
    ] {
        case.ask(step, &request(name, version));
    }
    Ok(())
}

/// The answer is in version 0 whatever was asked.
fn unknown_version(case: &mut Case) -> Step {
    for version in [5, 99, 32_767] {
        case.raw(&format!("version {version}"), |connection| {
            let mut bytes = connection.header_bytes(ApiKey::ApiVersions, version, true, 3);
            bytes.extend_from_slice(&[1, 1, 0]);
            bytes
        });
    }
    Ok(())
}
