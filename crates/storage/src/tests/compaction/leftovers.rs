//! Starts on what a process left that died while it replaced segments.

use super::*;
use crate::testing::SharedDisk;

const DIRECTORY: &str = "/data/topic-0";

fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

/// A log of four segments, stopped, and the files that compaction makes of them.
fn prepared() -> (SharedDisk, BTreeMap<&'static str, Vec<u8>>) {
    let disk = SharedDisk::new(3);
    let before = disk.clone();
    let files = disk.run(|runtime| async move {
        let config = Rc::new(quiet_config());
        let opened = open(&runtime, config, StorageOptions::default()).await.unwrap();
        for round in 0..30u32 {
            let key = (round % 3).to_be_bytes();
            let value = vec![2; 1000];
            opened.log.append(&keyed(&[(&key, Some(&value))], PLAIN), &options(NOW)).unwrap();
            if round % 10 == 9 {
                settle(&opened.log).await;
            }
        }
        opened.log.append(&keyed(&[(b"x", Some(b"x"))], PLAIN), &options(NOW)).unwrap();
        settle(&opened.log).await;
        let old: Vec<(String, Vec<u8>)> = before
            .names(DIRECTORY)
            .into_iter()
            .filter(|name| name.ends_with("log") || name.ends_with("index"))
            .map(|name| (name.clone(), before.content(&path(&name)).unwrap()))
            .collect();
        opened.log.compact().await.unwrap().unwrap();
        let new = |suffix| before.content(&path(&format!("{:020}.{suffix}", 0))).unwrap();
        let files = BTreeMap::from([
            ("log", new("log")),
            ("index", new("index")),
            ("timeindex", new("timeindex")),
        ]);
        opened.storage.close().await.unwrap();
        // As it was before the round.
        for (name, content) in old {
            before.put(&path(&name), content);
        }
        files
    });
    (disk, files)
}

fn opened_data(disk: &SharedDisk) -> (BTreeMap<i64, Seen>, Vec<String>) {
    let data = disk.run(|runtime| async move {
        let config = Rc::new(quiet_config());
        let opened = open(&runtime, config, StorageOptions::default()).await.unwrap();
        let data = data_of(&opened.log).await;
        stop(opened).await;
        data
    });
    (data, disk.names(DIRECTORY))
}

#[test]
fn each_leftover_is_settled_as_apache_kafka_does() {
    let base = |suffix: &str| format!("{:020}.{suffix}", 0);
    let ends = ["log", "index", "timeindex"];
    let all = |end: &str| ends.map(|suffix| (suffix, base(&format!("{suffix}{end}")))).to_vec();
    // Which files are there, which old ones are gone, and whether the new segment is to win.
    let cases = [
        ("cleaned", all(".cleaned"), false, false),
        ("only its log", vec![("log", base("log.cleaned"))], false, false),
        (
            "half renamed",
            vec![("index", base("index.swap")), ("log", base("log.cleaned"))],
            false,
            false,
        ),
        (
            "half renamed, the log first",
            vec![("index", base("index.cleaned")), ("log", base("log.swap"))],
            false,
            false,
        ),
        ("swap, old ones there", all(".swap"), false, true),
        ("swap, old ones gone", all(".swap"), true, true),
        ("swap without indexes", vec![("log", base("log.swap"))], true, true),
        (
            "indexes not yet renamed",
            vec![
                ("log", base("log")),
                ("index", base("index.swap")),
                ("timeindex", base("timeindex.swap")),
            ],
            true,
            true,
        ),
        ("deleted", vec![("log", base("log.deleted"))], false, false),
    ];
    for (name, files, is_old_gone, is_new) in cases {
        let (disk, new) = prepared();
        if is_old_gone {
            for file in disk.names(DIRECTORY) {
                let is_old = file.ends_with(".log") || file.ends_with("index");
                if is_old && file.as_str() < "00000000000000000031" {
                    disk.remove(&path(&file));
                }
            }
        }
        for (suffix, file) in &files {
            disk.put(&path(file), new[suffix].clone());
        }
        let (data, names) = opened_data(&disk);
        let wanted = if is_new { 4 } else { 31 };
        assert_eq!(data.len(), wanted, "{name}");
        assert_eq!(data[&29].key, 2u32.to_be_bytes(), "{name}");
        let is_left = |name: &&String| {
            [".cleaned", ".swap", ".deleted", ".tmp"].iter().any(|end| name.ends_with(end))
        };
        assert_eq!(names.iter().find(is_left), None, "{name}");
        assert_eq!(opened_data(&disk).0, data, "{name}: a second start finds the same");
    }
}
