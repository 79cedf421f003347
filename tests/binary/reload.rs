//! What goes wrong while lists are read again: whatever it is, the last good generation stays in force.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::misuse::{home, is_blocked};
use crate::server::{Server, eventually};

/// The process that compiles for `server`, when there is one.
fn compiler_of(server: &Server) -> Option<Pid> {
    let status = server.process_status();
    let parent = status.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut ids = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let id = ids.find(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let is_child = status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|id| id.trim() == parent));
        is_child && fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains("rebuild"))
    })?;
    Pid::from_raw(id.parse().unwrap())
}

#[test]
fn a_compilation_that_is_killed_changes_nothing() {
    let home = home();
    let server = home.serve();
    home.write("ads.txt", "ads.example\nmore.example\n");
    let reload = || home.run(&["reload", "--control", &server.control.to_string()]);
    // While somebody else reads lists, the process waits, and can be hit.
    let lock = File::create(home.path("state/lists.lock")).unwrap();
    lock.lock().unwrap();
    let reloaded = std::thread::scope(|scope| {
        let reload = scope.spawn(reload);
        eventually("there is a process that compiles", || compiler_of(&server).is_some());
        kill_process(compiler_of(&server).unwrap(), Signal::KILL).unwrap();
        lock.unlock().unwrap();
        reload.join().unwrap()
    });
    let told = String::from_utf8_lossy(&reloaded.stderr);
    assert!(!reloaded.status.success() && told.contains("has ended with signal: 9"), "{reloaded:?}");
    assert!(is_blocked(&server, "ads.example") && !is_blocked(&server, "more.example"));
    assert!(reload().status.success());
    assert!(is_blocked(&server, "ads.example") && is_blocked(&server, "more.example"));
}

#[test]
fn a_server_that_is_killed_in_a_reload_starts_with_a_whole_generation() {
    let home = home();
    for round in 0..12 {
        let mut server = home.serve();
        assert!(is_blocked(&server, "ads.example"));
        if round > 0 {
            assert!(is_blocked(&server, &format!("round{}.example", round - 1)), "round {round}");
        }
        home.write("ads.txt", &format!("ads.example\nround{round}.example\n"));
        server.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(10 * round));
        server.signal(Signal::KILL);
        server.wait();
    }
}

#[test]
fn a_disk_that_takes_no_more_changes_nothing() {
    let home = home();
    // No file may grow beyond 64 blocks of 512 octets; what goes on writing is told so (setrlimit(2)).
    let serve = home.command(&["serve"]);
    // Nor is there room for its log.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\" 2>/dev/full"]).env_remove("XDG_STATE_HOME");
    limited.arg(serve.get_program()).args(serve.get_args());
    let server = Server::start(limited);
    let reload = || home.run(&["reload", "--control", &server.control.to_string()]);

    let many: String = (0..20_000).map(|number| format!("name-{number}.example\n")).collect();
    home.write("ads.txt", &many);
    let reloaded = reload();
    let told = String::from_utf8_lossy(&reloaded.stdout) + String::from_utf8_lossy(&reloaded.stderr);
    assert!(told.contains("File too large"), "{reloaded:?}");
    assert!(is_blocked(&server, "ads.example") && !is_blocked(&server, "name-7.example"));

    home.write("ads.txt", "ads.example\nmore.example\n");
    assert!(reload().status.success());
    assert!(is_blocked(&server, "more.example"));
}
