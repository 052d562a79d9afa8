//! Many partitions: what an idle one costs, and what many share.

use super::*;

const COUNT: i32 = 1000;

fn new_logs(storage: &Storage, config: &Rc<TopicConfig>) -> Vec<Log> {
    let path = Path::new("/data");
    let new = |partition| {
        storage.new_log(path, "topic", PartitionId(partition), TOPIC_ID, Rc::clone(config))
    };
    (0..COUNT).map(new).collect()
}

#[test]
fn a_partition_costs_the_disk_nothing_until_its_first_append() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let opened = open_some(&runtime, small_config(), StorageOptions::default(), 1).await;
        let opened = opened.unwrap();
        let storage = Storage::new(&runtime, StorageOptions::default());
        let before = shared.0.borrow().completions;
        let logs = new_logs(&storage, &small_config());
        for log in &logs {
            let read = log.read(Offset(0), 1, FirstBatch::Whole, Offset(0)).await.unwrap();
            assert!(read.batches.is_empty());
        }
        assert_eq!(storage.checkpoint().await.unwrap().len(), logs.len());
        for log in &logs[..logs.len() / 2] {
            log.delete().await.unwrap();
        }
        assert_eq!(storage.close().await.unwrap().len(), logs.len() / 2);
        assert_eq!(shared.0.borrow().completions, before);
        drop(opened);
    });
    assert_eq!(disk.names("/data"), [".lock"]);
}

#[test]
fn first_appends_and_deletions_of_many_partitions_share_the_syncs_above_them() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let opened = open_some(&runtime, small_config(), StorageOptions::default(), 1).await;
        let _opened = opened.unwrap();
        let storage = Storage::new(&runtime, StorageOptions::default());
        let logs = new_logs(&storage, &small_config());
        let syncs = || shared.0.borrow().directory_syncs.get("/data").copied().unwrap_or(0);
        let before = syncs();
        for log in &logs {
            log.append(&batch_of(&[vec![1; 8]]), &options(NOW)).unwrap();
        }
        for log in &logs {
            log.wait_durable(Offset(1)).await.unwrap();
        }
        let appended = syncs();
        assert!(appended - before <= logs.len() / 4, "{}", appended - before);
        let deleting = logs.iter().map(|log| {
            let log = log.clone();
            let deleting: crate::commit::Joined<'_, _> =
                Box::pin(async move { log.delete().await });
            deleting
        });
        for deleted in crate::commit::join_all(deleting.collect()).await {
            deleted.unwrap();
        }
        assert!(syncs() - appended <= logs.len() / 4, "{}", syncs() - appended);
        runtime.sleep(std::time::Duration::from_secs(10)).await;
    });
    assert_eq!(disk.names("/data"), [".lock"]);
}

#[test]
fn a_directory_that_was_not_finished_is_removed_and_any_other_is_left() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        for name in ["empty-0", "begun-0", "foreign-0"] {
            runtime.create_directory(&Path::new("/data").join(name)).await.unwrap();
        }
        for name in ["begun-0/partition.metadata.tmp", "foreign-0/00000000000000000000.log"] {
            let path = Path::new("/data").join(name);
            runtime::File::open(&runtime, path, runtime::OpenOptions::REPLACE).await.unwrap();
        }
        runtime.sync_directory(Path::new("/data")).await.unwrap();
    });
    let found = disk.run(|runtime| async move {
        let mode = OpenMode::MustExist;
        let directory = LogDirectory::open(&runtime, Path::new("/data"), mode).await.unwrap();
        directory.partitions().iter().map(|one| one.topic.clone()).collect::<Vec<_>>()
    });
    assert_eq!(found, ["foreign"]);
    assert_eq!(disk.names("/data"), [".lock", "foreign-0"]);
}

#[test]
fn a_hundred_logs_are_written_and_read_with_a_few_files_open() {
    const LOGS: i32 = 100;
    let disk = SharedDisk::new(5);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let storage_options = StorageOptions { open_files_max: 8, ..Default::default() };
        let opened = open_some(&runtime, small_config(), storage_options, LOGS).await.unwrap();
        shared.0.borrow_mut().open_max = 0;
        for round in 0..4 {
            // All at once: most of them wait in line for a file.
            let ends: Vec<Offset> = opened
                .logs
                .iter()
                .map(|log| log.append(&batch_of(&[vec![round; 30_000]]), &options(NOW)))
                .map(|appended| appended.unwrap().end())
                .collect();
            for (log, end) in opened.logs.iter().zip(ends) {
                log.wait_durable(end).await.unwrap();
            }
        }
        for log in &opened.logs {
            let values = read_all(log).await;
            let expected = (0..4).map(|round| (Offset(i64::from(round)), vec![round; 30_000]));
            assert!(values.into_iter().eq(expected));
        }
        // Rolled segments and small files beside them are open for a moment.
        let open_max = shared.0.borrow().open_max;
        assert!(open_max < 8 + 64, "{open_max} files were open at a time");
        stop(opened).await;
    });
}
