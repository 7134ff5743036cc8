//! What a process that was killed leaves behind, in a namespace.

use super::*;
use crate::testing::in_new_namespace;

const RP_FILTER: &str = "/proc/sys/net/ipv4/conf/all/rp_filter";

async fn said(program: &str, args: &[&str]) -> String {
    let mut command = tokio::process::Command::new(program);
    let output = command.args(args).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn source_check() -> String {
    std::fs::read_to_string(RP_FILTER)
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn nothing_of_a_killed_process_stays_once_nothing_is_wanted() {
    in_new_namespace(|| async {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        std::fs::write(RP_FILTER, "1").unwrap();
        check_sources(&dir, true, &mut Held::default()).unwrap();
        assert_eq!(source_check(), "2");
        let steering = Steering {
            routes: EXIT_ROUTES.into(),
            outside: BTreeSet::new(),
        };
        // Without the device no route leads into it.
        assert!(Steer::new(9).await.unwrap().set(&steering).await.is_err());
        dir.write(FORWARDING_FILE, b"before0").unwrap();
        masquerade("before0", &Behind::default()).await.unwrap();

        // The next process wants the same, and is killed too.
        check_sources(&dir, true, &mut Held::default()).unwrap();
        remove_leftovers(&dir).await;
        assert_eq!(source_check(), "1", "as it was before both");
        assert!(!said("nft", &["list", "tables"]).await.contains("ztna"));
        assert!(!said("ip", &["rule"]).await.contains("5240"));

        // Nothing is left to put back: what others set stays.
        std::fs::write(RP_FILTER, "2").unwrap();
        remove_leftovers(&dir).await;
        assert_eq!(source_check(), "2");
    });
}
