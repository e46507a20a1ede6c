//! Which requests a rule is for. What could never match is an error, since a weaker rule would then decide.

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
                self.errors
                    .add(at, format!("\"{method}\" is no method; write GET, POST"));
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
        let (name, below) = match text.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (text, false),
        };
        // Read as a request's host is, so that both mean the same.
        let host = match authority::split(name.as_bytes()) {
            Ok((host, None)) if !below || !host.starts_with('[') => host,
            Ok(_) | Err(_) => {
                let why = if text == "*" {
                    "leave \"hosts\" out for any"
                } else if text.starts_with('.') {
                    "all below a domain are \"*.example.com\""
                } else if text.contains('*') {
                    "a \"*\" stands in front alone, for all below a domain: \"*.example.com\"; list other hosts one by one, or \
                     leave \"hosts\" out for any"
                } else if !text.is_ascii() {
                    "requests name it in punycode: xn--…"
                } else {
                    "write a host name without port, \"*.example.com\" for all below a domain, or leave \"hosts\" out for any"
                };
                self.errors
                    .add(at, format!("\"{text}\" would never match: {why}"));
                return Host::Exact(text.to_owned());
            }
        };
        if below {
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
            self.errors.add(at, "a query takes no part in matching");
        }
        compiled
    }
}

/// Why no request could match the text, if none could.
fn never_matches(text: &str, path: &config::PathMatch) -> Option<String> {
    let braced = text.split('/').filter(|segment| segment.contains(['{', '}']));
    let placeholder = |segment: &str| {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        name.is_some_and(pattern::is_placeholder_name)
    };
    if let Some(segment) = braced.clone().find(|segment| !placeholder(segment)) {
        return Some(format!(
            "{{name}} stands for one whole segment of a \"template\", and \"{segment}\" is none; a literal \"{{\" is \
             written %7B"
        ));
    }
    if path.template.is_none() && braced.clone().next().is_some() {
        return Some(format!(
            "{{name}} stands for one whole segment of a \"template\": write template: {text}; a literal \"{{\" is written \
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
