//! Host calls of the proxy-wasm ABI 0.2.1 that the SDK offers only in forms that panic on unusual input, or not at all.
//!
//! The SDK reads header names as UTF-8 or panics, copies each name and value apart, and sends local replies without
//! response-code details. A panic kills the worker's VM and with it every request on it.
#![allow(unsafe_code)]

use proxy_wasm::types::Status;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> Status;

    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> Status;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

const REQUEST_HEADERS: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const MONOTONIC: u32 = 1;
/// Lets the proxy derive the gRPC status from the HTTP one.
const NO_GRPC_STATUS: i32 = -1;

/// The request's headers as the proxy serialises them; [`HeaderBlock::parse`] borrows from it.
pub(crate) struct HeaderBlock(Vec<u8>);

/// Fetches all request headers at once: one crossing whatever their number.
pub(crate) fn request_headers() -> Option<HeaderBlock> {
    pairs(REQUEST_HEADERS)
}

/// Fetches all request trailers; only while the proxy shows them.
pub(crate) fn request_trailers() -> Option<HeaderBlock> {
    pairs(REQUEST_TRAILERS)
}

fn pairs(map: u32) -> Option<HeaderBlock> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: both pointers are valid for writes; the proxy fills them before it returns.
    let status = unsafe { proxy_get_header_map_pairs(map, &raw mut data, &raw mut size) };
    if status != Status::Ok {
        return None;
    }
    if data.is_null() {
        return Some(HeaderBlock(Vec::new()));
    }
    // SAFETY: the proxy allocated `size` bytes through `proxy_on_memory_allocate`, which hands out a boxed slice of
    // exactly that length, filled it and gave it to us.
    Some(HeaderBlock(unsafe { Vec::from_raw_parts(data, size, size) }))
}

impl HeaderBlock {
    /// The headers in order: a count, then the two lengths of each, then each name and value with a zero behind it,
    /// all numbers little-endian. `None` if the block is not of that form.
    pub(crate) fn parse(&self) -> Option<Vec<postern_gate::Header<'_>>> {
        if self.0.is_empty() {
            return Some(Vec::new());
        }
        let (count, rest) = take_u32(&self.0)?;
        let (mut lengths, mut data) = rest.split_at_checked(count.checked_mul(8)?)?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let (name_length, rest) = take_u32(lengths)?;
            let (value_length, rest) = take_u32(rest)?;
            lengths = rest;
            let (name, rest) = take_text(data, name_length)?;
            let (value, rest) = take_text(rest, value_length)?;
            data = rest;
            headers.push((name, value));
        }
        Some(headers)
    }
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number) as usize, rest))
}

fn take_text(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    Some((text, rest.get(1..)?))
}

/// Answers the request in the upstream's place. True if the proxy took the reply.
/// `grpc_status` goes to clients that speak gRPC; without it the proxy derives one.
pub(crate) fn send_local_reply(
    status: u16,
    grpc_status: Option<i32>,
    details: &str,
    headers: &[(&str, &[u8])],
    body: &str,
) -> bool {
    let headers = serialise(headers);
    // SAFETY: every pointer comes with the length of the slice it was taken from and is only read during the call.
    let status = unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status.unwrap_or(NO_GRPC_STATUS),
        )
    };
    status == Status::Ok
}

fn serialise(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let number = |n: usize| (n as u32).to_le_bytes();
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(number(headers.len()));
    for (name, value) in headers {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for (name, value) in headers {
        for text in [name.as_bytes(), value] {
            bytes.extend(text);
            bytes.push(0);
        }
    }
    bytes
}

/// Nanoseconds on the machine's monotonic clock, which all workers of a proxy share. Zero if the proxy offers none.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut time = 0;
    // SAFETY: the pointer is valid for a write of eight bytes.
    let error = unsafe { clock_time_get(MONOTONIC, 1, &raw mut time) };
    if error == 0 { time } else { 0 }
}
