//! Which rules no request can reach, and which open rules take requests that a later rule was written to guard.
//!
//! Each rule is a set of cells, a method × a host × a path, each of which may stand for infinitely many. A cell that is
//! covered by several earlier rules together is covered by one of them alone: methods, the names below a domain and the
//! paths below a prefix are without end, so that each cell holds a request that no finite list names, and whichever
//! rule takes that one takes the whole cell. So looking at the cells one by one is exact, and a look-up for each.

mod cell;
mod path_tree;

use std::collections::BTreeSet;
use std::rc::Rc;

use cell::{Cell, HostCell, PathCell};
use path_tree::PathTree;

use crate::Gate;
use crate::rule::{Matcher, Rule};

/// How rules stand in each other's way, by their indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleConflict {
    /// No request reaches `rule`: the rules in `by` take all that it matches.
    Unreachable {
        /// The rule without requests.
        rule: usize,
        /// The rules before it that take them.
        by: Vec<usize>,
    },
    /// An open rule takes requests that a later rule would authenticate or put to a policy, and is no exception to it.
    Shadowed {
        /// The open rule.
        open: usize,
        /// The first of those that would have guarded the requests.
        guarded: usize,
        /// A request that passes, as `GET example.com/admin`.
        example: String,
    },
}

impl Gate {
    /// The rules that no request can reach, and the open rules that stand in front of what guards the same requests.
    #[must_use]
    pub fn rule_conflicts(&self) -> Vec<RuleConflict> {
        conflicts(self.rules())
    }
}

fn conflicts(rules: &[Rc<Rule>]) -> Vec<RuleConflict> {
    let mut found = Vec::new();
    let mut tree = PathTree::default();
    // By index; what is no open rule, or was named already, is none.
    let mut open: Vec<Option<&Matcher>> = vec![None; rules.len()];
    let mut open_tree = PathTree::default();
    for (index, rule) in rules.iter().enumerate() {
        let matcher = &rule.matcher;
        match covering_rules(&tree, matcher) {
            Some(by) => found.push(RuleConflict::Unreachable {
                rule: index,
                by: by.into_iter().collect(),
            }),
            None if is_open(rule) => {
                if let Some(slot) = open.get_mut(index) {
                    *slot = Some(matcher);
                }
                open_tree.add_path(index, matcher);
            }
            None => {
                // An open rule is named once, with the first that it stands in front of.
                for (shadowing, example) in shadows(&open, &open_tree, &tree, matcher) {
                    if let Some(slot) = open.get_mut(shadowing) {
                        *slot = None;
                    }
                    found.push(RuleConflict::Shadowed {
                        open: shadowing,
                        guarded: index,
                        example,
                    });
                }
            }
        }
        tree.add(index, matcher);
    }
    found
}

/// Lets pass whoever comes: no credential, no policy.
fn is_open(rule: &Rule) -> bool {
    rule.authenticate.is_empty() && rule.policy.is_none()
}

/// The rules that take each of the matcher's cells; `None` if a cell is left.
fn covering_rules(tree: &PathTree<'_>, matcher: &Matcher) -> Option<BTreeSet<usize>> {
    let paths = PathCell::of(&matcher.path);
    let mut by = BTreeSet::new();
    for method in cell::methods(matcher) {
        for host in HostCell::of(matcher) {
            for path in &paths {
                by.insert(tree.first_rule(&Cell { method, host, path })?);
            }
        }
    }
    Some(by)
}

/// The open rules that share requests with this one and are no exceptions to it: a path within that of a later rule
/// was put in front of it on purpose, unless both have the same.
fn shadows<'a>(
    open: &[Option<&'a Matcher>],
    open_tree: &PathTree<'a>,
    tree: &PathTree<'a>,
    guarded: &'a Matcher,
) -> Vec<(usize, String)> {
    let paths = PathCell::of(&guarded.path);
    let mut candidates = Vec::new();
    for path in &paths {
        open_tree.overlapping(path, &mut candidates);
    }
    candidates.sort_unstable();
    candidates.dedup();
    let mut found = Vec::new();
    for index in candidates {
        // Most of many rules for many hosts end here.
        let matcher = open.get(index).copied().flatten();
        let Some(matcher) = matcher.filter(|matcher| cell::overlap(matcher, guarded)) else {
            continue;
        };
        let open_paths = PathCell::of(&matcher.path);
        let exception = cell::paths_within(&open_paths, &paths)
            && (!cell::paths_within(&paths, &open_paths)
                || cell::methods_within(matcher, guarded) && cell::hosts_within(matcher, guarded));
        if exception {
            continue;
        }
        let taken = open_paths
            .iter()
            .flat_map(|open| paths.iter().filter_map(|path| open.intersection(path)));
        // What a rule before the open one takes is not open.
        let example = taken.filter(|path| !path.is_star()).find_map(|path| {
            cell::shared_methods(matcher, guarded)
                .into_iter()
                .find_map(|method| {
                    cell::shared_hosts(matcher, guarded).into_iter().find_map(|host| {
                        let cell = Cell {
                            method,
                            host,
                            path: &path,
                        };
                        (tree.first_rule(&cell) == Some(index)).then(|| cell.example())
                    })
                })
        });
        found.extend(example.map(|example| (index, example)));
    }
    found
}

#[cfg(test)]
mod tests;
