//! A snapshot in a file: written beside its place, synced, then moved there.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::io::{BufferedFile, Directory};
use glommio::{GlommioError, Task};

use super::sink::{Later, Sink};
use crate::observe::log;

/// Bytes between two syncs with `rdb-save-incremental-fsync`, so that the last
/// one does not have to wait for all of the file.
const SYNC_BYTES: u64 = 16 << 20;

/// See the module's description.
pub struct FileSink {
    file: Option<Rc<BufferedFile>>,
    /// The sync under way; writing goes on meanwhile.
    sync: Option<Task<Result<(), GlommioError<()>>>>,
    temporary: PathBuf,
    path: PathBuf,
    at: u64,
    synced: u64,
    incremental: bool,
}

fn plain(e: GlommioError<()>) -> io::Error {
    let code = e.raw_os_error();
    let e: io::Error = e.into();
    code.map_or(e, io::Error::from_raw_os_error)
}

fn here() -> String {
    std::env::current_dir().map_or_else(|_| "unknown".into(), |d| d.display().to_string())
}

impl FileSink {
    /// Creates the temporary file; `path` is where the file goes in the end.
    pub async fn create(path: &Path, incremental: bool) -> io::Result<FileSink> {
        let temporary = path.with_file_name(format!("temp-{}.rdb", std::process::id()));
        match BufferedFile::create(&temporary).await.map_err(plain) {
            Ok(file) => Ok(FileSink {
                file: Some(Rc::new(file)),
                sync: None,
                temporary,
                path: path.into(),
                at: 0,
                synced: 0,
                incremental,
            }),
            Err(e) => {
                log::warning(format_args!(
                    "Failed opening the temp RDB file {} (in server root dir {}) for saving: {e}",
                    temporary.display(),
                    here()
                ));
                Err(e)
            }
        }
    }

    async fn write_all(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotConnected.into()) };
        let n = bytes.len();
        if file.write_at(bytes, self.at).await.map_err(plain)? < n {
            // The kernel writes less than it was given when the disk is full.
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.at += n as u64;
        if self.incremental && self.at - self.synced >= SYNC_BYTES {
            let file = file.clone();
            self.synced = self.at;
            self.synced_before().await?;
            self.sync = Some(glommio::spawn_local(async move { file.fdatasync().await }));
        }
        Ok(())
    }

    /// Waits for the sync under way.
    async fn synced_before(&mut self) -> io::Result<()> {
        match self.sync.take() {
            None => Ok(()),
            Some(sync) => sync.await.map_err(plain),
        }
    }
}

impl FileSink {
    async fn finish_file(&mut self) -> io::Result<()> {
        self.synced_before().await?;
        let Some(mut file) = self.file.take().and_then(Rc::into_inner) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        file.fdatasync().await.map_err(plain)?;
        if let Err(e) = file.rename(&self.path).await.map_err(plain) {
            log::warning(format_args!(
                "Error moving temp DB file {} on the final destination {} (in server root dir {}): {e}",
                self.temporary.display(),
                self.path.display(),
                here()
            ));
            let _ = file.close().await;
            let _ = std::fs::remove_file(&self.temporary);
            return Err(e);
        }
        file.close().await.map_err(plain)?;
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = Directory::open(parent).await.map_err(plain)?;
        directory.sync().await.map_err(plain)?;
        directory.close().await.map_err(plain)
    }

    async fn drop_file(&mut self) {
        let _ = self.synced_before().await;
        if let Some(file) = self.file.take().and_then(Rc::into_inner) {
            let _ = file.close().await;
        }
        // Only a name is removed here; what is left of the file goes with it.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: Vec<u8>) -> Later<'_, io::Result<()>> {
        Box::pin(async move {
            let result = self.write_all(bytes).await;
            if let Err(e) = &result {
                log::warning(format_args!("Write error saving DB on disk: {e}"));
            }
            result
        })
    }

    fn finish(&mut self) -> Later<'_, io::Result<()>> {
        Box::pin(self.finish_file())
    }

    fn abort(&mut self) -> Later<'_, ()> {
        Box::pin(self.drop_file())
    }
}
