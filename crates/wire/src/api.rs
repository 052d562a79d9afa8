//! The APIs and their versions: what the message table can read and write.
//!
//! What a broker offers is its own choice, a subset of [`VERSIONS`].

use crate::Versions;
pub use crate::generated::api_key::{ApiKey, VERSIONS};

/// One API of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersions {
    /// The API.
    pub key: ApiKey,
    /// The versions that can be decoded and encoded.
    pub versions: Versions,
    /// The first flexible version; `i16::MAX` if there is none.
    pub flexible_from: i16,
    /// Whether Apache Kafka keeps the newest version to itself unless told otherwise.
    pub is_latest_unstable: bool,
}

impl ApiKey {
    /// The API's row in [`VERSIONS`].
    #[must_use]
    pub fn row(self) -> &'static ApiVersions {
        let row = VERSIONS.iter().find(|row| row.key == self);
        row.expect("the table has a row for every key")
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The version of the request header. Defined beyond the newest version too, since an
    /// ApiVersions request of the future must be answered.
    #[must_use]
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.row().flexible_from { 2 } else { 1 }
    }

    /// The version of the response header. ApiVersions always has 0, because the client does not
    /// know yet what the broker can do (KIP-511).
    #[must_use]
    pub fn response_header_version(self, version: i16) -> i16 {
        if self == ApiKey::ApiVersions || version < self.row().flexible_from { 0 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_ascend_and_keys_convert_both_ways() {
        assert!(VERSIONS.is_sorted_by_key(|row| row.key));
        for row in VERSIONS {
            assert_eq!(ApiKey::try_from(row.key.number()), Ok(row.key));
            assert!(row.versions.min <= row.versions.max);
        }
        assert!(ApiKey::try_from(-1).is_err());
    }

    #[test]
    fn header_versions_follow_flexible_versions() {
        let check = |key: ApiKey, version, request, response| {
            assert_eq!(key.request_header_version(version), request, "{key:?} {version}");
            assert_eq!(key.response_header_version(version), response, "{key:?} {version}");
        };
        check(ApiKey::Produce, 8, 1, 0);
        check(ApiKey::Produce, 9, 2, 1);
        check(ApiKey::ApiVersions, 2, 1, 0);
        check(ApiKey::ApiVersions, 3, 2, 0);
        check(ApiKey::ApiVersions, 99, 2, 0);
        check(ApiKey::OffsetDelete, 0, 1, 0);
    }
}
