//! Lists from the web: a server with a certificate of a private authority, and what may go wrong with it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use parking_lot::Mutex;
use rustix::process::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::{Home, Server, ede, eventually};
use crate::tls;

/// What the server says to a request, given as its lines in lower case; nothing: it goes on saying nothing.
type Answer = Box<dyn FnMut(&str) -> Option<Vec<u8>> + Send>;

/// A web server on a loopback address, for as long as the test runs.
struct Web {
    address: SocketAddr,
    /// The certificate of the authority that vouches for it.
    authority: String,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start() -> Self {
        let (config, authority) = tls::server("127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Self {
            address: listener.local_addr().unwrap(),
            authority,
            answer: Arc::new(Mutex::new(Box::new(|_| None))),
            requests: Arc::default(),
        };
        let (answer, requests) = (web.answer.clone(), web.requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, answer, requests) = (config.clone(), answer.clone(), requests.clone());
                // A client that does not trust us hangs up in the middle.
                std::thread::spawn(move || serve(stream, config, &answer, &requests).ok());
            }
        });
        web
    }

    /// Says this from now on.
    fn says(&self, answer: impl FnMut(&str) -> Option<Vec<u8>> + Send + 'static) {
        *self.answer.lock() = Box::new(answer);
    }

    fn last_request(&self) -> String {
        self.requests.lock().last().cloned().unwrap_or_default()
    }

    /// A configuration with its list, and with `more` keys of that list.
    fn home(&self, more: &str) -> Home {
        let home = Home::new(&format!(
            "[[list]]\nname = \"far\"\nsource = \"https://{}/list.txt\"\nformat = \"domains\"\ntimeout = \"3s\"\n\
             tls-ca-files = [\"ca.pem\"]\n{more}",
            self.address
        ));
        home.write("ca.pem", &self.authority);
        home
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: &Mutex<Answer>,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut request = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        request += &line.to_ascii_lowercase();
    }
    requests.lock().push(request.clone());
    let said = answer.lock()(&request);
    let stream = reader.get_mut();
    match said {
        Some(octets) => {
            stream.write_all(&octets)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
        None => {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }
    }
}

/// A whole list.
fn list(body: &str, headers: &str) -> Option<Vec<u8>> {
    Some(
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into(),
    )
}

/// Anything else, without a body.
fn other(status: &str, headers: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n").into())
}

fn is_blocked(server: &Server, name: &str) -> bool {
    ede(&server.ask(name, RecordType::A)).is_some_and(|(code, _)| code == 15)
}

#[test]
fn a_list_from_the_web_is_enforced_and_asked_after_by_what_its_server_said_of_it() {
    let web = Web::start();
    let facts = "ETag: \"v1\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n";
    web.says(move |_| list("first.example\n", facts));
    let home = web.home("");
    let server = home.serve();
    assert!(is_blocked(&server, "first.example"));
    assert!(!web.last_request().contains("if-none-match"));

    let control = server.control.to_string();
    let reload = || home.run(&["reload", "--control", &control]);
    web.says(|_| other("304 Not Modified", ""));
    assert!(reload().status.success());
    let request = web.last_request();
    assert!(request.contains("if-none-match: \"v1\"\r\n"), "{request}");
    assert!(request.contains("if-modified-since: sun, 22 nov 2026"), "{request}");
    assert!(is_blocked(&server, "first.example"));

    web.says(|request| match request.starts_with("get /list.txt ") {
        true => other("302 Found", "Location: /moved.txt\r\n"),
        false => list("second.example\n", ""),
    });
    assert!(reload().status.success());
    assert!(is_blocked(&server, "second.example") && !is_blocked(&server, "first.example"));
}

#[test]
fn a_download_that_goes_wrong_leaves_the_last_good_copy_in_force() {
    let web = Web::start();
    web.says(|_| list("first.example\n", ""));
    let home = web.home("max-bytes = 100\n");
    let mut server = home.serve();
    let away = format!("Location: http://{}/list.txt\r\n", web.address);
    let around = format!("Location: https://{}/list.txt\r\n", web.address);
    let chunked = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nsecond.example\n";
    let short = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\nsecond.example\n";
    let cases: [(&str, Option<Vec<u8>>, &str); 11] = [
        ("no such list", other("404 Not Found", ""), "404"),
        ("a fault", other("503 Service Unavailable", ""), "503"),
        ("nothing to read", other("204 No Content", ""), "204"),
        ("a body that breaks off", Some(short.into()), "list.txt"),
        ("chunks that break off", Some(chunked.into()), "list.txt"),
        ("no HTTP", Some(b"220 mail.example ESMTP\r\n".to_vec()), "list.txt"),
        ("too much", list(&"second.example\n".repeat(10), ""), "max-bytes"),
        ("a web page", list("<!DOCTYPE html><html><body>Sorry</body></html>\n", ""), "far"),
        ("a way that is not safe", other("302 Found", &away), "http"),
        ("a way around and around", other("302 Found", &around), "redirect"),
        ("silence", None, "timeout"),
    ];
    for (what, said, complaint) in cases {
        web.says(move |_| said.clone());
        let reload = home.run(&["reload", "--control", &server.control.to_string()]);
        let errors = String::from_utf8_lossy(&reload.stderr);
        assert_eq!(reload.status.code(), Some(1), "{what}: {reload:?}");
        assert!(errors.contains("far") && errors.contains(complaint), "{what}: {errors}");
        assert!(is_blocked(&server, "first.example") && !is_blocked(&server, "second.example"), "{what}");
    }
    assert_eq!(server.metric("qalqan_reloads_total{result=\"failed\"}"), 11.0);

    server.signal(Signal::TERM);
    server.wait();
    let server = home.serve();
    assert!(is_blocked(&server, "first.example"), "kept across a restart, with the list's server out of order");
    web.says(|_| list("second.example\n", ""));
    assert!(home.run(&["reload", "--control", &server.control.to_string()]).status.success());
    assert!(is_blocked(&server, "second.example"));
}

#[test]
fn a_list_is_asked_for_again_when_it_is_due() {
    let web = Web::start();
    web.says(|_| list("first.example\n", ""));
    let home = web.home("refresh = \"2s\"\n");
    let server = home.serve();
    web.says(|_| list("second.example\n", ""));
    eventually("the new list is in force", || is_blocked(&server, "second.example"));
}

#[test]
fn a_server_that_nobody_vouches_for_gives_no_list() {
    let (web, other) = (Web::start(), Web::start());
    web.says(|_| list("first.example\n", ""));
    for (what, authority) in [("nobody we know", String::new()), ("somebody else", other.authority)] {
        let home = web.home("");
        let text = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
        match authority.is_empty() {
            true => home.write("qalqan.toml", &text.replace("tls-ca-files = [\"ca.pem\"]\n", "")),
            false => home.write("ca.pem", &authority),
        }
        let run = home.run(&["serve"]);
        let errors = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{what}: {run:?}");
        assert!(errors.contains("certificate") && errors.contains("--allow-unfiltered"), "{what}: {errors}");
    }
    assert!(web.requests.lock().is_empty(), "nothing was asked of a server that could be anybody");
}

#[test]
fn a_list_from_the_web_is_checked_and_explained_without_a_server_or_a_state() {
    let web = Web::start();
    web.says(|_| list("first.example\nbad..name\n", ""));
    let home = web.home("");
    let check = home.run(&["check"]);
    assert!(check.status.success(), "{check:?}");
    assert!(String::from_utf8_lossy(&check.stdout).contains("/list.txt:2: invalid-name"), "{check:?}");
    let explain = home.run(&["explain", "first.example"]);
    assert!(String::from_utf8_lossy(&explain.stdout).contains("list far blocks it"), "{explain:?}");
    assert!(!home.path("state").exists(), "neither leaves anything behind");

    let text = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
    home.write("qalqan.toml", &text.replace("ca.pem", "gone.pem"));
    let check = home.run(&["check"]);
    assert_eq!(check.status.code(), Some(2), "{check:?}");
    assert!(String::from_utf8_lossy(&check.stderr).contains("list[0].tls-ca-files[0]: gone.pem"), "{check:?}");
}
