//! Identifiers of compiled entries: indices into the gate's lists. Each list has its own type, so that they cannot be
//! confused.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(usize);

        impl $name {
            pub(crate) fn new(index: usize) -> Self {
                Self(index)
            }

            /// The index, from zero.
            #[must_use]
            pub fn index(self) -> usize {
                self.0
            }
        }
    )+};
}

ids! {
    /// A rule, by its index in `rules`.
    RuleId,
    /// An issuer, by its index in `issuers` in the order of their names.
    IssuerId,
    /// A limit, by its index in `limits` in the order of their names.
    LimitId,
}
