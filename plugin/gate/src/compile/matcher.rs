//! Compiles a rule's `match`. A pattern that could never match is an error, because a weaker rule would apply
//! instead.

use super::{Compiler, pattern};
use crate::path::{literal, normalise};
use crate::rule::{Host, Matcher, Path};
use crate::{authority, config};

impl Compiler<'_> {
    pub(super) fn matcher(&mut self, at: &str, matches: &config::Match) -> Matcher {
        for (i, method) in matches.methods.iter().enumerate() {
            let at = format!("{at}.methods[{i}]");
            if pattern::is_any_method(method) {
                let message =
                    format!("\"{method}\" would never match: leave \"methods\" out for any, or list them");
                self.errors.add(at, message);
            } else if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                self.errors.add(
                    at,
                    format!("\"{method}\" is not a method; methods are written in upper case: GET, POST"),
                );
            }
        }
        let hosts: Vec<Host> = matches
            .hosts
            .iter()
            .enumerate()
            .map(|(i, host)| self.host(&format!("{at}.hosts[{i}]"), host))
            .collect();
        Matcher {
            methods: matches.methods.to_vec(),
            hosts,
            path: matches
                .path
                .as_ref()
                .map(|p| self.path(&format!("{at}.path"), p))
                .unwrap_or_default(),
        }
    }

    fn host(&mut self, at: &str, text: &str) -> Host {
        let (name, subdomains) = match text.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (text, false),
        };
        // Parsed like a request's host, so that both mean the same.
        let host = match authority::split(name.as_bytes()) {
            Ok((host, None)) if !subdomains || !host.starts_with('[') => host,
            Ok(_) | Err(_) => {
                let why = if text == "*" {
                    "leave \"hosts\" out for any"
                } else if text.starts_with('.') {
                    "write \"*.example.com\" for everything below a domain"
                } else if text.contains('*') {
                    "a \"*\" is only allowed as the first label, for everything below a domain: \"*.example.com\"; list \
                     other hosts individually, or leave \"hosts\" out for any"
                } else if !text.is_ascii() {
                    "write it in punycode, as requests do: xn--…"
                } else {
                    "write a host name without port, \"*.example.com\" for everything below a domain, or leave \"hosts\" out for any"
                };
                self.errors
                    .add(at, format!("\"{text}\" would never match: {why}"));
                return Host::Exact(text.to_owned());
            }
        };
        if subdomains {
            Host::Subdomains(format!(".{host}"))
        } else {
            Host::Exact(host.into_owned())
        }
    }

    fn path(&mut self, at: &str, path: &config::PathMatch) -> Path {
        let (text, compiled) = match (&path.exact, &path.prefix, &path.template) {
            (Some(exact), None, None) => (exact, Path::Exact(literal(exact).into_owned())),
            (None, Some(prefix), None) => (prefix, Path::Prefix(literal(prefix).into_owned())),
            (None, None, Some(template)) => (template, Path::template(template)),
            _ => {
                self.errors
                    .add(at, "takes exactly one of \"exact\", \"prefix\", \"template\"");
                return Path::Any;
            }
        };
        // OPTIONS * (RFC 9110, section 9.3.7).
        if path.exact.as_deref() == Some("*") {
            return compiled;
        }
        if let Some(why) = never_matches(text, path) {
            self.errors
                .add(at, format!("\"{text}\" would never match: {why}"));
        } else if text.contains('?') {
            self.errors
                .add(at, "must not contain a query: only the path is matched");
        }
        compiled
    }
}

/// If no request can match the path, the reason.
fn never_matches(text: &str, path: &config::PathMatch) -> Option<String> {
    let placeholders = text.split('/').filter(|segment| segment.contains(['{', '}']));
    let is_placeholder = |segment: &str| {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        name.is_some_and(pattern::is_placeholder_name)
    };
    if let Some(segment) = placeholders.clone().find(|segment| !is_placeholder(segment)) {
        return Some(format!(
            "{{name}} matches one whole segment of a \"template\", and \"{segment}\" is not such a placeholder; a literal \
             \"{{\" is written %7B"
        ));
    }
    if path.template.is_none() && placeholders.clone().next().is_some() {
        return Some(format!(
            "{{name}} is only allowed in a \"template\": write template: {text}; a literal \"{{\" is written \
             %7B"
        ));
    }
    if let Some(why) = pattern::unsupported(text) {
        return Some(why);
    }
    let plain = literal(text).replace(['{', '}'], "");
    match normalise(plain.as_bytes()) {
        Ok(normal) if normal == plain => None,
        Ok(_) if text.contains('?') => None,
        Ok(normal) => Some(format!("requests are compared as \"{normal}\"")),
        Err(_) => Some(
            "it must begin with \"/\", and a path with empty, \".\" or \"..\" segments, backslashes or encoded slashes is \
             refused before any rule"
                .to_owned(),
        ),
    }
}
