//! Which requests a rule is for. What could never match is an error, since a weaker rule would then decide.

use super::Compiler;
use crate::rule::{Host, Matcher, Path};
use crate::{authority, config};

impl Compiler<'_> {
    pub(super) fn matcher(&mut self, at: &str, matches: &config::Match) -> Matcher {
        for (i, method) in matches.methods.iter().enumerate() {
            if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                self.errors.add(
                    format!("{at}.methods[{i}]"),
                    format!("\"{method}\" is no method; write GET, POST"),
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
            methods: matches.methods.clone(),
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
            Ok((host, None)) => host,
            Ok((_, Some(_))) | Err(_) => {
                let message = format!(
                    "\"{text}\" would never match: write a host name without port, \"*.example.com\" for all below \
                     a domain, or leave \"hosts\" out for any"
                );
                self.errors.add(at, message);
                return Host::Exact(text.to_owned());
            }
        };
        if below {
            Host::Below(format!(".{host}"))
        } else {
            Host::Exact(host.into_owned())
        }
    }

    fn path(&mut self, at: &str, path: &config::PathMatch) -> Path {
        let (text, compiled) = match (&path.exact, &path.prefix, &path.template) {
            (Some(exact), None, None) => (exact, Path::Exact(exact.clone())),
            (None, Some(prefix), None) => (prefix, Path::Prefix(prefix.clone())),
            (None, None, Some(template)) => (template, Path::template(template)),
            _ => {
                self.errors
                    .add(at, "takes exactly one of \"exact\", \"prefix\", \"template\"");
                return Path::Any;
            }
        };
        let braced = text.split('/').filter(|segment| segment.contains(['{', '}']));
        let placeholder = |s: &str| {
            s.len() > 2 && s.starts_with('{') && s.ends_with('}') && s.matches(['{', '}']).count() == 2
        };
        if braced.clone().any(|s| path.template.is_none() || !placeholder(s)) {
            self.errors.add(
                at,
                format!(
                    "\"{text}\" would never match: {{name}} stands for one whole segment of a \"template\""
                ),
            );
        }
        let plain = text.replace(['{', '}'], "");
        match crate::path::normalise(plain.as_bytes()) {
            Ok(normal) if normal == plain => {}
            Ok(normal) => {
                self.errors.add(at, format!("\"{text}\" would never match: requests are compared as \"{normal}\""));
            }
            Err(_) => self.errors.add(at, format!("\"{text}\" would never match: it must begin with \"/\", and a path with empty, \".\" or \"..\" segments, backslashes or encoded slashes is refused before any rule")),
        }
        if text.contains('?') {
            self.errors.add(at, "a query takes no part in matching");
        }
        compiled
    }
}
