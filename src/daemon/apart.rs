//! Runs the process that makes a generation, out of the way of those who answer.
//!
//! Such a process wants a whole processor for a second or for many, and queries are answered on that processor too. So
//! it runs only while nothing else wants to (`SCHED_IDLE`, sched(7)): who wakes up for a query has the processor at
//! once. Niceness does not do that. It settles how much each gets, not when: a thread that has begun runs on to the next
//! tick of the clock, as long as 4 ms, and then the other threads of the process have their turns.
//!
//! A process that only takes what others leave starves when they leave nothing, as in a flood on every processor. One
//! that starves is ended, and another does its work with a share of its own. It cannot be raised itself: that takes
//! rights which a server should not have (`RLIMIT_NICE`, getrlimit(2)).

use std::fs;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    thread_schedule_policy,
};
use tracing::warn;

/// How often one looks whether the process starves.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a process has wanted to run when it is said how much of that time it got.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process starves that gets less than one part in this of the time that it wants.
const LEAST_SHARE: u32 = 10;

/// How a process shares the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// As the thread that starts it. For work that everybody waits for.
    Own,
    /// It takes what others leave, and only if that is next to nothing a share as [`Share::Own`].
    WhatIsLeft,
}

/// Runs `command` to its end; returns how it ended and what it wrote to standard output.
///
/// Work that takes a share in place of the leftovers has begun twice: it must not mind.
///
/// # Errors
///
/// When it cannot be started.
pub(super) fn run(command: &mut Command, share: Share) -> io::Result<(ExitStatus, Vec<u8>)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if share == Share::WhatIsLeft {
        match run_on_leftovers(command)? {
            Some(done) => return Ok(done),
            None => warn!("no processor has a moment to spare; the lists are compiled beside the answers"),
        }
    }
    let output = command.output()?;
    Ok((output.status, output.stdout))
}

/// `None` when others have left next to nothing.
fn run_on_leftovers(command: &mut Command) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    // A process has the policy of the thread that starts it, and this one must keep its own to look after the process.
    let started = thread::scope(|scope| scope.spawn(|| take_only_leftovers().then(|| command.spawn())).join());
    let Ok(Some(child)) = started else { return Ok(None) };
    let mut child = child?;
    let Some(mut output) = child.stdout.take() else { return Ok(None) };
    let (sender, ended) = sync_channel(1);
    thread::Builder::new().name("qalqan-output".to_owned()).spawn(move || {
        let mut written = Vec::new();
        // Nobody waits for it once the process was found to starve.
        let _ = sender.send(output.read_to_end(&mut written).map(|_| written));
    })?;
    let mut hunger = Hunger::default();
    loop {
        match ended.recv_timeout(LOOK_EVERY) {
            Ok(written) => return Ok(Some((child.wait()?, written?))),
            Err(RecvTimeoutError::Timeout) if !hunger.grows(Sight::of(&child)) => {}
            Err(_) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
    }
}

/// From now on this thread, and what it starts, runs while nothing else wants to; `false` if that is not allowed.
fn take_only_leftovers() -> bool {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // This sets the niceness to 0 as well, which an ordinary user may not do at a higher one. The niceness of an idle
    // thread has no meaning (sched(7)), so what has come of it counts, not whether all of it went well.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    thread_schedule_policy() == Ok(idle)
}

/// What can be seen of a process from outside.
#[derive(Debug, Clone, Copy, Default)]
struct Sight {
    /// Some thread of it runs or would like to.
    is_eager: bool,
    /// How long its threads have run.
    ran: Duration,
}

impl Sight {
    /// Reads proc_pid_stat(5). What cannot be seen is taken for a process that waits for something else.
    fn of(child: &Child) -> Self {
        let folder = format!("/proc/{}", child.id());
        // The name in parentheses may hold anything; count from behind it.
        let fields = |path: &str| {
            let stat = fs::read_to_string(path).ok()?;
            let (_, behind) = stat.rsplit_once(')')?;
            Some(behind.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let threads = fs::read_dir(format!("{folder}/task")).into_iter().flatten().flatten();
        let mut states = threads.filter_map(|thread| fields(&format!("{}/stat", thread.path().display())));
        let ticks = fields(&format!("{folder}/stat"))
            .map_or(0, |fields| fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum());
        Self {
            is_eager: states.any(|fields| fields.first().is_some_and(|state| state == "R")),
            // The kernel's ABI has the clock tick at a hundredth of a second.
            ran: Duration::from_millis(10 * ticks),
        }
    }
}

/// How a process fares that takes what others leave.
#[derive(Debug, Default)]
struct Hunger {
    wanted: Duration,
    /// How long it had run when it began to want.
    ran_before: Duration,
}

impl Hunger {
    /// Takes one look more; says whether the process starves.
    fn grows(&mut self, sight: Sight) -> bool {
        if sight.is_eager {
            self.wanted += LOOK_EVERY;
        }
        if self.wanted < PATIENCE {
            return false;
        }
        let got = sight.ran.saturating_sub(self.ran_before);
        let starves = got * LEAST_SHARE < self.wanted;
        *self = Self { wanted: Duration::ZERO, ran_before: sight.ran };
        starves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn what_a_process_says_is_heard_to_its_end() {
        for share in [Share::Own, Share::WhatIsLeft] {
            let mut command = shell("head -c 1000000 /dev/zero; sleep 0.3; echo end; exit 7");
            let (status, written) = run(&mut command, share).unwrap();
            assert_eq!((status.code(), written.len()), (Some(7), 1_000_004), "{share:?}");
            assert!(run(&mut Command::new("/nonexistent"), share).is_err(), "{share:?}");
        }
    }

    #[test]
    fn leftovers_are_taken_by_the_process_and_not_by_who_starts_it() {
        let policy = "cut -d ' ' -f 41 /proc/self/stat";
        for (share, expected) in [(Share::Own, "0\n"), (Share::WhatIsLeft, "5\n")] {
            let (_, written) = run(&mut shell(policy), share).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), expected, "SCHED_IDLE is 5, SCHED_OTHER 0 (sched(7))");
        }
    }

    #[test]
    fn a_process_starves_that_wants_to_run_and_does_not() {
        let looks = |is_eager, percent: u64, count: u64| {
            let mut hunger = Hunger::default();
            let each = LOOK_EVERY.as_millis() as u64;
            (1..=count)
                .any(|look| hunger.grows(Sight { is_eager, ran: Duration::from_millis(look * each * percent / 100) }))
        };
        assert!(looks(true, 0, 20), "within the patience");
        assert!(!looks(true, 0, 19), "not sooner");
        assert!(looks(true, 9, 20));
        assert!(!looks(true, 11, 1000));
        assert!(!looks(false, 0, 1000), "it waits for a download or a disk");
    }

    #[test]
    fn a_process_that_starves_gets_a_share() {
        // Both want the same processor.
        let allowed = fs::read_to_string("/proc/self/status").unwrap();
        let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
        let pinned = |script: &str| {
            let mut command = Command::new("taskset");
            command.args(["-c", allowed.split([',', '-']).next().unwrap(), "sh", "-c", script]);
            command
        };
        let mut flood = pinned("while :; do :; done").spawn().unwrap();
        let work = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; cut -d ' ' -f 41 /proc/self/stat";
        let (_, written) = run(&mut pinned(work), Share::WhatIsLeft).unwrap();
        flood.kill().unwrap();
        flood.wait().unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "0\n");
    }
}
