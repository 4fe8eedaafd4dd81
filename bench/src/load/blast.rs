//! The clients of the floor programs: as little work as possible.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::start::evict;
use crate::bed::Bed;
use crate::measure::{Figures, GB, percentile};
use crate::subject::floor::{ANSWER_LEN, Floor};
use crate::{Result, measure};

/// Bytes of one write of the sender.
const SEND_LEN: usize = 256 * 1024;
/// Connections of small requests.
const CONNECTIONS: usize = 8;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A new file, so that every run appends to fresh pages as a broker does.
fn new_file(bed: &Bed) -> PathBuf {
    bed.dir.join(format!("floor-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))
}

/// Socket, CRC-32C, pwrite: `bytes` in batches of `batch`.
pub(crate) fn write(bed: &Bed, bytes: u64, batch: usize) -> Result<Figures> {
    let file = new_file(bed);
    let floor = Floor::start(bed, &["write", text(&file)?, &batch.to_string()])?;
    let chunk = vec![0x5a; SEND_LEN];
    let mut stream = floor.connect()?;
    let before = floor.cpu_s()?;
    let begun = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let len = SEND_LEN.min(usize::try_from(left).unwrap_or(SEND_LEN));
        stream.write_all(&chunk[..len]).map_err(|e| e.to_string())?;
        left -= len as u64;
    }
    stream.shutdown(Shutdown::Write).map_err(|e| e.to_string())?;
    let mut written = [0; 8];
    stream.read_exact(&mut written).map_err(|e| e.to_string())?;
    let took_s = begun.elapsed().as_secs_f64();
    let cpu_s = floor.cpu_s()? - before;
    let on_disk = file.metadata().map_err(|e| e.to_string())?.len();
    if u64::from_be_bytes(written) != bytes || on_disk != bytes {
        return Err(format!("the floor wrote {on_disk} bytes instead of {bytes}"));
    }
    let gb = bytes as f64 / GB;
    Ok([("cpu_s_per_gb", cpu_s / gb), ("gb_per_s", gb / took_s)].map(named).into())
}

fn named((name, value): (&str, f64)) -> (String, f64) {
    (name.to_owned(), value)
}

/// File to socket by `sendfile`; the file has `bytes` bytes and is written when it is not there.
pub(crate) fn send(bed: &Bed, bytes: u64) -> Result<Figures> {
    let file = bed.dir.join("floor-to-send");
    if file.metadata().map_or(0, |found| found.len()) != bytes {
        fill(&file, bytes)?;
    }
    let floor = Floor::start(bed, &["send", text(&file)?])?;
    let before = floor.cpu_s()?;
    let begun = Instant::now();
    let mut stream = floor.connect()?;
    let received = receive_all(&mut stream)?;
    let took_s = begun.elapsed().as_secs_f64();
    let cpu_s = floor.cpu_s()? - before;
    if received != bytes {
        return Err(format!("{received} bytes came instead of {bytes}"));
    }
    let gb = bytes as f64 / GB;
    Ok([("cpu_s_per_gb", cpu_s / gb), ("gb_per_s", gb / took_s)].map(named).into())
}

fn fill(file: &Path, bytes: u64) -> Result<()> {
    let open = OpenOptions::new().create(true).truncate(true).write(true).open(file);
    let open = open.map_err(|e| format!("{}: {e}", file.display()))?;
    let chunk = vec![0x5a; SEND_LEN];
    let mut position = 0;
    while position < bytes {
        let len = SEND_LEN.min(usize::try_from(bytes - position).unwrap_or(SEND_LEN));
        open.write_all_at(&chunk[..len], position).map_err(|e| e.to_string())?;
        position += len as u64;
    }
    open.sync_all().map_err(|e| e.to_string())
}

fn receive_all(stream: &mut TcpStream) -> Result<u64> {
    let mut buffer = vec![0; SEND_LEN];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).map_err(|e| e.to_string())? {
            0 => return Ok(received),
            len => received += len as u64,
        }
    }
}

/// Reads a file from the disk, with nothing of it in memory; it is written when it is not there.
pub(crate) fn cold_read(bed: &Bed, bytes: u64) -> Result<Figures> {
    let file = bed.dir.join("floor-to-send");
    if file.metadata().map_or(0, |found| found.len()) != bytes {
        fill(&file, bytes)?;
    }
    evict(&file)?;
    let mut open = File::open(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut buffer = vec![0; SEND_LEN];
    let begun = Instant::now();
    let mut read = 0;
    loop {
        match open.read(&mut buffer).map_err(|e| e.to_string())? {
            0 => break,
            len => read += len as u64,
        }
    }
    if read != bytes {
        return Err(format!("{read} bytes were read instead of {bytes}"));
    }
    let gb = bytes as f64 / GB;
    Ok([("gb_per_s", gb / begun.elapsed().as_secs_f64())].map(named).into())
}

/// Small requests: `count` of `len` bytes over eight connections with `in_flight` each.
pub(crate) fn requests(bed: &Bed, count: u64, len: usize, in_flight: usize) -> Result<Figures> {
    let file = new_file(bed);
    let floor = Floor::start(bed, &["request", text(&file)?, &len.to_string()])?;
    let each = usize::try_from(count).map_err(|e| e.to_string())? / CONNECTIONS;
    let before = floor.cpu_s()?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| ask(floor.connect()?, each, len, in_flight)))
            .collect();
        clients.into_iter().try_for_each(|client| {
            client.join().map_err(|_| "a client of the floor failed".to_owned())?
        })
    })?;
    let took_s = begun.elapsed().as_secs_f64();
    let cpu_s = floor.cpu_s()? - before;
    let asked = each * CONNECTIONS;
    let bytes = (asked * len) as u64;
    let on_disk = file.metadata().map_err(|e| e.to_string())?.len();
    if on_disk != bytes {
        return Err(format!("the floor wrote {on_disk} bytes instead of {bytes}"));
    }
    let gb = bytes as f64 / GB;
    let figures = [
        ("cpu_s_per_gb", cpu_s / gb),
        ("gb_per_s", gb / took_s),
        ("us_per_request", cpu_s * 1e6 / asked as f64),
        ("requests_per_s", asked as f64 / took_s),
    ];
    Ok(figures.map(named).into())
}

/// Sends `count` requests, `in_flight` ahead of their answers.
fn ask(mut stream: TcpStream, count: usize, len: usize, in_flight: usize) -> Result<()> {
    let request = vec![0x5a; len * in_flight];
    let mut answers = vec![0; ANSWER_LEN * in_flight];
    let mut sent = in_flight.min(count);
    let mut answered = 0;
    let mut partial = 0;
    stream.write_all(&request[..sent * len]).map_err(|e| e.to_string())?;
    while answered < count {
        let read = stream.read(&mut answers[partial..]).map_err(|e| e.to_string())?;
        if read == 0 {
            return Err("the floor hung up".to_owned());
        }
        let whole = (partial + read) / ANSWER_LEN;
        partial = (partial + read) % ANSWER_LEN;
        answered += whole;
        let more = whole.min(count - sent);
        stream.write_all(&request[..more * len]).map_err(|e| e.to_string())?;
        sent += more;
    }
    Ok(())
}

/// Round trips of `len` bytes over a bare connection, one at a time.
pub(crate) fn round_trips(bed: &Bed, count: u64, len: usize) -> Result<Figures> {
    let floor = Floor::start(bed, &["pingpong", &len.to_string()])?;
    let mut stream = floor.connect()?;
    let mut buffer = vec![0; len];
    let mut took_ms = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(&buffer).map_err(|e| e.to_string())?;
        stream.read_exact(&mut buffer).map_err(|e| e.to_string())?;
        took_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let mut figures: Figures = super::rdkafka::percentiles(&mut took_ms).into_iter().collect();
    figures.insert("mean_ms".to_owned(), took_ms.iter().sum::<f64>() / count.max(1) as f64);
    Ok(figures)
}

/// Appends and syncs, one after the other: `fdatasync` after every `len` bytes, for a while.
pub(crate) fn syncs(bed: &Bed, len: usize, lasts: Duration) -> Result<Figures> {
    let file = new_file(bed);
    let open = OpenOptions::new().create(true).truncate(true).write(true).open(&file);
    let open = open.map_err(|e| format!("{}: {e}", file.display()))?;
    let chunk = vec![0x5a; len];
    let mut took_ms = Vec::new();
    let before = measure::cpu_s(std::process::id())?;
    let all = Instant::now();
    while all.elapsed() < lasts {
        let begun = Instant::now();
        open.write_all_at(&chunk, (took_ms.len() * len) as u64).map_err(|e| e.to_string())?;
        open.sync_data().map_err(|e| e.to_string())?;
        took_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let took_s = all.elapsed().as_secs_f64();
    let cpu_s = measure::cpu_s(std::process::id())? - before;
    let count = took_ms.len() as f64;
    let figures = [
        ("syncs_per_s", count / took_s),
        ("gb_per_s", count * len as f64 / GB / took_s),
        ("us_per_sync", cpu_s * 1e6 / count),
        ("p50_ms", percentile(&mut took_ms, 0.5).unwrap_or(0.0)),
        ("p99_ms", percentile(&mut took_ms, 0.99).unwrap_or(0.0)),
    ];
    Ok(figures.map(named).into())
}
