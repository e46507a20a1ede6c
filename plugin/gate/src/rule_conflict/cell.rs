//! The cells of a rule: method × host × path.

use crate::rule::{Host, Matcher, Path, Segment};

/// The requests with one method, host and path, each of which may stand for many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell<'a, 'p> {
    /// `None` for any.
    pub(super) method: Option<&'a str>,
    pub(super) host: HostCell<'a>,
    pub(super) path: &'p PathCell<'a>,
}

/// A set of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum HostCell<'a> {
    Any,
    /// Everything below a domain, with the leading dot: `.example.com`.
    Subdomains(&'a str),
    Exact(&'a str),
}

/// A set of paths, by their segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathCell<'a> {
    /// The first segments; `None` for any non-empty segment.
    pub(super) segments: Vec<Option<&'a str>>,
    pub(super) tail: Tail,
}

/// What follows the first segments of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    End,
    /// A slash and any text.
    More,
    /// The one path that does not begin with a slash: `*`.
    Star,
}

impl<'a> PathCell<'a> {
    /// The cells of a path. A prefix is two cells, the path itself and everything below, which different rules may
    /// cover.
    pub(super) fn of(path: &'a Path) -> Vec<Self> {
        let cell = |segments, tail| Self { segments, tail };
        let literal = |text: &'a str| text.split('/').skip(1).map(Some).collect::<Vec<_>>();
        match path {
            Path::Any => vec![cell(Vec::new(), Tail::More), cell(Vec::new(), Tail::Star)],
            Path::Exact(text) if text == "*" => vec![cell(Vec::new(), Tail::Star)],
            Path::Exact(text) => vec![cell(literal(text), Tail::End)],
            Path::Prefix(text) => match text.strip_suffix('/') {
                Some(stem) => vec![cell(literal(stem), Tail::More)],
                None => vec![cell(literal(text), Tail::End), cell(literal(text), Tail::More)],
            },
            Path::Template(segments) => {
                let segments = segments.iter().map(|segment| match segment {
                    Segment::Literal(text) => Some(text.as_str()),
                    Segment::Any => None,
                });
                vec![cell(segments.collect(), Tail::End)]
            }
        }
    }

    pub(super) fn is_star(&self) -> bool {
        self.tail == Tail::Star
    }

    /// The intersection of two cells, which is a cell too.
    pub(super) fn intersection(&self, other: &Self) -> Option<Self> {
        let (short, long) = if self.segments.len() <= other.segments.len() {
            (self, other)
        } else {
            (other, self)
        };
        let tail = match (short.tail, long.tail) {
            (Tail::Star, Tail::Star) => Tail::Star,
            (Tail::Star, _) | (_, Tail::Star) => return None,
            (Tail::End, Tail::End) if short.segments.len() == long.segments.len() => Tail::End,
            (Tail::More, Tail::End) if short.segments.len() == long.segments.len() => return None,
            (Tail::End, _) => return None,
            (Tail::More, tail) => tail,
        };
        let mut segments = long.segments.clone();
        for (long, short) in segments.iter_mut().zip(&short.segments) {
            match (&long, short) {
                (Some(one), Some(other)) if *one != *other => return None,
                (Some(text), None) | (None, Some(text)) if text.is_empty() => return None,
                (None, Some(text)) => *long = Some(text),
                _ => {}
            }
        }
        Some(Self { segments, tail })
    }
}

/// Whether all paths of `narrow` are paths of `broad`. Ignores the path `*`.
pub(super) fn paths_within(narrow: &[PathCell<'_>], broad: &[PathCell<'_>]) -> bool {
    narrow.iter().filter(|cell| cell.tail != Tail::Star).all(|cell| {
        broad
            .iter()
            .any(|broad| broad.intersection(cell).as_ref() == Some(cell))
    })
}

impl<'a> HostCell<'a> {
    pub(super) fn of(matcher: &'a Matcher) -> Vec<Self> {
        if matcher.hosts.is_empty() {
            return vec![Self::Any];
        }
        let hosts = matcher.hosts.iter().map(|host| match host {
            Host::Exact(name) => Self::Exact(name),
            Host::Subdomains(suffix) => Self::Subdomains(suffix),
        });
        hosts.collect()
    }

    /// The cells that contain this one: itself, the domains above, any.
    pub(super) fn containing(self) -> impl Iterator<Item = Self> {
        let name = match self {
            Self::Any => "",
            Self::Subdomains(name) | Self::Exact(name) => name,
        };
        // Not at position 0: a domain itself is not below the domain.
        let dots = name.match_indices('.').filter(|(at, _)| *at > 0);
        let above = dots
            .filter_map(move |(at, _)| name.get(at..))
            .map(Self::Subdomains);
        let own = (self != Self::Any).then_some(self);
        own.into_iter().chain(above).chain([Self::Any])
    }

    /// The intersection of two cells: one contains the other, or they are disjoint.
    fn intersection(self, other: Self) -> Option<Self> {
        if self.containing().any(|containing| containing == other) {
            Some(self)
        } else {
            other
                .containing()
                .any(|containing| containing == self)
                .then_some(other)
        }
    }
}

pub(super) fn methods(matcher: &Matcher) -> Vec<Option<&str>> {
    if matcher.methods.is_empty() {
        return vec![None];
    }
    matcher
        .methods
        .iter()
        .map(|method| Some(method.as_str()))
        .collect()
}

/// Whether two rules share a method and a host, whatever their paths.
pub(super) fn overlap(one: &Matcher, other: &Matcher) -> bool {
    let methods = one.methods.is_empty()
        || other.methods.is_empty()
        || one.methods.iter().any(|method| other.methods.contains(method));
    let below = |suffix: &str, name: &str| name.len() > suffix.len() && name.ends_with(suffix);
    let hosts = |one: &Host, other: &Host| match (one, other) {
        (Host::Exact(one), Host::Exact(other)) => one == other,
        (Host::Subdomains(suffix), Host::Exact(name)) | (Host::Exact(name), Host::Subdomains(suffix)) => {
            below(suffix, name)
        }
        (Host::Subdomains(one), Host::Subdomains(other)) => {
            one == other || below(one, other) || below(other, one)
        }
    };
    methods
        && (one.hosts.is_empty()
            || other.hosts.is_empty()
            || one
                .hosts
                .iter()
                .any(|one| other.hosts.iter().any(|other| hosts(one, other))))
}

/// The methods that both rules match.
pub(super) fn shared_methods<'a>(one: &'a Matcher, other: &'a Matcher) -> Vec<Option<&'a str>> {
    match (one.methods.is_empty(), other.methods.is_empty()) {
        (true, _) => methods(other),
        (_, true) => methods(one),
        _ => {
            let both = one.methods.iter().filter(|method| other.methods.contains(method));
            both.map(|method| Some(method.as_str())).collect()
        }
    }
}

/// The hosts that both rules match.
pub(super) fn shared_hosts<'a>(one: &'a Matcher, other: &'a Matcher) -> Vec<HostCell<'a>> {
    let others = HostCell::of(other);
    let intersection = HostCell::of(one).into_iter().flat_map(|host| {
        let intersection: Vec<_> = others
            .iter()
            .filter_map(|other| host.intersection(*other))
            .collect();
        intersection
    });
    intersection.collect()
}

pub(super) fn methods_within(narrow: &Matcher, broad: &Matcher) -> bool {
    broad.methods.is_empty()
        || !narrow.methods.is_empty() && narrow.methods.iter().all(|method| broad.methods.contains(method))
}

pub(super) fn hosts_within(narrow: &Matcher, broad: &Matcher) -> bool {
    let broad = HostCell::of(broad);
    HostCell::of(narrow)
        .into_iter()
        .all(|host| host.containing().any(|containing| broad.contains(&containing)))
}

impl Cell<'_, '_> {
    /// An example of a request in the cell.
    pub(super) fn example(&self) -> String {
        let host = match self.host {
            HostCell::Any => String::new(),
            HostCell::Exact(name) => name.to_owned(),
            HostCell::Subdomains(suffix) => format!("any{suffix}"),
        };
        let mut path: String = match self.path.tail {
            Tail::Star => "*".to_owned(),
            _ => self
                .path
                .segments
                .iter()
                .map(|segment| format!("/{}", segment.unwrap_or("any")))
                .collect(),
        };
        if self.path.tail == Tail::More {
            path.push_str("/any");
        }
        format!("{} {host}{path}", self.method.unwrap_or("GET"))
    }
}
