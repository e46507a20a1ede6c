//! What rules take between them, as a tree of path segments.

use std::collections::HashMap;

use super::cell::{self, Cell, HostCell, PathCell, Tail};
use crate::rule::Matcher;

/// The first rule for each method and host.
type Takers<'a> = HashMap<(Option<&'a str>, HostCell<'a>), usize>;

/// What has been added, by path.
#[derive(Debug, Default)]
pub(super) struct Cover<'a> {
    root: Node<'a>,
    star: Takers<'a>,
    star_all: Vec<usize>,
}

/// What begins with the same segments.
#[derive(Debug, Default)]
struct Node<'a> {
    literal: HashMap<&'a str, Node<'a>>,
    placeholder: Option<Box<Node<'a>>>,
    /// Takes the path that ends here.
    end: Takers<'a>,
    end_all: Vec<usize>,
    /// Takes all that goes on from here.
    more: Takers<'a>,
    more_all: Vec<usize>,
}

impl<'a> Cover<'a> {
    /// Adds a rule, whose index is greater than all before.
    pub(super) fn add(&mut self, index: usize, matcher: &'a Matcher) {
        for path in PathCell::of(&matcher.path) {
            let (takers, _) = self.takers(&path);
            for method in cell::methods(matcher) {
                for host in HostCell::of(matcher) {
                    takers.entry((method, host)).or_insert(index);
                }
            }
        }
    }

    /// Adds a rule's path alone, for [`meeting`](Self::meeting).
    pub(super) fn add_path(&mut self, index: usize, matcher: &'a Matcher) {
        for path in PathCell::of(&matcher.path) {
            self.takers(&path).1.push(index);
        }
    }

    fn takers(&mut self, path: &PathCell<'a>) -> (&mut Takers<'a>, &mut Vec<usize>) {
        let mut node = &mut self.root;
        for segment in &path.segments {
            node = match segment {
                Some(text) => node.literal.entry(text).or_default(),
                None => node.placeholder.get_or_insert_default(),
            };
        }
        match path.tail {
            Tail::End => (&mut node.end, &mut node.end_all),
            Tail::More => (&mut node.more, &mut node.more_all),
            Tail::Star => (&mut self.star, &mut self.star_all),
        }
    }

    /// The first rule that takes the whole cell.
    pub(super) fn first(&self, cell: &Cell<'a, '_>) -> Option<usize> {
        let mut first: Option<usize> = None;
        let mut look = |takers: &Takers<'a>| {
            if takers.is_empty() {
                return;
            }
            let methods = [cell.method, None];
            // A cell of any method is looked for once.
            let methods = methods
                .get(usize::from(cell.method.is_none())..)
                .unwrap_or_default();
            for host in cell.host.wider() {
                for method in methods {
                    if let Some(index) = takers.get(&(*method, host)) {
                        first = Some(first.map_or(*index, |first| first.min(*index)));
                    }
                }
            }
        };
        self.visit(cell.path, &mut look);
        first
    }

    /// The rules, added by their path, that share a path with this cell and lie not within it by all their segments.
    pub(super) fn meeting(&self, path: &PathCell<'a>, into: &mut Vec<usize>) {
        self.root.meet(&path.segments, path.tail, false, into);
    }

    fn visit(&self, path: &PathCell<'a>, look: &mut dyn FnMut(&Takers<'a>)) {
        if path.is_star() {
            look(&self.star);
        } else {
            self.root.visit(&path.segments, path.tail, look);
        }
    }
}

impl<'a> Node<'a> {
    fn visit(&self, rest: &[Option<&'a str>], tail: Tail, look: &mut dyn FnMut(&Takers<'a>)) {
        let Some((segment, rest)) = rest.split_first() else {
            match tail {
                Tail::End => look(&self.end),
                Tail::More | Tail::Star => look(&self.more),
            }
            return;
        };
        look(&self.more);
        if let Some(next) = segment.and_then(|text| self.literal.get(text)) {
            next.visit(rest, tail, look);
        }
        if let Some(next) = self.placeholder.as_deref().filter(|_| *segment != Some("")) {
            next.visit(rest, tail, look);
        }
    }

    /// `broader`: a placeholder of these stood for a segment that the path gives.
    fn meet(&self, rest: &[Option<&'a str>], tail: Tail, broader: bool, into: &mut Vec<usize>) {
        let Some((segment, rest)) = rest.split_first() else {
            match tail {
                Tail::End => into.extend(&self.end_all),
                Tail::More if broader => self.everything(into),
                Tail::More => into.extend(self.more_all.iter().chain(&self.end_all)),
                Tail::Star => {}
            }
            return;
        };
        into.extend(&self.more_all);
        match segment {
            Some(text) => {
                if let Some(next) = self.literal.get(text) {
                    next.meet(rest, tail, broader, into);
                }
                if let Some(next) = self.placeholder.as_deref().filter(|_| !text.is_empty()) {
                    next.meet(rest, tail, true, into);
                }
            }
            None => {
                let literals = self.literal.iter().filter(|(text, _)| !text.is_empty());
                for next in literals.map(|(_, next)| next).chain(self.placeholder.as_deref()) {
                    next.meet(rest, tail, broader, into);
                }
            }
        }
    }

    fn everything(&self, into: &mut Vec<usize>) {
        into.extend(self.end_all.iter().chain(&self.more_all));
        for next in self.literal.values().chain(self.placeholder.as_deref()) {
            next.everything(into);
        }
    }
}
