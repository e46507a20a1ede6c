//! The request as the gate sees it: borrowed bytes, in order, including duplicate headers.

/// A header's name and value. Names are in lower case, as in HTTP/2 and Envoy; values are any bytes.
pub type Header<'a> = (&'a [u8], &'a [u8]);

/// A request without its body. The method, path and authority are among the headers, under their HTTP/2 names.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Every header, pseudo-headers first.
    pub headers: &'a [Header<'a>],
    /// The client's address as the proxy determined it, `ip:port` or `[ip]:port`.
    pub source: Option<&'a str>,
    /// No body follows.
    pub end_of_stream: bool,
}

/// The result of looking up a header that must not be repeated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Single<'a> {
    Absent,
    One(&'a [u8]),
    Multiple,
}

impl<'a> Request<'a> {
    /// All values of the header `name`, which is in lower case.
    pub(crate) fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let headers = self.headers;
        headers
            .iter()
            .filter(move |(n, _)| *n == name.as_bytes())
            .map(|(_, value)| *value)
    }

    /// The value of the header `name`, if there is exactly one.
    pub(crate) fn single(&self, name: &str) -> Single<'a> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => Single::Absent,
            (Some(one), None) => Single::One(one),
            (Some(_), Some(_)) => Single::Multiple,
        }
    }

    /// The credential in the header `name`. An empty value counts as absent.
    pub(crate) fn credential(&self, name: &str) -> Single<'a> {
        match self.single(name) {
            Single::One(value) if value.trim_ascii().is_empty() => Single::Absent,
            found => found,
        }
    }

    pub(crate) fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    pub(crate) fn method(&self) -> &'a [u8] {
        self.first(":method").unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &'a [u8] {
        self.first(":path").unwrap_or_default()
    }

    /// The declared length of the body, if there is exactly one and it is valid; `u64::MAX` if it does not fit.
    pub(crate) fn content_length(&self) -> Option<u64> {
        let Single::One(value) = self.single("content-length") else {
            return None;
        };
        let digits = std::str::from_utf8(value).ok()?;
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        valid.then(|| digits.parse().unwrap_or(u64::MAX))
    }

    /// Whether the declared length of the body exceeds `max`.
    pub(crate) fn is_longer_than(&self, max: usize) -> bool {
        // Every usize fits into a u64.
        let max = u64::try_from(max).unwrap_or(u64::MAX);
        self.content_length().is_some_and(|length| length > max)
    }

    /// Whether another protocol follows instead of a body, so that there is no end to wait for: an upgrade (RFC 9110,
    /// section 7.8) or a tunnel (RFC 9110, section 9.3.6; RFC 8441).
    pub(crate) fn is_upgrade(&self) -> bool {
        self.first("upgrade").is_some() || self.first(":protocol").is_some() || self.method() == b"CONNECT"
    }

    /// Whether Envoy treats the request as gRPC. The response then carries its status in `grpc-status`.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        let rest = self
            .first("content-type")
            .and_then(|value| value.strip_prefix(b"application/grpc"));
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
    }

    /// The client's address without its port.
    pub(crate) fn source_ip(&self) -> Option<&'a str> {
        let source = self.source?;
        match source.parse::<std::net::SocketAddr>() {
            Ok(_) => source.rsplit_once(':').map(|(ip, _)| ip),
            Err(_) => Some(source),
        }
    }

    /// The proxy's id of this request (`x-request-id`), if it is safe to include in a response: at most 128 letters,
    /// digits and `-_.:`.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        let id = std::str::from_utf8(self.first("x-request-id")?).ok()?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        (id.len() <= 128 && id.bytes().all(allowed)).then_some(id)
    }
}

/// The key of limits by address: the address without its port. IPv6 addresses are reduced to their /64 prefix, which
/// one client usually controls.
pub(crate) fn address_key(source: &str) -> String {
    use std::net::{IpAddr, Ipv6Addr, SocketAddr};
    let ip = source
        .parse::<SocketAddr>()
        .map(|a| a.ip())
        .or_else(|_| source.parse::<IpAddr>());
    match ip.map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.to_string(),
        Ok(IpAddr::V6(v6)) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).to_string(),
        Err(_) => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_are_counted_by_prefix() {
        for (source, key) in [
            ("198.51.100.7:4711", "198.51.100.7"),
            ("[2001:db8:1:2:3::5]:80", "2001:db8:1:2::"),
            ("[2001:db8:1:2:ffff::9]:80", "2001:db8:1:2::"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
            ("@pipe", "@pipe"),
        ] {
            assert_eq!(address_key(source), key);
        }
    }

    #[test]
    fn a_repeated_header_is_not_single() {
        let headers: [Header<'_>; 3] = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")];
        let request = Request {
            headers: &headers,
            source: None,
            end_of_stream: true,
        };
        assert_eq!(request.single("a"), Single::Multiple);
        assert_eq!(request.single("b"), Single::One(b"2"));
        assert_eq!(request.single("c"), Single::Absent);
    }

    #[test]
    fn a_length_that_overflows_is_too_long() {
        for (value, length) in [
            ("0", Some(0)),
            ("65", Some(65)),
            ("4294967296", Some(1 << 32)),
            ("18446744073709551616", Some(u64::MAX)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("+5", None),
            ("-1", None),
            ("", None),
            ("5, 5", None),
        ] {
            let headers: [Header<'_>; 1] = [(b"content-length", value.as_bytes())];
            let request = Request {
                headers: &headers,
                source: None,
                end_of_stream: false,
            };
            assert_eq!(request.content_length(), length, "{value}");
            assert_eq!(
                request.is_longer_than(65),
                length.is_some_and(|length| length > 65),
                "{value}"
            );
        }
    }

    #[test]
    fn grpc_is_detected_by_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers: [Header<'_>; 1] = [(b"content-type", value.as_bytes())];
            let request = Request {
                headers: &headers,
                source: None,
                end_of_stream: false,
            };
            assert_eq!(request.is_grpc(), expected, "{value}");
        }
    }

    #[test]
    fn an_unsafe_request_id_is_ignored() {
        for (id, safe) in [("a1-b2", true), ("\"},", false), ("", true), ("x\u{7f}", false)] {
            let headers: [Header<'_>; 1] = [(b"x-request-id", id.as_bytes())];
            let request = Request {
                headers: &headers,
                source: None,
                end_of_stream: true,
            };
            assert_eq!(request.id().is_some(), safe, "{id:?}");
        }
    }
}
