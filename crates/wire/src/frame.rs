//! Requests and responses as they stand on a connection: size, header, body.
//!
//! ```text
//! size (4) | request header: key (2) version (2) correlation id (4) client id [tags] | body
//! size (4) | response header: correlation id (4) [tags]                              | body
//! ```
//! Reading the size and waiting for the bytes is the connection's work; what is decoded here is a
//! frame without its size.

use crate::{
    Decode, Encode, Encoded, Error, Message, Reader, Request, Response, Result, Writer,
    api::ApiKey, request_header::RequestHeader, response_header::ResponseHeader,
};

/// Bytes of a frame's size.
pub const SIZE_BYTES: usize = 4;
/// Room for the head of a usual message, so that its buffer seldom grows.
const HEAD_BYTES: usize = 256;

/// Who asks what, in which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The API.
    pub key: ApiKey,
    /// Its version, which may be one that the table does not know.
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<&'a str>,
}

/// Decodes the header of a request; the reader then stands before the body.
///
/// A version out of range is no error here, as ApiVersions has to answer one; decoding the body
/// refuses it. An unknown API key is, as its header's form is unknown.
pub fn decode_request_header(frame: &[u8]) -> Result<(RequestHead<'_>, Reader<'_>)> {
    let mut reader = Reader::new(frame);
    let mut peek = reader.clone();
    let key = ApiKey::try_from(peek.i16()?)?;
    let version = peek.i16()?;
    if version < 0 {
        return Err(Error::UnsupportedVersion { message: key.name(), version });
    }
    let header = RequestHeader::decode(&mut reader, key.request_header_version(version))?;
    let RequestHeader { correlation_id, client_id, .. } = header;
    Ok((RequestHead { key, version, correlation_id, client_id }, reader))
}

/// Decodes a body. Bytes behind it are ignored, as Apache Kafka does: librdkafka asks for the
/// metadata of all topics, in flexible versions, with a count of four zero bytes where one byte
/// says null, so that its last three bytes come too many.
pub fn decode_body<'a, M: Message + Decode<'a>>(mut reader: Reader<'a>, version: i16) -> Result<M> {
    M::decode(&mut reader, version)
}

/// Decodes the header of a response: the correlation id, and the reader before the body.
pub fn decode_response_header(
    frame: &[u8],
    key: ApiKey,
    version: i16,
) -> Result<(i32, Reader<'_>)> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, key.response_header_version(version))?;
    Ok((header.correlation_id, reader))
}

/// Encodes a request with size and header.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Result<Encoded> {
    let mut writer = frame_writer();
    let header = RequestHeader {
        request_api_key: R::KEY.number(),
        request_api_version: version,
        correlation_id,
        client_id,
    };
    header.encode(&mut writer, R::KEY.request_header_version(version));
    request.encode(&mut writer, version);
    writer.finish_frame()
}

/// Encodes a response with size and header.
pub fn encode_response<R: Response>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<Encoded> {
    let mut writer = frame_writer();
    let header = ResponseHeader { correlation_id };
    header.encode(&mut writer, R::KEY.response_header_version(version));
    response.encode(&mut writer, version);
    writer.finish_frame()
}

/// A writer that has left room for the size.
fn frame_writer() -> Writer {
    let mut writer = Writer::with_capacity(HEAD_BYTES);
    writer.i32(0);
    writer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Part, Records,
        api_versions_request::ApiVersionsRequest,
        api_versions_response::ApiVersionsResponse,
        fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData},
        metadata_request::MetadataRequest,
    };
    use bytes::Bytes;

    #[test]
    fn request_frame_is_kafkas_bytes() {
        // A client's usual first request, by hand from the protocol's description.
        let request = ApiVersionsRequest {
            client_software_name: "x",
            client_software_version: "1",
            ..Default::default()
        };
        let frame = encode_request(7, Some("c"), 3, &request).expect("it is sayable").into_bytes();
        let expected = b"\0\0\0\x11\0\x12\0\x03\0\0\0\x07\0\x01c\0\x02x\x021\0";
        assert_eq!(frame, expected.as_slice());
        let (head, body) = decode_request_header(&frame[4..]).unwrap();
        let expected = (ApiKey::ApiVersions, 3, 7, Some("c"));
        assert_eq!((head.key, head.version, head.correlation_id, head.client_id), expected);
        assert_eq!(decode_body::<ApiVersionsRequest<'_>>(body, 3), Ok(request));
    }

    #[test]
    fn version_from_the_future_yields_its_header_and_no_body() {
        let frame = b"\0\x12\0\x63\0\0\0\x07\0\x01c\0\x02x\x021\0";
        let (head, body) = decode_request_header(frame).unwrap();
        assert_eq!((head.version, head.correlation_id), (99, 7));
        let error = decode_body::<ApiVersionsRequest<'_>>(body, 99).unwrap_err();
        assert!(matches!(error, Error::UnsupportedVersion { version: 99, .. }));
        let answer = encode_response(7, 0, &ApiVersionsResponse::default()).unwrap();
        assert_eq!(answer.into_bytes(), b"\0\0\0\x0a\0\0\0\x07\0\0\0\0\0\0".as_slice());
    }

    #[test]
    fn librdkafkas_request_for_all_topics_is_understood() {
        let frame = b"\0\x03\0\x0d\0\0\0\x03\0\x07rdkafka\0\0\0\0\0\x01\0\0";
        let (head, body) = decode_request_header(frame).unwrap();
        let request: MetadataRequest<'_> = decode_body(body, head.version).unwrap();
        assert_eq!((head.version, request.topics), (13, None));
    }

    #[test]
    fn unknown_key_and_negative_version_are_refused() {
        let check = |frame: &[u8], expected| {
            assert_eq!(decode_request_header(frame).unwrap_err(), expected);
        };
        check(b"\x7f\xff\0\0\0\0\0\x01\xff\xff", Error::UnknownApiKey(0x7fff));
        check(
            b"\0\x03\xff\xff\0\0\0\x01\xff\xff",
            Error::UnsupportedVersion { message: "Metadata", version: -1 },
        );
        check(b"\0\x03\0", Error::Truncated);
    }

    #[test]
    fn metadata_body_with_an_endless_count_is_refused() {
        let check = |version, body: &[u8]| {
            let decoded = crate::decode::<MetadataRequest<'_>>(body, version);
            assert_eq!(decoded, Err(Error::Truncated), "version {version}");
        };
        check(0, &[0x7f, 0xff, 0xff, 0xff]);
        check(12, &[0xff, 0xff, 0xff, 0xff, 0x07, 0x01, 0x00]);
        check(12, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x01, 0x00]);
    }

    #[test]
    fn records_go_out_as_slices_between_heads() {
        let slice = Bytes::from_static(b"batch");
        let with = |records| PartitionData { records: Some(records), ..Default::default() };
        let topic = FetchableTopicResponse {
            topic: "t",
            partitions: vec![
                with(Records::Slices(vec![slice.clone(), slice.clone()])),
                with(Records::External { len_bytes: 1000, token: 5 }),
                with(Records::EMPTY),
            ],
            ..Default::default()
        };
        let response = FetchResponse { responses: vec![topic], ..Default::default() };
        let encoded = encode_response(1, 11, &response).unwrap();
        let [
            Part::Bytes(head),
            Part::Bytes(first),
            Part::Bytes(second),
            Part::Bytes(_),
            external,
            Part::Bytes(tail),
        ] = encoded.parts.as_slice()
        else {
            panic!("{:?}", encoded.parts)
        };
        assert_eq!((first.as_ptr(), second.as_ptr()), (slice.as_ptr(), slice.as_ptr()));
        assert_eq!(*external, Part::External { len_bytes: 1000, token: 5 });
        assert!(tail.ends_with(&[0, 0, 0, 0]));
        let size = i32::from_be_bytes(head[..4].try_into().unwrap());
        assert_eq!(usize::try_from(size).unwrap() + 4, encoded.len_bytes);
        let gathered = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len(),
            Part::External { len_bytes, .. } => *len_bytes,
        };
        assert_eq!(encoded.parts.iter().map(gathered).sum::<usize>(), encoded.len_bytes);
    }

    #[test]
    fn what_a_version_cannot_say_is_an_error() {
        let long = "x".repeat(40_000);
        let named = |name| MetadataRequest {
            topics: Some(vec![crate::metadata_request::MetadataRequestTopic {
                name,
                ..Default::default()
            }]),
            ..Default::default()
        };
        assert_eq!(crate::encode(&named(Some(&long)), 8), Err(Error::TooLong));
        assert!(crate::encode(&named(Some(&long)), 9).is_ok());
        assert_eq!(crate::encode(&named(None), 9), Err(Error::NullNotAllowed));
        assert!(crate::encode(&named(None), 10).is_ok());
        assert!(matches!(
            crate::encode(&named(None), 99),
            Err(Error::UnsupportedVersion { message: "MetadataRequest", version: 99 })
        ));
    }
}
