//! The bodies of requests and responses, by API.

/// Defines [`RequestBody`](crate::messages::RequestBody) and
/// [`ResponseBody`](crate::messages::ResponseBody) with one variant per API.
macro_rules! bodies {
    ($($api:ident($request:ident, $response:ident),)*) => {
        /// Any request.
        #[derive(Clone, Debug, PartialEq)]
        pub enum RequestBody {
            $($api($request),)*
        }

        impl RequestBody {
            /// The versions of `key` that have messages, oldest and newest.
            pub fn versions(key: $crate::ApiKey) -> Option<(i16, i16)> {
                match key {
                    $($crate::ApiKey::$api => Some((
                        <$request as $crate::Message>::VERSION_MIN,
                        <$request as $crate::Message>::VERSION_MAX,
                    )),)*
                    _ => None,
                }
            }
        }

        /// Any response.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ResponseBody {
            $($api($response),)*
        }

        $(
            impl From<$request> for RequestBody {
                fn from(request: $request) -> Self {
                    Self::$api(request)
                }
            }

            impl From<$response> for ResponseBody {
                fn from(response: $response) -> Self {
                    Self::$api(response)
                }
            }
        )*

        $crate::body::bodies! { @common RequestBody, $($api($request),)* }
        $crate::body::bodies! { @common ResponseBody, $($api($response),)* }
    };
    (@common $body:ident, $($api:ident($message:ident),)*) => {
        impl $body {
            /// The API that it belongs to.
            pub fn key(&self) -> $crate::ApiKey {
                match self {
                    $(Self::$api(_) => $crate::ApiKey::$api,)*
                }
            }

            /// Reads a body from a reader that stands at its start and ends with it.
            pub fn decode(
                key: $crate::ApiKey,
                version: i16,
                r: &mut $crate::Reader,
            ) -> Result<Self, $crate::DecodeError> {
                match key {
                    $($crate::ApiKey::$api => {
                        <$message as $crate::Message>::decode_whole(r, version).map(Self::$api)
                    })*
                    _ => Err($crate::DecodeError::UnknownApiKey { key: key.as_i16() }),
                }
            }
        }

        impl $crate::Encode for $body {
            fn encode(
                &self,
                w: &mut $crate::Writer,
                version: i16,
            ) -> Result<(), $crate::EncodeError> {
                match self {
                    $(Self::$api(message) => {
                        $crate::Message::encode_checked(message, w, version)
                    })*
                }
            }
        }
    };
}

pub(crate) use bodies;
