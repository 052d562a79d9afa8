//! Files and directories.

use std::{panic::AssertUnwindSafe, path::Path, process::Command};

use bytes::Bytes;
use runtime::{
    Access, Buffer, BufferPool, Cache, Create, DirectoryEntry, Errno, File, FileKind, OpenOptions,
    Runtime,
};
use tempfile::TempDir;

use crate::harness::{drivers, executor, on_each_driver, pattern, run, start_and_drop};

const DIRECT: OpenOptions =
    OpenOptions { create: Create::IfMissing, access: Access::ReadWrite, cache: Cache::Direct };
const BUFFERED: OpenOptions = OpenOptions { cache: Cache::Buffered, ..DIRECT };

/// Tests of direct I/O need a file system that has it: the build's directory, not a tmpfs.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

async fn read(file: &File, runtime: &Runtime, position: u64, length: usize) -> Buffer {
    file.read(position, length, runtime.pool().take(length)).await.unwrap()
}

#[test]
fn a_name_is_opened_as_the_create_mode_says() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let there = directory.path().join("there");
        let missing = directory.path().join("missing");
        let cases = [
            (Create::Never, &there, Ok(4)),
            (Create::Never, &missing, Err(Errno::NOT_FOUND)),
            (Create::IfMissing, &there, Ok(4)),
            (Create::IfMissing, &missing, Ok(0)),
            (Create::New, &there, Err(Errno::EXISTS)),
            (Create::New, &missing, Ok(0)),
            (Create::Truncate, &there, Ok(0)),
            (Create::Truncate, &missing, Ok(0)),
        ];
        for cache in [Cache::Buffered, Cache::Direct] {
            for (create, path, expected) in cases {
                std::fs::write(&there, "text").unwrap();
                let options = OpenOptions { create, access: Access::ReadWrite, cache };
                let opened = File::open(&runtime, path.clone(), options).await;
                assert_eq!(opened.map(|file| file.info().length), expected, "{options:?}");
                let _ = std::fs::remove_file(&missing);
            }
        }
    });
}

#[test]
fn slices_are_written_one_behind_the_other() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        for (name, options) in [("direct", DIRECT), ("buffered", BUFFERED)] {
            let file = File::open(&runtime, directory.path().join(name), options).await.unwrap();
            let mut chunk = runtime.pool().take_append(64 << 10);
            for seed in 0..4 {
                chunk.append(&pattern(seed, 4096));
            }
            let slices = vec![chunk.slice(8192..16384), chunk.slice(0..4096)];
            assert_eq!(file.write(4096, slices).await, Ok(12288), "{name}");
            file.sync().await.unwrap();
            let expected = [[0; 4096].to_vec(), pattern(2, 4096), pattern(3, 4096)].concat();
            assert_eq!(read(&file, &runtime, 0, 12288).await[..], expected, "{name}");
            assert_eq!(read(&file, &runtime, 12288, 4096).await[..], pattern(0, 4096), "{name}");
            file.close().await;
        }
    });
}

#[test]
fn many_small_slices_are_written_in_one_operation() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let file = File::open(&runtime, directory.path().join("f"), BUFFERED).await.unwrap();
        let content = Bytes::from(pattern(0, 3000));
        let slices = (0..1000).map(|index| content.slice(index * 3..index * 3 + 3)).collect();
        assert_eq!(file.write(7, slices).await, Ok(3000));
        assert_eq!(read(&file, &runtime, 7, 3000).await[..], content);
    });
}

/// A driver may register memory that it writes from or reads into more than once: what it does has
/// to be the same before and after, and when that memory has gone and other memory is in its place.
#[test]
fn memory_that_is_used_again_is_written_and_read_as_the_first_time() {
    for (name, open) in drivers() {
        for cached_bytes_max in [0, 16 << 20] {
            eprintln!("driver {name}, {cached_bytes_max} bytes cached");
            let pool = BufferPool::new(cached_bytes_max);
            run(&mut executor(open, pool), |runtime| async move {
                let directory = directory();
                for (name, options) in [("direct", DIRECT), ("buffered", BUFFERED)] {
                    let path = directory.path().join(name);
                    let file = File::open(&runtime, path, options).await.unwrap();
                    for round in 0..6 {
                        write_and_read_again(&runtime, &file, round).await;
                    }
                }
            });
        }
    }
}

/// Writes from one chunk and reads into one buffer, more than once each.
async fn write_and_read_again(runtime: &Runtime, file: &File, round: u8) {
    let mut chunk = runtime.pool().take_append(256 << 10);
    chunk.append(&pattern(round, 100_000));
    let mut buffer = runtime.pool().take(200 << 10);
    for position in [0, 1 << 20, 4096] {
        let slices = vec![chunk.slice(0..40_960), chunk.padded_block(98_304..100_000)];
        assert_eq!(file.write(position, slices).await, Ok(45_056));
        assert_eq!(file.write(position + 45_056, vec![chunk.slice(0..8192)]).await, Ok(8192));
        let expected = [
            &chunk.slice(0..40_960)[..],
            &chunk.slice(98_304..100_000),
            &[0; 2400],
            &chunk.slice(0..8192),
        ]
        .concat();
        buffer = file.read(position, 53_248, buffer).await.unwrap();
        assert_eq!(buffer[..], expected, "round {round}, at {position}");
    }
    // Slices of different memory, and of memory that is no pool's.
    let (zeros, other) = (Bytes::from_static(&ZEROS.0), pattern(round, 4096));
    let slices = vec![chunk.slice(4096..8192), zeros, buffer.freeze().slice(0..4096)];
    assert_eq!(file.write(8192, slices).await, Ok(12_288));
    let expected = [&chunk.slice(4096..8192)[..], &[0; 4096], &other].concat();
    assert_eq!(read(file, runtime, 8192, 12_288).await[..], expected, "round {round}");
}

#[repr(align(4096))]
struct Zeros([u8; 4096]);

static ZEROS: Zeros = Zeros([0; 4096]);

#[test]
fn reads_are_short_only_at_the_end_of_the_file() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let path = directory.path().join("f");
        std::fs::write(&path, pattern(0, 10_000)).unwrap();
        for options in [DIRECT, BUFFERED] {
            let file = File::open(&runtime, path.clone(), options).await.unwrap();
            for (position, length, expected) in
                [(0, 8192, 8192), (0, 16384, 10_000), (8192, 4096, 1808), (12288, 4096, 0)]
            {
                let got = read(&file, &runtime, position, length).await;
                assert_eq!(got.len(), expected, "{options:?} {length} bytes at {position}");
                let start = usize::try_from(position).unwrap().min(10_000);
                assert_eq!(got[..], pattern(0, 10_000)[start..start + expected]);
            }
        }
    });
}

#[test]
fn allocated_space_reads_as_zeros_and_a_cut_shortens_it() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let file = File::open(&runtime, directory.path().join("f"), DIRECT).await.unwrap();
        file.allocate(0, 1 << 20).await.unwrap();
        assert_eq!(file.describe().await.unwrap().length, 1 << 20);
        let end = read(&file, &runtime, (1 << 20) - 4096, 4096).await;
        assert_eq!(end[..], [0; 4096]);
        file.set_length(5000).await.unwrap();
        assert_eq!(file.describe().await.unwrap().length, 5000);
        assert_eq!(read(&file, &runtime, 4096, 4096).await.len(), 904);
        file.set_length(8192).await.unwrap();
        assert_eq!(read(&file, &runtime, 4096, 4096).await[..], [0; 4096]);
    });
}

#[test]
fn a_description_is_that_of_the_file() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let path = directory.path().join("f");
        let file = File::open(&runtime, path.clone(), DIRECT).await.unwrap();
        let info = file.info();
        assert_eq!(info.direct, info.alignment > 1);
        assert!(4096u32.is_multiple_of(info.alignment));
        let age_ms = runtime.wall_clock_ms() - info.modified_ms;
        assert!((-60_000..60_000).contains(&age_ms), "modified {age_ms} ms ago");
        let buffered = File::open(&runtime, path, BUFFERED).await.unwrap();
        assert!(!buffered.info().direct);
        assert_eq!(buffered.info().alignment, 1);
        assert_eq!(buffered.info().device, info.device);
    });
}

#[test]
fn a_locked_file_is_refused_to_others_until_it_is_closed() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let path = directory.path().join(".lock");
        let first = File::open(&runtime, path.clone(), BUFFERED).await.unwrap();
        let second = File::open(&runtime, path, BUFFERED).await.unwrap();
        first.lock().await.unwrap();
        first.lock().await.unwrap();
        assert_eq!(second.lock().await, Err(Errno::WOULD_BLOCK));
        first.close().await;
        second.lock().await.unwrap();
    });
}

#[test]
fn names_come_sorted_with_their_kinds() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(runtime.list_directory(directory.path()).await, Ok(vec![]));
        runtime.create_directory(&at("b")).await.unwrap();
        for name in ["c", "a", "Z", "ä"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        runtime.sync_directory(directory.path()).await.unwrap();
        let file = FileKind::File;
        let expected = [
            ("Z", file),
            ("a", file),
            ("b", FileKind::Directory),
            ("c", file),
            ("link", FileKind::Other),
            ("ä", file),
        ];
        let expected =
            expected.map(|(name, kind)| DirectoryEntry { name: name.to_owned(), kind }).to_vec();
        assert_eq!(runtime.list_directory(directory.path()).await, Ok(expected));
    });
}

#[test]
fn a_file_system_tells_its_room() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let space = runtime.space(directory.path()).await.unwrap();
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes, "{space:?}");
        let missing = directory.path().join("missing");
        assert_eq!(runtime.space(&missing).await, Err(Errno::NOT_FOUND));
    });
}

#[test]
fn a_rename_replaces_and_a_removed_name_is_gone() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("old"), "old").unwrap();
        std::fs::write(at("new"), "new").unwrap();
        runtime.rename(&at("new"), &at("old")).await.unwrap();
        assert_eq!(runtime.read_file(&at("old"), 100).await.unwrap(), b"new");
        runtime.replace_file(&at("old"), b"newer".to_vec()).await.unwrap();
        assert_eq!(runtime.read_file(&at("old"), 5).await.unwrap(), b"newer");
        assert_eq!(runtime.read_file(&at("old"), 4).await, Err(Errno::INVALID));
        runtime.remove_file(&at("old")).await.unwrap();
        assert_eq!(runtime.list_directory(directory.path()).await, Ok(vec![]));
    });
}

#[test]
fn refusals_carry_the_system_s_error() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("full")).unwrap();
        std::fs::write(at("full/file"), "").unwrap();
        let missing = at("missing");
        let not_a_directory = Errno(libc_errno("ENOTDIR"));
        assert_eq!(runtime.remove_file(&missing).await, Err(Errno::NOT_FOUND));
        assert_eq!(runtime.remove_directory(&missing).await, Err(Errno::NOT_FOUND));
        assert_eq!(
            runtime.remove_directory(&at("full")).await,
            Err(Errno(libc_errno("ENOTEMPTY")))
        );
        assert_eq!(runtime.rename(&missing, &at("file")).await, Err(Errno::NOT_FOUND));
        assert_eq!(runtime.create_directory(&at("full")).await, Err(Errno::EXISTS));
        assert_eq!(runtime.create_directory(&missing.join("x")).await, Err(Errno::NOT_FOUND));
        assert_eq!(runtime.sync_directory(&missing).await, Err(Errno::NOT_FOUND));
        assert_eq!(runtime.list_directory(&missing).await, Err(Errno::NOT_FOUND));
        assert_eq!(runtime.list_directory(&at("file")).await, Err(not_a_directory));
        let with_zero = Path::new("a\0b");
        assert_eq!(runtime.remove_file(with_zero).await, Err(Errno::INVALID));
    });
}

/// Numbers that the runtime has no names for.
fn libc_errno(name: &str) -> i32 {
    match name {
        "ENOTDIR" => 20,
        "EFBIG" => 27,
        "ENOTEMPTY" => 39,
        _ => panic!("no number for {name}"),
    }
}

#[test]
fn a_full_device_refuses_a_write() {
    on_each_driver(|runtime| async move {
        let options = OpenOptions { create: Create::Never, ..BUFFERED };
        let full = File::open(&runtime, "/dev/full", options).await.unwrap();
        let written = full.write_all(0, Bytes::from_static(b"text")).await;
        assert_eq!(written, Err(Errno::NO_SPACE));
    });
}

const LIMITED: &str = "CONFORMANCE_FILE_SIZE_IS_LIMITED";

/// The limit holds for a whole process: the test runs itself again in one of its own.
#[test]
fn a_write_over_the_size_limit_is_short_and_the_next_refused() {
    if std::env::var_os(LIMITED).is_none() {
        let name = "files::a_write_over_the_size_limit_is_short_and_the_next_refused";
        let status = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(LIMITED, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    on_each_driver(|runtime| async move {
        let directory = directory();
        let file = File::open(&runtime, directory.path().join("f"), BUFFERED).await.unwrap();
        let slices = vec![Bytes::from(pattern(0, 100_000)), Bytes::from(pattern(1, 100_000))];
        let written = file.write(0, slices.clone()).await.unwrap();
        assert!(0 < written && written < 200_000, "{written}");
        assert_eq!(usize::try_from(file.describe().await.unwrap().length), Ok(written));
        let position = u64::try_from(written).unwrap();
        assert_eq!(file.write(position, slices).await, Err(Errno(libc_errno("EFBIG"))));
        assert_eq!(read(&file, &runtime, 0, 10).await[..], pattern(0, 10));
    });
}

#[test]
fn a_write_that_nobody_waits_for_stays_in_its_file() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        for round in 0..100u8 {
            let path = directory.path().join(format!("left-{round}"));
            let left = File::open(&runtime, path, BUFFERED).await.unwrap();
            for index in 0..8 {
                let content = Bytes::from(pattern(round, 10_000));
                start_and_drop(left.write(index * 10_000, vec![content])).await;
            }
            drop(left);
            // It may get the number of the one that is being closed.
            let path = directory.path().join(format!("next-{round}"));
            let next = File::open(&runtime, path, BUFFERED).await.unwrap();
            next.write_all(0, Bytes::from_static(b"mine")).await.unwrap();
            assert_eq!(next.describe().await.unwrap().length, 4, "round {round}");
        }
    });
}

#[test]
fn operations_on_many_files_run_together() {
    on_each_driver(|runtime| async move {
        let directory = directory();
        let (done, all_done) = runtime::local::oneshot();
        let done = std::rc::Rc::new(std::cell::RefCell::new((64, Some(done))));
        for index in 0..64u8 {
            let path = directory.path().join(format!("{index}"));
            let (runtime_of_task, done) = (runtime.clone(), done.clone());
            runtime.spawn("writer", runtime::TaskQueue::Foreground, async move {
                let runtime = runtime_of_task;
                let file = File::open(&runtime, path, BUFFERED).await.unwrap();
                file.write_all(100, Bytes::from(pattern(index, 50_000))).await.unwrap();
                file.sync().await.unwrap();
                assert_eq!(read(&file, &runtime, 100, 50_000).await[..], pattern(index, 50_000));
                let (left, sender) = &mut *done.borrow_mut();
                *left -= 1;
                if *left == 0 {
                    sender.take().unwrap().send(());
                }
            });
        }
        assert_eq!(all_done.receive().await, Some(()));
    });
}

#[test]
fn two_writes_to_the_same_bytes_in_flight_stop_the_program() {
    assert!(stops(async |runtime| {
        let directory = directory();
        let file = File::open(&runtime, directory.path().join("f"), BUFFERED).await.unwrap();
        let content = Bytes::from(pattern(0, 4096));
        let first = file.write(0, vec![content.clone()]);
        let _ = crate::harness::both(first, file.write(4000, vec![content.clone()])).await;
    }));
}

/// True if the test's program was stopped by an assertion.
fn stops(test: impl AsyncFnOnce(Runtime) + Copy + 'static) -> bool {
    drivers().into_iter().all(|(_, open)| {
        let mut executor = executor(open, BufferPool::new(1 << 20));
        let test = AssertUnwindSafe(|| run(&mut executor, move |runtime| test(runtime)));
        std::panic::catch_unwind(test).is_err()
    })
}

#[test]
fn an_unaligned_direct_operation_stops_the_program() {
    assert!(stops(async |runtime| {
        let directory = directory();
        let file = File::open(&runtime, directory.path().join("f"), DIRECT).await.unwrap();
        assert!(file.info().direct, "the build's directory has no direct I/O");
        let _ = file.read(100, 4096, runtime.pool().take(4096)).await;
    }));
    assert!(stops(async |runtime| {
        let directory = directory();
        let file = File::open(&runtime, directory.path().join("f"), DIRECT).await.unwrap();
        assert!(file.info().direct, "the build's directory has no direct I/O");
        let _ = file.write(0, vec![Bytes::from_static(b"short")]).await;
    }));
}
