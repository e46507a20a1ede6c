//! Identifiers of compiled entries: positions in the gate's lists, one type for each list, so that a rule's is never
//! taken for an issuer's.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(usize);

        impl $name {
            pub(crate) fn new(index: usize) -> Self {
                Self(index)
            }

            /// The position, from zero.
            #[must_use]
            pub fn index(self) -> usize {
                self.0
            }
        }
    )+};
}

ids! {
    /// A rule, by its position in `rules`.
    RuleId,
    /// An issuer, by its position among `issuers` in the order of their names.
    IssuerId,
    /// A limit, by its position among `limits` in the order of their names.
    LimitId,
}
