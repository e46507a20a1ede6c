//! An index of rules as a tree of path segments.

use std::collections::HashMap;

use super::cell::{self, Cell, HostCell, PathCell, Tail};
use crate::rule::Matcher;

/// The first rule for each method and host; `None` is any method.
type FirstRules<'a> = HashMap<(Option<&'a str>, HostCell<'a>), usize>;

/// The rules that were added, by path.
#[derive(Debug, Default)]
pub(super) struct PathTree<'a> {
    root: Node<'a>,
    star: FirstRules<'a>,
    star_all: Vec<usize>,
}

/// The rules whose paths begin with the same segments.
#[derive(Debug, Default)]
struct Node<'a> {
    literal: HashMap<&'a str, Node<'a>>,
    placeholder: Option<Box<Node<'a>>>,
    /// Rules for the path that ends here.
    end: FirstRules<'a>,
    end_all: Vec<usize>,
    /// Rules for all paths below.
    more: FirstRules<'a>,
    more_all: Vec<usize>,
}

impl<'a> PathTree<'a> {
    /// Adds a rule. Its index must be greater than those before.
    pub(super) fn add(&mut self, index: usize, matcher: &'a Matcher) {
        for path in PathCell::of(&matcher.path) {
            let (rules, _) = self.rules(&path);
            for method in cell::methods(matcher) {
                for host in HostCell::of(matcher) {
                    rules.entry((method, host)).or_insert(index);
                }
            }
        }
    }

    /// Adds only the path of a rule, for [`overlapping`](Self::overlapping).
    pub(super) fn add_path(&mut self, index: usize, matcher: &'a Matcher) {
        for path in PathCell::of(&matcher.path) {
            self.rules(&path).1.push(index);
        }
    }

    fn rules(&mut self, path: &PathCell<'a>) -> (&mut FirstRules<'a>, &mut Vec<usize>) {
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

    /// The first rule that covers the whole cell.
    pub(super) fn first_rule(&self, cell: &Cell<'a, '_>) -> Option<usize> {
        let mut first: Option<usize> = None;
        let mut visitor = |rules: &FirstRules<'a>| {
            if rules.is_empty() {
                return;
            }
            let methods = [cell.method, None];
            // A cell for any method is looked up once.
            let methods = methods
                .get(usize::from(cell.method.is_none())..)
                .unwrap_or_default();
            for host in cell.host.containing() {
                for method in methods {
                    if let Some(index) = rules.get(&(*method, host)) {
                        first = Some(first.map_or(*index, |first| first.min(*index)));
                    }
                }
            }
        };
        self.visit(cell.path, &mut visitor);
        first
    }

    /// Collects the rules, added by [`add_path`](Self::add_path), that share a path with this cell and are not within
    /// it by all their segments.
    pub(super) fn overlapping(&self, path: &PathCell<'a>, into: &mut Vec<usize>) {
        self.root.collect_overlaps(&path.segments, path.tail, false, into);
    }

    fn visit(&self, path: &PathCell<'a>, visitor: &mut dyn FnMut(&FirstRules<'a>)) {
        if path.is_star() {
            visitor(&self.star);
        } else {
            self.root.visit(&path.segments, path.tail, visitor);
        }
    }
}

impl<'a> Node<'a> {
    fn visit(&self, rest: &[Option<&'a str>], tail: Tail, visitor: &mut dyn FnMut(&FirstRules<'a>)) {
        let Some((segment, rest)) = rest.split_first() else {
            match tail {
                Tail::End => visitor(&self.end),
                Tail::More | Tail::Star => visitor(&self.more),
            }
            return;
        };
        visitor(&self.more);
        if let Some(next) = segment.and_then(|text| self.literal.get(text)) {
            next.visit(rest, tail, visitor);
        }
        if let Some(next) = self.placeholder.as_deref().filter(|_| *segment != Some("")) {
            next.visit(rest, tail, visitor);
        }
    }

    /// `broader`: a placeholder in the tree matched a literal segment of the path.
    fn collect_overlaps(&self, rest: &[Option<&'a str>], tail: Tail, broader: bool, into: &mut Vec<usize>) {
        let Some((segment, rest)) = rest.split_first() else {
            match tail {
                Tail::End => into.extend(&self.end_all),
                Tail::More if broader => self.collect_all(into),
                Tail::More => into.extend(self.more_all.iter().chain(&self.end_all)),
                Tail::Star => {}
            }
            return;
        };
        into.extend(&self.more_all);
        match segment {
            Some(text) => {
                if let Some(next) = self.literal.get(text) {
                    next.collect_overlaps(rest, tail, broader, into);
                }
                if let Some(next) = self.placeholder.as_deref().filter(|_| !text.is_empty()) {
                    next.collect_overlaps(rest, tail, true, into);
                }
            }
            None => {
                let literals = self.literal.iter().filter(|(text, _)| !text.is_empty());
                for next in literals.map(|(_, next)| next).chain(self.placeholder.as_deref()) {
                    next.collect_overlaps(rest, tail, broader, into);
                }
            }
        }
    }

    fn collect_all(&self, into: &mut Vec<usize>) {
        into.extend(self.end_all.iter().chain(&self.more_all));
        for next in self.literal.values().chain(self.placeholder.as_deref()) {
            next.collect_all(into);
        }
    }
}
