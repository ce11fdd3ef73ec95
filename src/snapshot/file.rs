//! A snapshot in a file: written beside its place, synced, then moved there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::direct::{DirectFile, blocking};
use super::sink::{Later, Sink};
use crate::base::os::os_reason;
use crate::observe::log;

/// See the module's description.
pub struct FileSink {
    file: DirectFile,
    temporary: PathBuf,
    path: PathBuf,
}

fn here() -> String {
    std::env::current_dir().map_or_else(|_| "unknown".into(), |d| d.display().to_string())
}

fn complain(e: &io::Error) {
    log::warning(format_args!("Write error saving DB on disk: {}", os_reason(&e)));
}

/// Moves a file, and syncs the directory that it is in.
fn move_there(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to).inspect_err(|e| {
        log::warning(format_args!(
            "Error moving temp DB file {} on the final destination {} (in server root dir {}): {}",
            from.display(),
            to.display(),
            here(),
            os_reason(&e)
        ));
    })?;
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Name of the temporary file: Redis's, by the process id.
pub fn temporary_name() -> String {
    format!("temp-{}.rdb", std::process::id())
}

impl FileSink {
    /// Creates the temporary file; `path` is where the file goes in the end.
    pub async fn create(path: &Path, incremental: bool) -> io::Result<FileSink> {
        let temporary = path.with_file_name(temporary_name());
        match DirectFile::create(&temporary, incremental).await {
            Ok(file) => Ok(FileSink { file, temporary, path: path.into() }),
            Err(e) => {
                log::warning(format_args!(
                    "Failed opening the temp RDB file {} (in server root dir {}) for saving: {}",
                    temporary.display(),
                    here(),
                    os_reason(&e)
                ));
                Err(e)
            }
        }
    }

    async fn finish_file(&mut self) -> io::Result<()> {
        self.file.finish().await.inspect_err(complain)?;
        let (from, to) = (self.temporary.clone(), self.path.clone());
        blocking(move || move_there(&from, &to)).await
    }

    async fn drop_file(&mut self) {
        self.file.stop().await;
        let temporary = self.temporary.clone();
        // Only a name is removed here; what is left of the file goes with it.
        let _ = blocking(move || std::fs::remove_file(temporary)).await;
    }
}

impl Sink for FileSink {
    fn write<'a>(&'a mut self, bytes: &'a mut Vec<u8>) -> Later<'a, io::Result<()>> {
        Box::pin(async move {
            let result = self.file.write(bytes).await;
            bytes.clear();
            result.inspect_err(complain)
        })
    }

    fn finish(&mut self) -> Later<'_, io::Result<()>> {
        Box::pin(self.finish_file())
    }

    fn abort(&mut self) -> Later<'_, ()> {
        Box::pin(self.drop_file())
    }
}
