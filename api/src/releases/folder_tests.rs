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
        installers: Vec::new(),
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
    let refused = |root: &Path| read(root, None).err().map(|error| error.to_string());
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
            release("0.1.0", 100, vec![good.clone(); MAX_FILES + 1]),
            "more than",
        ),
        (
            release("0.1.0", 100, vec![good.clone(), good.clone()]),
            "two files for linux-x86_64",
        ),
    ] {
        put(root, &[bad]);
        let text = refused(root).unwrap();
        assert!(text.contains(why), "{why}: {text}");
    }
    let twice = || release("0.1.0", 100, vec![good.clone()]);
    put(root, &[twice(), twice()]);
    assert!(refused(root).unwrap().contains("two releases 0.1.0"));
    fs::write(root.join(MANIFEST), r#"{"releases": [], "x": 1}"#).unwrap();
    assert!(refused(root).unwrap().contains("unknown field"));
    fs::write(root.join(MANIFEST), vec![b' '; MAX_MANIFEST as usize + 1]).unwrap();
    assert!(refused(root).unwrap().contains("larger than"));
}

#[test]
fn the_highest_version_is_the_newest_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let versions = ["0.9.1", "0.10.0-rc.1", "0.10.0", "0.2.0"];
    let releases = versions.map(|version| {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("ztna"), b"agent").unwrap();
        release(version, 100, vec![file("linux-x86_64", "ztna", b"agent")])
    });
    put(root, &releases);
    let (_, manifest) = read(root, None).unwrap();
    let order: Vec<&str> = manifest
        .releases
        .iter()
        .map(|release| release.version.as_str())
        .collect();
    assert_eq!(order, ["0.10.0", "0.10.0-rc.1", "0.9.1", "0.2.0"]);
}

#[test]
fn what_was_not_taken_is_tried_again_although_the_manifest_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let releases = Releases::open(root, None).unwrap();
    assert!(!releases.is_sound(), "there is nothing");
    assert!(releases.manifest().is_none());
    // The manifest came before its file.
    put(
        root,
        &[release(
            "0.1.0",
            100,
            vec![file("linux-x86_64", "ztna", b"agent")],
        )],
    );
    let now = Instant::now();
    releases.look(now);
    assert!(!releases.is_sound());
    fs::create_dir(root.join("0.1.0")).unwrap();
    fs::write(root.join("0.1.0/ztna"), b"agent").unwrap();
    releases.look(now);
    assert!(!releases.is_sound(), "it is not hashed all the time");
    releases.look(now + RETRY_PERIOD);
    assert!(releases.is_sound());
    let taken = releases.manifest().unwrap();
    // One that is bad leaves those of before in force.
    put(root, &[release("0.2.0", 101, vec![])]);
    releases.look(now + RETRY_PERIOD);
    assert!(!releases.is_sound());
    assert_eq!(releases.manifest().unwrap(), taken);
}
