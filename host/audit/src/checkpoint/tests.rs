use ed25519_compact::{KeyPair, Seed};

use super::*;

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint {
        origin: "postern.example/audit".into(),
        size,
        hash: Hash::of(b"payload"),
        time: Time::from_micros(1_767_225_600_000_001),
    }
}

fn note(size: u64) -> Note {
    let checkpoint = checkpoint(size);
    let pair = KeyPair::from_seed(Seed::new([7; 32]));
    let signature = *pair.sk.sign(checkpoint.body(), None);
    let signature = Signature::new("kernel-2026", &pair.pk, signature);
    Note::new(checkpoint, vec![signature]).unwrap()
}

#[test]
fn a_body_round_trips() {
    let checkpoint = checkpoint(3);
    let body = checkpoint.body();
    assert_eq!(body.lines().count(), 4);
    assert_eq!(Checkpoint::parse(&body), Ok(checkpoint));
}

#[test]
fn invalid_bodies_are_rejected() {
    let good = checkpoint(3).body();
    assert!(Checkpoint::parse(&good).is_ok());
    for (from, to, why) in [
        ("postern.example/audit\n", "\n", "first"),
        ("\n3\n", "\n+3\n", "canonical"),
        ("\n3\n", "\n03\n", "canonical"),
        ("\n3\n", "\n-3\n", "second"),
        ("\n3\n", "\n18446744073709551616\n", "second"),
        ("=\n", "\n", "third"),
        ("time ", "at ", "fourth"),
        (
            "time 2026-01-01T00:00:00.000001Z",
            "time 2026-01-01T00:00:00.0000010Z",
            "canonical",
        ),
        ("Z\n", "Z\nmore\n", "canonical"),
        ("Z\n", "Z", "canonical"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from}");
        let error = Checkpoint::parse(&bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn a_note_round_trips() {
    let note = note(3);
    let text = note.to_string();
    assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
    assert_eq!(Note::parse(&text), Ok(note.clone()));
    let key = KeyPair::from_seed(Seed::new([7; 32])).pk;
    let other = KeyPair::from_seed(Seed::new([8; 32])).pk;
    let [signature] = note.signatures.as_slice() else {
        panic!()
    };
    assert!(signature.verifies(&key, &note.checkpoint.body()));
    assert!(!signature.verifies(&other, &note.checkpoint.body()));
    assert!(!signature.verifies(&key, &checkpoint(4).body()));
    let renamed = Signature {
        name: "kernel-2027".into(),
        ..signature.clone()
    };
    assert!(
        !renamed.verifies(&key, &note.checkpoint.body()),
        "the key id covers the name"
    );

    // The library's own verifier accepts it.
    let verifying = ed25519_key(&key);
    let verifier = signed_note::StandardVerifier::new(&verifying).unwrap();
    let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
    let read = signed_note::Note::from_bytes(text.as_bytes()).unwrap();
    assert_eq!(read.verify(&known).unwrap().0.len(), 1);
}

/// A verifier key of the signed-note format: name, key id, and the algorithm's number with the key.
fn ed25519_key(key: &[u8; 32]) -> String {
    let bytes: Vec<u8> = std::iter::once(1).chain(*key).collect();
    let bytes = Base64::encode_to_string(bytes).unwrap();
    format!("kernel-2026+{:08x}+{bytes}", key_id("kernel-2026", key))
}

#[test]
fn invalid_notes_are_rejected() {
    let good = note(3).to_string();
    let (body, signatures) = good.split_once("\n\n").unwrap();
    for (text, error) in [
        (String::new(), NoteError::Malformed),
        (body.to_owned(), NoteError::Malformed),
        (format!("{body}\n\n"), NoteError::Malformed),
        (good.trim_end().to_owned(), NoteError::Malformed),
        (good.replace('\u{2014}', "-"), NoteError::Malformed),
        (
            good.replace("\u{2014} kernel-2026", "\u{2014} kernel+2026"),
            NoteError::Malformed,
        ),
        (
            format!("hello\n\n{signatures}"),
            NoteError::Body("the second line is not a number of events"),
        ),
        (format!("{body}\n\n\u{2014} w AAAAAAAA\n"), NoteError::NoSignature),
    ] {
        assert_eq!(Note::parse(&text), Err(error), "{text}");
    }
    let with_a_witness = format!("{good}\u{2014} witness AAAAAAAA\n");
    assert_eq!(Note::parse(&with_a_witness), Ok(note(3)));
}

#[test]
fn a_stream_continues_after_an_incomplete_note() {
    let [a, b] = [note(3), note(5)];
    let (whole, next) = (a.to_string(), b.to_string());
    for (torn, _) in (1..whole.len()).filter_map(|at| whole.split_at_checked(at)) {
        let stream = format!("{whole}\n{torn}\n\n{next}\n");
        let notes: Vec<_> = Notes::of(&stream).collect();
        assert_eq!(notes.first(), Some(&Ok(a.clone())));
        assert_eq!(notes.last(), Some(&Ok(b.clone())), "{stream}");
        let cut_to_a_whole_note = torn.trim_end() == whole.trim_end();
        assert_eq!(
            notes.iter().filter(|n| n.is_ok()).count(),
            2 + usize::from(cut_to_a_whole_note)
        );
    }
    assert_eq!(Notes::of("").count(), 0);
    assert_eq!(Notes::of("\n\n\n").count(), 0);
}
