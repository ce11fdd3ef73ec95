//! The metrics' endpoint: `GET /metrics` on a port of its own, for Prometheus
//! (text format 0.0.4). HTTP/1.1 (RFC 9112) as far as that takes: one request
//! per connection, no bodies.

use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::sleep;

use super::Service;
use super::metrics_page::page;
use crate::base::os::os_reason;
use crate::observe::log;
use crate::server::commands::info;

/// Connections that are answered at a time; others hear 503.
const CONNECTIONS_MAX: usize = 16;

/// Connections that hear 503 at a time; others are closed at once, so that
/// whoever floods this port takes no descriptors from clients.
const REFUSED_MAX: usize = 8;

/// Bytes of a request's line and headers.
const REQUEST_MAX: usize = 8 << 10;

/// Time for a request to come, and for its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time before accepting is tried again after it has failed.
const AGAIN: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is asked for, or why it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Get,
    /// The same without the body.
    Head,
    NotFound,
    Method,
    Bad,
}

impl Service {
    /// Answers whoever connects, as long as the process runs.
    pub async fn serve_metrics(self: Rc<Self>, fd: RawFd) {
        // SAFETY: the descriptor was made for this and is nobody else's.
        let listener = unsafe { TcpListener::from_raw_fd(fd) };
        let busy = Rc::new(());
        loop {
            let stream = match listener.accept().await {
                Ok(stream) => stream,
                Err(e) => {
                    log::warning(format_args!("Accepting a connection for metrics: {}", os_reason(&e)));
                    sleep(AGAIN).await;
                    continue;
                }
            };
            let open = Rc::strong_count(&busy) - 1;
            if open >= CONNECTIONS_MAX + REFUSED_MAX {
                continue;
            }
            let crowded = open >= CONNECTIONS_MAX;
            let (service, token) = (self.clone(), busy.clone());
            glommio::spawn_local(async move {
                let answered = async {
                    if crowded {
                        // Its request is read, for unread bytes would reset the connection.
                        let mut stream = stream;
                        let _ = read_head(&mut stream).await;
                        return write(stream, &head("503 Service Unavailable", 0, "Retry-After: 1\r\n"), "").await;
                    }
                    service.answer_scrape(stream).await
                };
                let too_late = async {
                    sleep(PATIENCE).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                let _ = future::or(answered, too_late).await;
                drop(token);
            })
            .detach();
        }
    }

    async fn answer_scrape(self: Rc<Self>, mut stream: TcpStream) -> io::Result<()> {
        let Some(request) = read_head(&mut stream).await? else {
            return write(stream, &head("431 Request Header Fields Too Large", 0, ""), "").await;
        };
        match parse(&request) {
            Request::Bad => write(stream, &head("400 Bad Request", 0, ""), "").await,
            Request::NotFound => write(stream, &head("404 Not Found", 0, ""), "").await,
            Request::Method => write(stream, &head("405 Method Not Allowed", 0, "Allow: GET, HEAD\r\n"), "").await,
            wanted => {
                let text = self.scrape().await;
                let head = head("200 OK", text.len(), &format!("Content-Type: {TEXT}\r\n"));
                write(stream, &head, if wanted == Request::Get { &text } else { "" }).await
            }
        }
    }

    /// The page.
    async fn scrape(self: &Rc<Self>) -> String {
        let replication = self.described();
        let text: String = self
            .ask_slowly(0, |core, answer| info::whole(core, replication, |core, text| answer.give(core, text)))
            .await;
        page(&text)
    }
}

/// A request up to its empty line; `None` if it is too long.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        if memchr::memmem::find(&all, b"\r\n\r\n").is_some() || memchr::memmem::find(&all, b"\n\n").is_some() {
            return Ok(Some(all));
        }
        if all.len() > REQUEST_MAX {
            return Ok(None);
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

fn parse(request: &[u8]) -> Request {
    let line = request.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let &[method, target, version] = &words[..] else { return Request::Bad };
    if !version.starts_with(b"HTTP/1.") || method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Request::Bad;
    }
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    match (path, method) {
        (b"/metrics", b"GET") => Request::Get,
        (b"/metrics", b"HEAD") => Request::Head,
        (b"/metrics", _) => Request::Method,
        _ => Request::NotFound,
    }
}

fn head(status: &str, length: usize, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n")
}

async fn write(mut stream: TcpStream, head: &str, body: &str) -> io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        for (line, want) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", Request::Get),
            ("GET /metrics?name[]=redis_up HTTP/1.0\r\n\r\n", Request::Get),
            ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Request::Head),
            ("POST /metrics HTTP/1.1\r\n\r\n", Request::Method),
            ("GET / HTTP/1.1\r\n\r\n", Request::NotFound),
            ("DELETE /metricsx HTTP/1.1\r\n\r\n", Request::NotFound),
            ("GET /metrics\r\n\r\n", Request::Bad),
            ("GET /metrics HTTP/2\r\n\r\n", Request::Bad),
            ("get /metrics HTTP/1.1\r\n\r\n", Request::Bad),
            ("\r\n\r\n", Request::Bad),
            ("\u{1}\u{2} \u{3} HTTP/1.1\n\n", Request::Bad),
        ] {
            assert_eq!(parse(line.as_bytes()), want, "{line:?}");
        }
    }
}
