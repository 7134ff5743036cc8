use super::*;

fn file(target: &str, name: &str, content: &[u8]) -> ReleaseFile {
    ReleaseFile {
        target: target.to_owned(),
        name: name.to_owned(),
        size: content.len() as u64,
        sha256: hex(&Sha256::digest(content)),
        signature: "c2lnbmVk".to_owned(),
    }
}

fn release(version: &str, rollout: u8, files: Vec<ReleaseFile>) -> Release {
    Release {
        version: version.to_owned(),
        rollout,
        files,
    }
}

fn put(folder: &Path, releases: &[Release]) {
    let manifest = serde_json::json!({ "releases": releases });
    fs::write(folder.join(MANIFEST), manifest.to_string()).unwrap();
}

#[test]
fn a_rollout_reaches_its_share_of_machines_and_grows() {
    let linux = || vec![file("linux-x86_64", "ztna", b"x")];
    let at = |rollout| ReleaseManifest {
        releases: vec![
            release("0.2.0", rollout, linux()),
            release("0.1.0", 100, linux()),
        ],
    };
    let version = |manifest: &ReleaseManifest, machine| {
        choose(manifest, "linux-x86_64", machine).unwrap().version
    };
    assert_eq!(version(&at(99), None), "0.1.0", "new machines wait for all");
    assert_eq!(version(&at(100), None), "0.2.0");
    // Ids are of the time they are made at; these are always the same.
    let machines: Vec<MachineId> = (0..10_000_u128)
        .map(|n| MachineId(uuid::Uuid::from_u128((n << 64) | n)))
        .collect();
    let mut before = 0;
    for percent in [0, 1, 10, 50, 99, 100] {
        let manifest = at(percent);
        let next = machines
            .iter()
            .filter(|id| version(&manifest, Some(**id)) == "0.2.0");
        let count = next.count();
        let expected = usize::from(percent) * 100;
        assert!(count.abs_diff(expected) < 200, "{percent} %: {count}");
        assert!(count >= before);
        before = count;
    }
    // Who has got it, keeps it.
    let (few, more) = (at(10), at(50));
    let early = machines
        .iter()
        .filter(|id| version(&few, Some(**id)) == "0.2.0");
    for id in early {
        assert_eq!(version(&more, Some(*id)), "0.2.0");
    }
    // A release that is not built for a target is none for it.
    assert_eq!(choose(&at(100), "linux-riscv64", None), None);
}

#[test]
fn a_manifest_is_taken_with_all_of_its_files_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |root: &Path| Releases::open(root).err().map(|error| error.to_string());
    assert!(refused(root).unwrap().contains(MANIFEST));
    fs::create_dir(root.join("0.1.0")).unwrap();
    fs::write(root.join("0.1.0/ztna"), b"agent").unwrap();
    let good = file("linux-x86_64", "ztna", b"agent");
    put(root, &[release("0.1.0", 100, vec![good.clone()])]);
    assert_eq!(refused(root), None);
    fs::write(root.join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("0.1.0/link")).unwrap();
    let with = |change: &dyn Fn(&mut ReleaseFile)| {
        let mut file = good.clone();
        change(&mut file);
        file
    };
    for (bad, why) in [
        (with(&|f| f.name = "gone".to_owned()), "gone"),
        (with(&|f| f.size = 4), "5 bytes, and 4"),
        (with(&|f| f.sha256 = "0".repeat(64)), "not the manifest's"),
        (with(&|f| f.sha256 = "A".repeat(64)), "64 digits"),
        (with(&|f| f.name = "../secret".to_owned()), "no file's name"),
        (with(&|f| f.name = ".".to_owned()), "no file's name"),
        (with(&|f| f.name = "link".to_owned()), "leads out"),
        (with(&|f| f.target = "a b".to_owned()), "no file's name"),
        (with(&|f| f.signature = String::new()), "no signature"),
    ] {
        put(root, &[release("0.1.0", 100, vec![bad])]);
        let text = refused(root).unwrap();
        assert!(text.contains(why), "{why}: {text}");
    }
    for (bad, why) in [
        (release("0.1.0", 101, vec![]), "percentage"),
        (release("../0.1.0", 100, vec![]), "not one"),
        (release("", 100, vec![]), "not one"),
        (
            release("0.1.0", 100, vec![good; MAX_FILES + 1]),
            "more than",
        ),
    ] {
        put(root, &[bad]);
        let text = refused(root).unwrap();
        assert!(text.contains(why), "{why}: {text}");
    }
    fs::write(root.join(MANIFEST), r#"{"releases": [], "x": 1}"#).unwrap();
    assert!(refused(root).unwrap().contains("unknown field"));
    fs::write(root.join(MANIFEST), vec![b' '; MAX_MANIFEST as usize + 1]).unwrap();
    assert!(refused(root).unwrap().contains("larger than"));
}
