//! For any ids: an added signer is present, and retiring one leaves the others unchanged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

use std::time::{Duration, UNIX_EPOCH};

use postern_signers::{Registry, Status, add, parse_key, retire};
use proptest::collection::btree_set;
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, proptest};

proptest! {
    #[test]
    fn retiring_a_signer_leaves_the_others_unchanged(ids in btree_set("[A-Za-z0-9._:/-]{1,12}", 1..6), which: Index) {
        let key = parse_key("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap();
        let text = ids
            .iter()
            .try_fold("# ours\n".to_owned(), |text, id| add(&text, id, &key, None, None))
            .unwrap();
        let id = which.get(&ids.iter().collect::<Vec<_>>()).as_str();
        let end = UNIX_EPOCH + Duration::from_secs(100);
        let retired = retire(&text, id, end).unwrap();
        prop_assert!(retired.starts_with("# ours\n"));

        let (before, after) = (Registry::parse(&text).unwrap(), Registry::parse(&retired).unwrap());
        prop_assert_eq!(before.iter().count(), ids.len());
        for (other, signer) in before.iter().filter(|(other, _)| *other != id) {
            prop_assert_eq!(after.get(other), Some(signer));
        }
        let signer = after.get(id).unwrap();
        prop_assert_eq!((signer.status, signer.valid_until), (Status::Retired, Some(end)));
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "(\\[signers\\.[a-z\"]{1,3}\\]\n|[a-z_]{1,12} = \"?[a-z0-9:-]{0,20}\"?\n|.){0,8}") {
        let _ = Registry::parse(&text);
        let _ = retire(&text, "a", UNIX_EPOCH);
    }
}
