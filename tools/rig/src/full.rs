//! The rig `full`: a broker on a file system of 32 MiB that its producers fill.
//!
//! While it is full a produce is refused with an error that clients retry, consumers read on, groups
//! commit and topics are created in the space that is left to the broker itself; also after a
//! kill, and after a clean stop. A file of somebody else's takes even that, for a while. When space is
//! freed, by DeleteRecords and by the deletion of a topic, producers go on without a restart. What
//! was acknowledged is read back after each step.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::kafka::batch::{self, Identity};
use crate::kafka::{Connection, TopicPartition};
use crate::session::patiently;
use crate::{Options, keep_evidence};
use rig::aims::Aims;
use rig::broker::{Broker, Launch};
use rig::mounts::{FileSystem, LoopDevice, Mount};

const DISK_BYTES: u64 = 32 << 20;
/// What one record holds: few enough fill the disk, and many fit the last block of an allocation.
const VALUE_BYTES: usize = 30_000;
/// The disk is full when this many in a row were refused: an allocation ahead still takes some.
const REFUSED_IN_A_ROW: u32 = 20;
/// More records than the disk holds.
const RECORDS_MAX: usize = 5000;
/// KAFKA_STORAGE_ERROR: clients look up the leader and try again.
const STORAGE_ERROR: i16 = 56;
/// COORDINATOR_NOT_AVAILABLE, of the same kind.
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
/// Each in a partition of `__consumer_offsets` of its own, more or less.
const GROUPS: i64 = 12;
const COMMITS_A_GROUP: i64 = 25;
/// A broker that has space again takes records within so long.
const RESUMED_WITHIN: Duration = Duration::from_secs(20);

/// Old segments go a second after they may.
const SETTINGS: [&str; 2] =
    ["log.retention.check.interval.ms=1000", "log.initial.task.delay.ms=1000"];

const REFUSED: &str = "produces refused on a full disk";
const COMMITTED: &str = "offsets committed on a full disk";
const COMMITS_REFUSED: &str = "commits refused without the reserve";
const RESUMED: &str = "times that producers went on";

pub(crate) fn run(options: &Options) -> Result<u64, String> {
    let mut aims = Aims::default();
    let mut done = 0;
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        if options.file_system.is_some_and(|only| only != file_system) {
            continue;
        }
        let work = options.work_folder()?;
        if let Err(reason) = once(&options.launch, file_system, work.path(), &mut aims) {
            let reason = format!("{}: {reason}", file_system.name());
            return Err(keep_evidence(work, &reason));
        }
        done += 1;
    }
    aims.report(&[REFUSED, COMMITTED, COMMITS_REFUSED, RESUMED])?;
    Ok(done)
}

/// What was acknowledged of a partition: so many records, each with its offset as its number.
struct Kept {
    at: TopicPartition,
    log_start: i64,
    records: u32,
}

impl Kept {
    fn new(topic: &str, partition: i32) -> Self {
        let at = TopicPartition { topic: topic.to_owned(), partition };
        Self { at, log_start: 0, records: 0 }
    }

    fn note(&mut self, offset: i64) -> Result<(), String> {
        if offset != i64::from(self.records) {
            return Err(format!("{:?}: offset {offset}, not {}", self.at, self.records));
        }
        self.records += 1;
        Ok(())
    }
}

fn once(
    launch: &Launch,
    file_system: FileSystem,
    work: &Path,
    aims: &mut Aims,
) -> Result<(), String> {
    let image = work.join("disk");
    let make = File::create(&image).and_then(|file| file.set_len(DISK_BYTES));
    make.map_err(|error| format!("{}: {error}", image.display()))?;
    let device = LoopDevice::attach(&image)?;
    file_system.make_small(&device)?;
    let folder = work.join("mount");
    std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
    let mount = Mount::new(file_system, device, &folder)?;
    let mut launch = launch.clone();
    launch.settings = SETTINGS.map(str::to_owned).to_vec();
    let broker = Broker::start(&launch, &mount.folder().join("data"))?;
    let mut story =
        Story { launch: &launch, mount: &mount, broker: Some(broker), commits: 0, aims };
    let told = story.tell();
    let words = story.broker.as_ref().map_or_else(String::new, |broker| broker.last_words(30));
    told.map_err(|reason| format!("{reason}\n{words}"))?;
    println!("{}: held", file_system.name());
    Ok(())
}

struct Story<'a> {
    launch: &'a Launch,
    mount: &'a Mount,
    broker: Option<Broker>,
    /// How often every group has committed.
    commits: i64,
    aims: &'a mut Aims,
}

impl Story<'_> {
    fn tell(&mut self) -> Result<(), String> {
        let (fill, other, late) = ("full-fill", "full-other", "full-late");
        for (topic, partitions) in [(fill, 2), (other, 1), (late, 1)] {
            self.create_topic(topic, partitions)?;
        }
        let mut kept = [Kept::new(fill, 0), Kept::new(fill, 1), Kept::new(other, 0)];
        self.commit()?;
        self.fill(&mut kept)?;
        self.check_full(&kept, late)?;
        self.create_topic("full-made-on-a-full-disk", 3)?;
        self.take_the_reserve()?;
        self.check_full(&kept, late)?;
        for end in [Broker::kill, Broker::stop] {
            self.start_again(end)?;
            read_back(&mut self.connection()?, &kept)?;
            self.check_commits()?;
            // What the dead process had allocated ahead is free again.
            self.fill(&mut kept)?;
            self.check_full(&kept, late)?;
        }
        // DeleteRecords frees whole segments, which the next check of the retention removes.
        for one in &mut kept[..2] {
            let (error_code, log_start) = self.connection()?.delete_records(&one.at)?;
            if error_code != 0 {
                return Err(format!("delete records of {:?}: error {error_code}", one.at));
            }
            one.log_start = log_start;
        }
        self.resume(&mut kept, late)?;
        self.fill(&mut kept)?;
        self.check_full(&kept, "full-made-on-a-full-disk")?;
        let error_code = self.connection()?.delete_topic(fill)?;
        if error_code != 0 {
            return Err(format!("delete topic {fill}: error {error_code}"));
        }
        let kept = &mut kept[2..];
        self.resume(kept, "full-made-on-a-full-disk")?;
        self.start_again(Broker::stop)?;
        self.commit()?;
        read_back(&mut self.connection()?, kept)
    }

    fn connection(&self) -> Result<Connection, String> {
        Connection::open(self.broker.as_ref().ok_or("no broker runs")?.address)
    }

    fn start_again(
        &mut self,
        end: impl FnOnce(Broker) -> Result<(), String>,
    ) -> Result<(), String> {
        end(self.broker.take().ok_or("no broker runs")?)?;
        let broker = Broker::start(self.launch, &self.mount.folder().join("data"))
            .map_err(|reason| format!("a start on a full disk: {reason}"))?;
        self.aims.restarted(broker.ready_after);
        self.broker = Some(broker);
        Ok(())
    }

    fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), String> {
        let mut connection = self.connection()?;
        let settings = [
            ("internal.segment.bytes", (1 << 20).to_string()),
            ("file.delete.delay.ms", "0".to_owned()),
        ];
        let error_code = connection.create_topic(topic, partitions, &settings)?;
        if error_code != 0 {
            return Err(format!("create topic {topic}: error {error_code}"));
        }
        Ok(())
    }

    /// Produces to all of them in turn until nothing is taken any more.
    fn fill(&mut self, kept: &mut [Kept]) -> Result<(), String> {
        let mut connection = self.connection()?;
        let mut refused = 0;
        let count = kept.len();
        for index in 0..RECORDS_MAX {
            let one = &mut kept[index % count];
            match produce(&mut connection, &one.at, one.records)? {
                (0, offset) => {
                    one.note(offset)?;
                    refused = 0;
                }
                (STORAGE_ERROR, _) => {
                    self.aims.hit(REFUSED, 1);
                    refused += 1;
                }
                (error_code, _) => return Err(format!("produce: error {error_code}")),
            }
            if refused == REFUSED_IN_A_ROW {
                return Ok(());
            }
        }
        Err("the disk does not fill".to_owned())
    }

    /// What holds on a full disk.
    fn check_full(&mut self, kept: &[Kept], empty: &str) -> Result<(), String> {
        let mut connection = self.connection()?;
        let empty = TopicPartition { topic: empty.to_owned(), partition: 0 };
        for at in kept.iter().map(|one| &one.at).chain([&empty]) {
            let (error_code, _) = produce(&mut connection, at, 0)?;
            if error_code != STORAGE_ERROR {
                return Err(format!("a produce to {at:?} on a full disk: error {error_code}"));
            }
            self.aims.hit(REFUSED, 1);
        }
        read_back(&mut connection, kept)?;
        self.commit()?;
        self.aims.hit(COMMITTED, u64::try_from(GROUPS * COMMITS_A_GROUP).unwrap_or(0));
        Ok(())
    }

    /// Every group commits, and has committed what it did.
    fn commit(&mut self) -> Result<(), String> {
        let mut connection = self.connection()?;
        let at = committed();
        patiently(|| Ok((connection.find_coordinator("full-0")? == 0).then_some(())))?;
        for count in self.commits..self.commits + COMMITS_A_GROUP {
            for group in 0..GROUPS {
                let name = format!("full-{group}");
                let error_code = connection.commit_offset(&name, &at, count)?;
                if error_code != 0 {
                    return Err(format!("commit {count} of {name}: error {error_code}"));
                }
            }
        }
        self.commits += COMMITS_A_GROUP;
        self.check_commits()
    }

    fn check_commits(&self) -> Result<(), String> {
        let mut connection = self.connection()?;
        let at = committed();
        for group in 0..GROUPS {
            let found = connection.committed_offset(&format!("full-{group}"), &at)?;
            if found != (0, self.commits - 1) {
                return Err(format!("group {group} has {found:?}, not {}", self.commits - 1));
            }
        }
        Ok(())
    }

    /// Somebody else fills the disk to its last block: commits are refused until it is gone.
    fn take_the_reserve(&mut self) -> Result<(), String> {
        let path = self.mount.folder().join("of-somebody-else");
        let file = OpenOptions::new().create_new(true).write(true).open(&path);
        let mut file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        let block = vec![1; 4096];
        while file.write_all(&block).and_then(|()| file.sync_data()).is_ok() {}
        drop(file);
        let mut connection = self.connection()?;
        let at = committed();
        let mut refused = 0;
        for count in 0..COMMITS_A_GROUP * 20 {
            // What its log has left of its last block it may still use.
            match connection.commit_offset("full-0", &at, self.commits + count)? {
                0 => {}
                COORDINATOR_NOT_AVAILABLE => refused += 1,
                error_code => return Err(format!("a commit without space: error {error_code}")),
            }
        }
        self.aims.hit(COMMITS_REFUSED, refused);
        std::fs::remove_file(&path).map_err(|error| error.to_string())?;
        patiently(|| {
            Ok((connection.commit_offset("full-0", &at, self.commits)? == 0).then_some(()))
        })?;
        Ok(())
    }

    /// There is space again: producers are served without a restart.
    fn resume(&mut self, kept: &mut [Kept], empty: &str) -> Result<(), String> {
        let mut connection = self.connection()?;
        let started = Instant::now();
        let mut first = Kept::new(empty, 0);
        for one in kept.iter_mut().chain([&mut first]) {
            loop {
                match produce(&mut connection, &one.at, one.records)? {
                    (0, offset) => break one.note(offset)?,
                    (STORAGE_ERROR, _) if started.elapsed() < RESUMED_WITHIN => {
                        rig::interrupt::sleep(Duration::from_millis(100))?;
                    }
                    (error_code, _) => {
                        return Err(format!("{:?} does not go on: error {error_code}", one.at));
                    }
                }
            }
        }
        self.aims.hit(RESUMED, 1);
        println!("  producers went on after {:.1?}", started.elapsed());
        read_back(&mut connection, kept)
    }
}

/// What the groups commit offsets of.
fn committed() -> TopicPartition {
    TopicPartition { topic: "full-other".to_owned(), partition: 0 }
}

/// The record with this number, wholly determined by that.
fn value(number: u32) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(VALUE_BYTES, number.to_le_bytes()[0]);
    value
}

fn produce(
    connection: &mut Connection,
    at: &TopicPartition,
    number: u32,
) -> Result<(i16, i64), String> {
    let timestamp = crate::history::now_ms();
    let batch = batch::build(Identity::NONE, timestamp, &[value(number)]);
    let correlation = connection.produce(&[(at.clone(), batch)])?;
    let answers = connection.produced(correlation)?;
    let [answer] = &answers[..] else { return Err("no single answer".to_owned()) };
    Ok((answer.error_code, answer.base_offset))
}

/// Everything acknowledged is served, at its offset.
fn read_back(connection: &mut Connection, kept: &[Kept]) -> Result<(), String> {
    for one in kept {
        let mut next = one.log_start;
        while next < i64::from(one.records) {
            let fetched = connection.fetch(&[(one.at.clone(), next)], 1000)?;
            let [fetched] = &fetched[..] else { return Err("no single answer".to_owned()) };
            let batches = batch::parse_all(&fetched.records)?;
            if fetched.error_code != 0 || batches.is_empty() {
                let error_code = fetched.error_code;
                return Err(format!("{:?}: error {error_code} at offset {next}", one.at));
            }
            for batch in batches {
                let number = u32::try_from(next).expect("few records");
                if batch.base_offset != next || batch.values != [value(number)] {
                    return Err(format!("{:?}: another record at offset {next}", one.at));
                }
                next += 1;
            }
        }
    }
    Ok(())
}
