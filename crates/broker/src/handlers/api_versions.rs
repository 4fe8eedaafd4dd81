//! ApiVersions: what this broker serves.
//!
//! Versions 0 to 4. From version 3 on a client names its software; a malformed name or version is
//! INVALID_REQUEST. A version above those served is answered in the form of version 0 with
//! UNSUPPORTED_VERSION and the range of this API alone, the body unread ([`unsupported_version`]).
//!
//! Optional fields are left out while they have their defaults: old librdkafka cannot read some of
//! them. No feature is finalised yet, so there is none to tell in any version.

use klamm_protocol::api::{self, ServedApi};
use klamm_protocol::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use klamm_protocol::{ApiKey, ErrorCode};

use crate::request::{Answer, RequestContext};

/// The first version in which clients name their software.
const SOFTWARE_SINCE: i16 = 3;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ApiVersionsRequest,
) -> Answer<ApiVersionsResponse> {
    if ctx.api_version >= SOFTWARE_SINCE {
        let (name, version) = (request.client_software_name, request.client_software_version);
        if !is_software_word(&name) || !is_software_word(&version) {
            let error_code = ErrorCode::InvalidRequest.as_i16();
            return Answer::Now(ApiVersionsResponse { error_code, ..Default::default() });
        }
        // A client that asks again keeps the name it gave first.
        let _ = ctx.connection.software.set((name, version));
    }
    let api_keys = api::SERVED.iter().map(range).collect();
    Answer::Now(ApiVersionsResponse { api_keys, ..Default::default() })
}

/// The answer, in the form of version 0, to a version that is not served.
pub(crate) fn unsupported_version() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.as_i16(),
        api_keys: api::find(ApiKey::ApiVersions).map(range).into_iter().collect(),
        ..Default::default()
    }
}

fn range(api: &ServedApi) -> ApiVersion {
    ApiVersion { api_key: api.key.as_i16(), min_version: api.advertised_min, max_version: api.max }
}

/// Letters, digits, dashes and dots, the last two not at either end.
fn is_software_word(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let bytes = word.as_bytes();
    bytes.iter().all(|byte| inner(*byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_words_are_letters_digits_and_inner_dashes_and_dots() {
        for good in ["librdkafka", "1.2.3", "a", "apache-kafka-java", "2.0.0-RC1"] {
            assert!(is_software_word(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a_b", "ä", "a\n"] {
            assert!(!is_software_word(bad), "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_version_is_told_the_range_of_this_api_alone() {
        let answer = unsupported_version();
        assert_eq!(answer.error_code, 35);
        let ranges: Vec<_> =
            answer.api_keys.iter().map(|r| (r.api_key, r.min_version, r.max_version)).collect();
        assert_eq!(ranges, [(18, 0, 4)]);
    }
}
