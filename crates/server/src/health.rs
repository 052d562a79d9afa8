//! `odradek health`: does a broker answer? One connection, one ApiVersions exchange, a time limit.
//!
//! For the health check of containers, whose image holds nothing but this binary. It uses the
//! client's side of our own runtime, on the driver that needs nothing from the kernel.

use std::{fmt, io, net::SocketAddr, time::Duration};

use runtime::{DriverPreference, Elapsed, Errno, Runtime, Stream};
use wire::{
    api::ApiKey, api_versions_request::ApiVersionsRequest,
    api_versions_response::ApiVersionsResponse, frame,
};

use crate::alone;

/// The version that every broker answers in a form that every client can read.
const VERSION: i16 = 0;
const CORRELATION_ID: i32 = 1;
/// An answer names a hundred APIs in 6 bytes each; more than this is no broker's.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Why a broker is not taken as healthy.
#[derive(Debug)]
pub(crate) enum Error {
    Setup(io::Error),
    Network(Errno),
    TimedOut,
    Answer(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Setup(error) => error.fmt(formatter),
            Error::Network(error) => error.fmt(formatter),
            Error::TimedOut => formatter.write_str("no answer in time"),
            Error::Answer(reason) => formatter.write_str(reason),
        }
    }
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Error {
        Error::Network(error)
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Error {
        Error::Answer(format!("not a broker's answer: {error}"))
    }
}

/// Asks the broker at `address` which APIs it has, and wants an answer within `limit`.
pub(crate) fn check(address: SocketAddr, limit: Duration) -> Result<(), Error> {
    let executor = alone::executor(DriverPreference::Sync, ANSWER_BYTES_MAX);
    let mut executor = executor.map_err(Error::Setup)?;
    let runtime = executor.runtime();
    executor.block_on(async move {
        let deadline = runtime.now() + limit;
        match runtime.deadline(deadline, exchange(&runtime, address)).await {
            Ok(result) => result,
            Err(Elapsed) => Err(Error::TimedOut),
        }
    })
}

async fn exchange(runtime: &Runtime, address: SocketAddr) -> Result<(), Error> {
    let stream = Stream::connect(runtime, address).await?;
    let request = ApiVersionsRequest::default();
    let frame = frame::encode_request(CORRELATION_ID, Some("health"), VERSION, &request)?;
    stream.send_all(vec![frame.into_bytes()]).await?;
    let mut received = Vec::new();
    loop {
        if let Some(answer) = whole_frame(&received)? {
            return judge(answer);
        }
        let bytes = stream.receive(ANSWER_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Err(Error::Answer("the connection was closed".to_owned()));
        }
        received.extend_from_slice(&bytes);
    }
}

/// The frame without its size, once it is there.
fn whole_frame(received: &[u8]) -> Result<Option<&[u8]>, Error> {
    let Some((size, rest)) = received.split_first_chunk() else { return Ok(None) };
    let size = usize::try_from(i32::from_be_bytes(*size)).ok();
    let Some(size) = size.filter(|size| *size <= ANSWER_BYTES_MAX) else {
        return Err(Error::Answer("not a broker's answer: too large".to_owned()));
    };
    Ok(rest.get(..size))
}

fn judge(answer: &[u8]) -> Result<(), Error> {
    let (correlation_id, body) =
        frame::decode_response_header(answer, ApiKey::ApiVersions, VERSION)?;
    let response: ApiVersionsResponse<'_> = frame::decode_body(body, VERSION)?;
    if correlation_id != CORRELATION_ID || response.error_code != 0 || response.api_keys.is_empty()
    {
        return Err(Error::Answer(format!("error code {}", response.error_code)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::api_versions_response::ApiVersion;

    fn answer(correlation_id: i32, response: &ApiVersionsResponse<'_>) -> Vec<u8> {
        frame::encode_response(correlation_id, VERSION, response).unwrap().into_bytes().to_vec()
    }

    #[test]
    fn an_answer_is_judged_when_it_is_whole() {
        let api = ApiVersion { api_key: 18, min_version: 0, max_version: 4 };
        let good = ApiVersionsResponse { api_keys: vec![api], ..Default::default() };
        let bytes = answer(CORRELATION_ID, &good);
        for end in 0..bytes.len() {
            assert!(whole_frame(&bytes[..end]).unwrap().is_none(), "{end} bytes");
        }
        assert!(judge(whole_frame(&bytes).unwrap().unwrap()).is_ok());
        for (correlation_id, response) in [
            (CORRELATION_ID + 1, good.clone()),
            (CORRELATION_ID, ApiVersionsResponse { error_code: 35, ..good }),
            (CORRELATION_ID, ApiVersionsResponse::default()),
        ] {
            assert!(judge(&answer(correlation_id, &response)[4..]).is_err(), "{response:?}");
        }
    }

    #[test]
    fn what_no_broker_says_is_refused_before_memory_is_spent() {
        for bytes in [b"HTTP/1.1 200 OK".as_slice(), &[0xff; 4], &[0x7f, 0xff, 0xff, 0xff]] {
            assert!(whole_frame(bytes).is_err(), "{bytes:?}");
        }
        assert!(judge(&[0, 0, 0, 1, 0, 0, 0x7f]).is_err());
    }
}
