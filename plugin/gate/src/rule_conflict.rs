//! Finds conflicts in the order of the rules: rules that no request can reach, and open rules that match requests
//! which a later rule would guard.
//!
//! Each rule is a set of cells: method × host × path, each of which may stand for infinitely many values. A cell that
//! several earlier rules cover together is covered by one of them alone: there are infinitely many methods, names
//! below a domain and paths below a prefix, so that each cell contains a request that no rule lists explicitly, and
//! the rule that matches this request covers the whole cell. So it is exact to check the cells individually, with one
//! lookup each.

mod cell;
mod path_tree;

use std::collections::BTreeSet;
use std::rc::Rc;

use cell::{Cell, HostCell, PathCell};
use path_tree::PathTree;

use crate::Gate;
use crate::rule::{Matcher, Rule};

/// A conflict between rules, which are given by their indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleConflict {
    /// No request reaches `rule`: the rules in `by` match every request that it matches.
    Unreachable {
        /// The unreachable rule.
        rule: usize,
        /// The earlier rules that match its requests.
        by: Vec<usize>,
    },
    /// An open rule matches requests that a later rule would authenticate or check with a policy, and is not an
    /// exception to that rule.
    Shadowed {
        /// The open rule.
        open: usize,
        /// The first rule that would have guarded the requests.
        guarded: usize,
        /// A request that the open rule admits, such as `GET example.com/admin`.
        example: String,
    },
}

impl Gate {
    /// The rules that no request can reach, and the open rules before rules that guard the same requests.
    #[must_use]
    pub fn rule_conflicts(&self) -> Vec<RuleConflict> {
        conflicts(self.rules())
    }
}

fn conflicts(rules: &[Rc<Rule>]) -> Vec<RuleConflict> {
    let mut found = Vec::new();
    let mut tree = PathTree::default();
    // By index; `None` for rules that are not open or were already reported.
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
                // An open rule is reported once, with the first rule that it shadows.
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

/// Whether the rule admits every request: it requires no credential and has no policy.
fn is_open(rule: &Rule) -> bool {
    rule.authenticate.is_empty() && rule.policy.is_none()
}

/// The rules that cover the matcher's cells; `None` if a cell is not covered.
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

/// The open rules that match some of this rule's requests and are not exceptions to it, each with an example. An open
/// rule whose path is within that of a later rule was put before it on purpose, unless both have the same path.
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
        // With many rules for many hosts, most are skipped here.
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
        // An example must reach the open rule: earlier rules may match first.
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
