//! The floor: what the machine itself takes for a broker's work, in programs without a protocol.
//!
//! Each is a process of its own (`bench floor PROGRAM ...`), so that its CPU is read as a broker's
//! is. They say their address on standard output and serve until they are killed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fs::sendfile;

use super::{discard, placed};
use crate::bed::Bed;
use crate::{Result, measure};

/// What a small request is answered with: about the size of Kafka's answer to Produce.
pub(crate) const ANSWER_LEN: usize = 60;
/// Bytes that one call of `sendfile` may move.
const SEND_LEN: usize = 256 * 1024;
/// Bytes of the buffer into which small requests are read.
const REQUESTS_LEN: usize = 256 * 1024;

/// A floor program that runs. Dropping it kills it.
pub(crate) struct Floor {
    child: Child,
    pub(crate) address: String,
}

impl Floor {
    /// Starts `bench floor ARGUMENTS` and waits for its address.
    pub(crate) fn start(bed: &Bed, arguments: &[&str]) -> Result<Self> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = placed(bed, &own);
        command.arg("floor").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("floor: {error}"))?;
        let mut address = String::new();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        BufReader::new(stdout).read_line(&mut address).map_err(|e| e.to_string())?;
        let address = address.trim().to_owned();
        if address.is_empty() {
            return Err(format!("floor {arguments:?} does not start"));
        }
        Ok(Self { child, address })
    }

    pub(crate) fn cpu_s(&self) -> Result<f64> {
        measure::cpu_s(self.child.id())
    }

    pub(crate) fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(stream)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process's side: runs the program that the arguments name, until it is killed.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().map_err(|e| format!("{text}: {e}"));
    let said = |error: std::io::Error| error.to_string();
    match arguments[..] {
        ["write", file, batch] => write(&listen()?, Path::new(file), number(batch)?).map_err(said),
        ["send", file] => send(&listen()?, Path::new(file)).map_err(said),
        ["request", file, len] => request(&listen()?, Path::new(file), number(len)?).map_err(said),
        ["pingpong", len] => pingpong(&listen()?, number(len)?).map_err(said),
        ["discard", partitions] => discard::run(&listen()?, number(partitions)?),
        _ => Err("usage: bench floor write FILE BATCH | send FILE | request FILE LEN | pingpong LEN | discard PARTITIONS".to_owned()),
    }
}

fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    println!("{}", listener.local_addr().map_err(|e| e.to_string())?);
    Ok(listener)
}

/// Socket, CRC-32C, positioned write: each connection's bytes go to the end of the file, and their
/// number is the answer once the sender has sent all.
fn write(listener: &TcpListener, file: &Path, batch: usize) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(file)?;
    let mut buffer = vec![0; batch];
    let mut position = 0;
    let mut checksum = 0;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let first = position;
        loop {
            let filled = read_full(&mut stream, &mut buffer)?;
            checksum ^= crc32c::crc32c(&buffer[..filled]);
            file.write_all_at(&buffer[..filled], position)?;
            position += filled as u64;
            if filled < buffer.len() {
                break;
            }
        }
        std::hint::black_box(checksum);
        stream.write_all(&(position - first).to_be_bytes())?;
    }
    Ok(())
}

/// Reads until the buffer is full or the sender has sent all.
fn read_full(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..])? {
            0 => break,
            len => filled += len,
        }
    }
    Ok(filled)
}

/// File to socket by `sendfile`, whole, for every connection.
fn send(listener: &TcpListener, file: &Path) -> std::io::Result<()> {
    let file = File::open(file)?;
    let len = file.metadata()?.len();
    for stream in listener.incoming() {
        let stream = stream?;
        let mut position = 0;
        while position < len {
            let count = SEND_LEN.min(usize::try_from(len - position).unwrap_or(SEND_LEN));
            if sendfile(&stream, &file, Some(&mut position), count)? == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Requests of `len` bytes on any number of connections, one thread: `epoll`, read, for each
/// request CRC-32C and a write into the file, one write with the answers to what one read brought.
fn request(listener: &TcpListener, file: &Path, len: usize) -> std::io::Result<()> {
    struct Peer {
        stream: TcpStream,
        buffer: Vec<u8>,
        filled: usize,
    }
    const LISTENER: u64 = u64::MAX;
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(file)?;
    let mut position = 0;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let interest = epoll::EventFlags::IN;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), interest)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events = Vec::with_capacity(64);
    let answers = vec![0; ANSWER_LEN * (REQUESTS_LEN / len + 1)];
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            if event.data.u64() == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let data = epoll::EventData::new_u64(peers.len() as u64);
                epoll::add(&epoll, &stream, data, interest)?;
                peers.push(Some(Peer {
                    stream,
                    buffer: vec![0; REQUESTS_LEN.max(len)],
                    filled: 0,
                }));
                continue;
            }
            let slot = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(peer) = peers.get_mut(slot).and_then(Option::as_mut) else { continue };
            let read = peer.stream.read(&mut peer.buffer[peer.filled..]).unwrap_or(0);
            if read == 0 {
                // Closing the socket takes it out of the interest list.
                peers[slot] = None;
                continue;
            }
            peer.filled += read;
            let whole = peer.filled / len;
            for request in peer.buffer[..whole * len].chunks_exact(len) {
                std::hint::black_box(crc32c::crc32c(request));
                file.write_all_at(request, position)?;
                position += len as u64;
            }
            peer.buffer.copy_within(whole * len..peer.filled, 0);
            peer.filled -= whole * len;
            peer.stream.write_all(&answers[..whole * ANSWER_LEN])?;
        }
    }
}

/// Sends everything back, `len` bytes at a time.
fn pingpong(listener: &TcpListener, len: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; len];
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer)?;
        }
    }
    Ok(())
}
