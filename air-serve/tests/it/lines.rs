//! A server process that does not outlive its test, and the lines it prints.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command};

pub struct Running(pub Child);

impl Running {
    /// The address in the line that says it serves.
    pub fn addr(&mut self) -> SocketAddr {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let (_, url) = line.rsplit_once("://").unwrap_or_else(|| panic!("no address: {line}"));
        url.split('/').next().unwrap().trim().parse().unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
