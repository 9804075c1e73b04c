//! Processes and the machine, seen from outside: memory, processor time, and noise.

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::support::image::sha256;
use super::table::{Row, Unit};

/// The unit of processor time in `/proc`; it is the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Raises the number of files that we and our children may open to what is allowed.
pub(crate) fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a higher limit");
}

/// A whole number as a sample.
#[expect(
    clippy::cast_precision_loss,
    reason = "none of the numbers here has more than 52 bits"
)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// A duration as a sample.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The memory of a process that is in use right now, in MB of 1 000 000 bytes.
pub(crate) fn resident(pid: u32) -> f64 {
    memory(pid, "VmRSS:")
}

/// The part of it that is the process's own, without the program's pages.
pub(crate) fn anonymous(pid: u32) -> f64 {
    memory(pid, "RssAnon:")
}

/// The most memory that was in use since the process began, in MB.
pub(crate) fn peak(pid: u32) -> f64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let words = line.expect("a line about memory").trim();
    let kib = words.trim_end_matches(" kB").parse().expect("a number");
    float(kib) * 1024.0 / 1e6
}

/// Processor time used so far, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    ours: f64,
    larders: f64,
    everybodys: f64,
    at: Instant,
}

/// Who used how much of all processors in a while, in percent; a sample per run.
#[derive(Default)]
pub(crate) struct Shares {
    ours: Vec<f64>,
    larders: Vec<f64>,
    others: Vec<f64>,
}

impl Used {
    /// What this process, that one, and all together have used so far.
    pub(crate) fn now(larder: u32) -> Self {
        let stat = fs::read_to_string("/proc/stat").expect("processor times");
        let all: Vec<f64> = numbers(stat.lines().next().expect("a first line")).collect();
        Self {
            ours: of_process("self"),
            larders: of_process(&larder.to_string()),
            // user, nice, system, then idle and waiting, then interrupts and what others took.
            everybodys: (all[..3].iter().sum::<f64>() + all[5..8].iter().sum::<f64>())
                / TICKS_PER_SECOND,
            at: Instant::now(),
        }
    }
}

impl Shares {
    /// Adds what was used from one moment to another.
    pub(crate) fn add(&mut self, before: Used, after: Used) {
        let cores = available_parallelism().map_or(1.0, |cores| float(cores.get() as u64));
        let percent = (after.at - before.at).as_secs_f64() * cores / 100.0;
        let ours = (after.ours - before.ours) / percent;
        let larders = (after.larders - before.larders) / percent;
        let everybodys = (after.everybodys - before.everybodys) / percent;
        self.ours.push(ours);
        self.larders.push(larders);
        self.others.push((everybodys - ours - larders).max(0.0));
    }

    /// How the processors were shared, and whether there was a run that wanted more of them.
    pub(crate) fn rows(self) -> Vec<Row> {
        let runs = self.ours.iter().zip(&self.larders).zip(&self.others);
        let busy = runs.map(|((ours, larders), others)| ours + larders + others);
        let exhausted = busy.filter(|percent| *percent > 90.0).count() as u64;
        let row = |figure, samples| Row::new(figure, Unit::Percent, samples);
        vec![
            row("processors used by clients and hub", self.ours),
            row("processors used by larder", self.larders),
            row("processors used by everything else", self.others),
            Row::new(
                "runs in which the processors were the limit (> 90 % used)",
                Unit::Count,
                vec![float(exhausted)],
            ),
        ]
    }
}

/// The processor time that a process has used, in seconds: that of threads that are gone too.
pub(crate) fn used_by(pid: u32) -> f64 {
    of_process(&pid.to_string())
}

/// What this process has used, with the programs that it has waited for.
pub(crate) fn used_by_us() -> f64 {
    times("self").take(4).sum::<f64>() / TICKS_PER_SECOND
}

fn of_process(pid: &str) -> f64 {
    times(pid).take(2).sum::<f64>() / TICKS_PER_SECOND
}

/// In user mode and in the kernel, then the same of its children.
fn times(pid: &str) -> impl Iterator<Item = f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The name may contain anything but is the last thing in parentheses; the state follows.
    let (_, rest) = stat.rsplit_once(')').expect("a process's name");
    let times: Vec<f64> = numbers(rest).skip(10).collect();
    times.into_iter()
}

fn numbers(line: &str) -> impl Iterator<Item = f64> {
    line.split_whitespace().filter_map(|word| word.parse().ok())
}

/// What the machine does to things that always take the same time.
#[derive(Default)]
pub(crate) struct Noise {
    hashing: Vec<f64>,
    sleeping: Vec<f64>,
    starting: Vec<f64>,
}

impl Noise {
    /// Takes samples; called between the figures.
    pub(crate) fn listen(&mut self) {
        let bytes = vec![1; 2_000_000];
        for _ in 0..5 {
            self.hashing.push(timed(|| drop(black_box(sha256(&bytes)))));
            self.sleeping
                .push(timed(|| sleep(Duration::from_millis(1))));
            self.starting.push(timed(|| {
                Command::new("true").status().expect("a program");
            }));
        }
    }

    /// What was heard.
    pub(crate) fn rows(self) -> Vec<Row> {
        let row = |what, samples| Row::new(what, Unit::Milliseconds, samples);
        vec![
            row("hashing 2 MB", self.hashing),
            row("sleeping for 1 ms", self.sleeping),
            row("starting and ending `true`", self.starting),
        ]
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    milliseconds(started.elapsed())
}
