//! The disk as a file system of the kernel's.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::disk::{Disk, Node};

/// The kernel asks anew each time: the disk changes behind its back.
const TTL: Duration = Duration::ZERO;
const BLOCK: u32 = 4096;
const BLOCKS: u64 = 1 << 24;

/// Mounts the disk until the session is dropped.
pub(crate) fn mount(disk: &Arc<Mutex<Disk>>, at: &Path) -> io::Result<BackgroundSession> {
    fuser::spawn_mount(Mounted(Arc::clone(disk)), at, &Config::default())
}

/// Unmounts and waits until nobody serves the file system any more.
pub(crate) fn unmount(session: BackgroundSession) -> io::Result<()> {
    match session.umount_and_join() {
        // How the kernel ends a connection that has requests of the killed broker left.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
        ended => ended,
    }
}

struct Mounted(Arc<Mutex<Disk>>);

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_node(&self, parent: INodeNo, name: &OsStr, is_dir: bool) -> Option<FileAttr> {
        let mut disk = self.disk();
        let number = disk.create(parent.0, name.to_str()?, is_dir)?;
        attr(&disk, number)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.disk();
        let names = disk.names(parent.0);
        match names.zip(name.to_str()).and_then(|(names, name)| names.remove(name)) {
            Some(_) => reply.ok(),
            None => reply.error(Errno::ENOENT),
        }
    }
}

fn attr(disk: &Disk, number: u64) -> Option<FileAttr> {
    let (kind, size) = match disk.node(number)? {
        Node::File { now, .. } => (FileType::RegularFile, now.len() as u64),
        Node::Dir { .. } => (FileType::Directory, 0),
    };
    Some(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o700,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut disk = self.disk();
        let names = disk.names(parent.0).zip(name.to_str());
        let number = names.and_then(|(names, name)| names.get(name).copied());
        match number.and_then(|number| attr(&disk, number)) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attr(&self.disk(), ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        if let (Some(size), Some(bytes)) = (size, disk.bytes(ino.0)) {
            bytes.resize(usize::try_from(size).expect("64 bits"), 0);
        }
        match attr(&disk, ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match self.create_node(parent, name, true) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.create_node(parent, name, false) {
            Some(attr) => {
                reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            None => reply.error(Errno::EINVAL),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        let (Some(name), Some(newname)) = (name.to_str(), newname.to_str()) else {
            return reply.error(Errno::EINVAL);
        };
        let Some(number) = disk.names(parent.0).and_then(|names| names.remove(name)) else {
            return reply.error(Errno::ENOENT);
        };
        match disk.names(newparent.0) {
            Some(names) => {
                names.insert(newname.to_owned(), number);
                reply.ok();
            }
            None => reply.error(Errno::ENOTDIR),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut disk = self.disk();
        let Some(bytes) = disk.bytes(ino.0) else { return reply.error(Errno::EISDIR) };
        let start = bytes.len().min(usize::try_from(offset).expect("64 bits"));
        let end = bytes.len().min(start + size as usize);
        reply.data(&bytes[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.disk();
        let Some(bytes) = disk.bytes(ino.0) else { return reply.error(Errno::EISDIR) };
        let start = usize::try_from(offset).expect("64 bits");
        let end = start + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        reply.written(u32::try_from(data.len()).expect("as the kernel sent it"));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file syncs nothing.
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.disk().sync(ino.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.disk().sync(ino.0);
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut disk = self.disk();
        let names = disk.names(ino.0).map(|names| names.clone());
        let Some(names) = names else { return reply.error(Errno::ENOTDIR) };
        let from = usize::try_from(offset).expect("64 bits");
        for (at, (name, number)) in names.iter().enumerate().skip(from) {
            let kind = attr(&disk, *number).map_or(FileType::RegularFile, |attr| attr.kind);
            if reply.add(INodeNo(*number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }
}
