//! Logs on read-only media, copies of live logs, and backups.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::support::WorkDir;
use crate::support::log::{OpenLog, audit, dir, sql};

const SIGNERS: [&str; 2] = ["--signers", "signers.toml"];
const HELD: [&str; 4] = ["--signers", "signers.toml", "--checkpoints", "checkpoints"];

/// Copies files of the log into a new folder.
fn copy(dir: &WorkDir, folder: &str, suffixes: &[&str]) {
    fs::create_dir(dir.path(folder)).unwrap();
    for suffix in suffixes {
        let name = format!("audit.sqlite{suffix}");
        fs::copy(dir.path(&name), dir.path(folder).join(&name)).unwrap();
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a program so that file permissions apply to it even if the tests run as root: it keeps the user, which may be
/// the only one with access to the program, and drops the capability that overrides permissions.
fn bound_by_permissions(program: &str) -> Command {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override", "--", program]);
    command
}

/// Runs `audit …` on a read-only folder.
fn read_only(dir: &WorkDir, folder: &str, args: &[&str]) -> (i32, String) {
    let path = dir.path(folder);
    for file in fs::read_dir(&path).unwrap() {
        mode(&file.unwrap().path(), 0o444);
    }
    mode(&path, 0o555);
    let names = || -> Vec<_> {
        fs::read_dir(&path)
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect()
    };
    let before = names();
    let output = bound_by_permissions(env!("CARGO_BIN_EXE_postern"))
        .arg("audit")
        .args(args)
        .arg("--store")
        .arg(format!("sqlite:{folder}/audit.sqlite"))
        .current_dir(dir.path("."))
        .output()
        .unwrap();
    assert_eq!(names(), before, "nothing was written");
    mode(&path, 0o755);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

#[test]
fn a_log_on_a_read_only_medium_is_verified() {
    let dir = dir();
    copy(&dir, "closed", &[""]);
    let (code, text) = read_only(&dir, "closed", &[&["verify"][..], &HELD].concat());
    assert!(
        code == 0 && text.contains("intact: no event was changed"),
        "{text}"
    );
    let (code, text) = read_only(&dir, "closed", &["tail", "-n", "1"]);
    assert!(code == 0 && text.contains("request-30"), "{text}");

    // A copy of a live log, with its write-ahead log.
    let open_log = OpenLog::open(&dir, 31..=40);
    copy(&dir, "live", &["", "-wal"]);
    copy(&dir, "all", &["", "-wal", "-shm"]);
    for folder in ["live", "all"] {
        let (code, text) = read_only(&dir, folder, &[&["verify"][..], &SIGNERS].concat());
        assert!(
            code == 0 && text.contains("10 events after it NOT proven") && text.contains("up to event 40"),
            "{folder}: {text}"
        );
        let (code, text) = read_only(&dir, folder, &["export"]);
        assert!(code == 0 && text.contains("request-40"), "{folder}: {text}");
    }
    open_log.close();
}

#[test]
fn a_copy_without_its_write_ahead_log_is_not_proven() {
    let dir = dir();
    let open_log = OpenLog::open(&dir, 31..=40);
    copy(&dir, "torn", &[""]);
    open_log.close();
    let verify = |folder: &str| {
        let store = format!("sqlite:{folder}/audit.sqlite");
        dir.run(&[&["audit", "verify", "--store", &store][..], &SIGNERS].concat())
    };
    let run = verify("torn");
    assert!(
        run.code == 4 && run.says("NOT PROVEN (wal_missing)") && run.says("postern audit backup"),
        "{run:?}"
    );
    for command in [
        &["head"][..],
        &["tail"],
        &["query"],
        &["export", "-o", "torn.jsonl"],
    ] {
        let store = ["--store", "sqlite:torn/audit.sqlite"];
        let run = dir.run(&[&["audit"], command, &store].concat());
        assert!(
            run.code == 0 && run.err.contains("its -wal file is not beside it"),
            "{run:?}"
        );
    }
    let (code, text) = read_only(&dir, "torn", &[&["verify"][..], &SIGNERS].concat());
    assert!(code == 4 && text.contains("NOT PROVEN (wal_missing)"), "{text}");
    // A stopped host leaves a single file.
    assert!(!dir.path("audit.sqlite-wal").exists());
    copy(&dir, "closed", &[""]);
    assert_eq!(verify("closed").code, 0);
}

#[test]
fn a_live_log_is_backed_up() {
    let dir = dir();
    let open_log = OpenLog::open(&dir, 31..=40);
    let run = audit(&dir, "backup", &[&["-o", "backup.db"][..], &HELD].concat());
    assert!(
        run.code == 0 && run.says("backup.db: 40 events; keep 40:") && run.says("intact up to event 30"),
        "{run:?}"
    );
    open_log.close();
    for left in [
        "backup.db.partial",
        "backup.db.partial.lock",
        "backup.db.lock",
        "backup.db-wal",
    ] {
        assert!(!dir.path(left).exists(), "{left}");
    }
    let run = dir.run(&[&["audit", "verify", "--store", "sqlite:backup.db"][..], &SIGNERS].concat());
    assert!(run.code == 0 && run.says("40 of them"), "{run:?}");
    let run = audit(&dir, "backup", &[&["-o", "backup.db"][..], &HELD].concat());
    assert!(run.code == 3 && run.says("backup.db already exists"), "{run:?}");
    // Without trusted references, the backup is made but not proven.
    let run = audit(&dir, "backup", &["-o", "second.db"]);
    assert!(
        run.code == 4 && run.says("NOT PROVEN (no_signers)") && dir.path("second.db").exists(),
        "{run:?}"
    );
}

#[test]
fn a_tampered_log_is_neither_backed_up_nor_restored() {
    let dir = dir();
    assert_eq!(
        audit(&dir, "backup", &[&["-o", "backup.db"][..], &HELD].concat()).code,
        0
    );
    let change = "UPDATE audit_events SET payload = replace(payload, 'edge-1', 'edge-2') WHERE seq = 7";
    sql(&dir.path("audit.sqlite"), change);
    let run = audit(&dir, "backup", &[&["-o", "other.db"][..], &HELD].concat());
    assert!(
        run.code == 2 && run.says("(payload_changed)") && run.says("no backup was made"),
        "{run:?}"
    );
    assert!(!dir.path("other.db").exists() && !dir.path("other.db.partial").exists());
    let restore = |store: &str| {
        let store = format!("sqlite:{store}");
        dir.run(&[&["audit", "restore", "backup.db", "--store", &store][..], &HELD].concat())
    };
    let run = restore("audit.sqlite");
    assert!(
        run.code == 3 && run.says("already exists"),
        "never overwritten: {run:?}"
    );
    sql(&dir.path("backup.db"), change);
    let run = restore("new.sqlite");
    assert!(run.code == 2 && run.says("nothing was restored"), "{run:?}");
    assert!(!dir.path("new.sqlite").exists());
}

#[test]
fn a_restored_log_continues() {
    let dir = dir();
    assert_eq!(
        audit(&dir, "backup", &[&["-o", "backup.db"][..], &HELD].concat()).code,
        0
    );
    let restore = || {
        let args = [
            &["audit", "restore", "backup.db"][..],
            &crate::support::log::STORE,
            &HELD,
        ];
        dir.run(&args.concat())
    };
    fs::remove_file(dir.path("audit.sqlite")).unwrap();
    let run = restore();
    assert!(
        run.code == 0 && run.says("restored up to event 30; keep 31:"),
        "{run:?}"
    );
    crate::support::log::write(&dir, 31..=35);
    let run = audit(&dir, "verify", &[&HELD[..], &["--require-covered"]].concat());
    assert!(run.code == 0 && run.says("36 of them"), "{run:?}");
    let run = audit(&dir, "query", &["--kind", "host"]);
    assert!(run.says("audit_restored") && run.says("size=30"), "{run:?}");

    // Events after the backup are reported as missing.
    fs::rename(dir.path("audit.sqlite"), dir.path("lost.sqlite")).unwrap();
    let run = restore();
    assert!(
        run.code == 2 && run.says("first at event 31 (tail_missing)"),
        "{run:?}"
    );
    assert!(!dir.path("audit.sqlite").exists());
}

/// Runs the commands of the documentation in a folder that stands for the root of a machine.
#[test]
fn the_documented_commands_work() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page
        .split("## The audit log: backups, loss, retention")
        .nth(1)
        .unwrap();
    let section = section.split("\n## ").next().unwrap();
    let dir = dir();
    for folder in [
        "var/lib/postern",
        "backup",
        "mnt/elsewhere",
        "mnt/evidence",
        "archive",
    ] {
        fs::create_dir_all(dir.path(folder)).unwrap();
    }
    fs::rename(dir.path("audit.sqlite"), dir.path("var/lib/postern/audit.db")).unwrap();
    fs::copy(
        dir.path("var/lib/postern/audit.db"),
        dir.path("mnt/evidence/audit.db"),
    )
    .unwrap();
    fs::rename(dir.path("checkpoints"), dir.path("mnt/elsewhere/audit.notes")).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_postern")).parent().unwrap();
    let mut executed = 0;
    for block in section
        .split("```console\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
    {
        for command in block
            .replace("\\\n", " ")
            .lines()
            .filter_map(|line| line.strip_prefix("$ "))
        {
            // Service managers and remote databases are not available here.
            if command.starts_with("systemctl") || command.contains("postgres://") {
                continue;
            }
            let here =
                ["/var/lib", "/backup", "/mnt", "/archive"]
                    .iter()
                    .fold(command.to_owned(), |text, root| {
                        text.replace(&format!(" {root}/"), &format!(" .{root}/"))
                            .replace(&format!(":{root}/"), &format!(":.{root}/"))
                    });
            let output = Command::new("bash")
                .args(["-ec", &here])
                .current_dir(dir.path("."))
                .env(
                    "PATH",
                    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()),
                )
                .output()
                .unwrap();
            assert!(output.status.success(), "{here}: {output:?}");
            executed += 1;
        }
    }
    assert!(executed >= 8, "{executed} commands");
}
