//! Listening sockets: one per address and core, by SO_REUSEPORT.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::RawFd;
use std::time::Duration;

use super::io::Listener;
use crate::base::os::os_reason;
use crate::config::Settings;

fn last() -> io::Error {
    io::Error::last_os_error()
}

fn set(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let p = (&raw const value).cast();
    // SAFETY: the option's value is an int that outlives the call.
    let r = unsafe { libc::setsockopt(fd, level, name, p, size_of::<i32>() as libc::socklen_t) };
    if r == 0 { Ok(()) } else { Err(last()) }
}

/// A socket address in the kernel's form.
fn raw(addr: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: zeroed bytes are a valid sockaddr_storage.
    let mut s: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match addr {
        SocketAddr::V4(a) => {
            // SAFETY: sockaddr_storage is large and aligned enough for every family.
            let v4 = unsafe { &mut *(&raw mut s).cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as u16;
            v4.sin_port = a.port().to_be();
            v4.sin_addr.s_addr = u32::from_ne_bytes(a.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(a) => {
            // SAFETY: as above.
            let v6 = unsafe { &mut *(&raw mut s).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = libc::AF_INET6 as u16;
            v6.sin6_port = a.port().to_be();
            v6.sin6_addr.s6_addr = a.ip().octets();
            v6.sin6_scope_id = a.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (s, len as libc::socklen_t)
}

fn listen_on(addr: &SocketAddr, s: &Settings, shared_port: bool) -> io::Result<RawFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain socket call.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(last());
    }
    match prepare(fd, addr, s, shared_port) {
        Ok(()) => Ok(fd),
        Err(e) => {
            // SAFETY: `fd` is ours and unused.
            unsafe { libc::close(fd) };
            Err(e)
        }
    }
}

fn prepare(fd: RawFd, addr: &SocketAddr, s: &Settings, shared_port: bool) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if shared_port {
        set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if addr.is_ipv6() {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    // Accepted sockets inherit these, which spares calls per connection.
    set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    keepalive(fd, s.tcp_keepalive_s)?;
    let (storage, len) = raw(addr);
    // SAFETY: `storage` holds an address of `len` bytes.
    if unsafe { libc::bind(fd, (&raw const storage).cast(), len) } != 0 {
        return Err(last());
    }
    // SAFETY: plain listen call.
    if unsafe { libc::listen(fd, s.tcp_backlog) } != 0 {
        return Err(last());
    }
    Ok(())
}

/// Sets the keepalive of a socket and of those accepted from it; 0 is off.
pub fn keepalive(fd: RawFd, seconds: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, i32::from(seconds > 0))?;
    if seconds > 0 {
        let t = seconds as i32;
        set(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, t)?;
        set(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, (t / 3).max(1))?;
        set(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3)?;
    }
    Ok(())
}

/// The addresses of one `bind` word; an empty list when it cannot be used and
/// may be skipped (a leading `-`).
fn resolve(word: &str, port: u16) -> Result<(Vec<SocketAddr>, bool), String> {
    let optional = word.starts_with('-');
    let host = word.trim_start_matches('-');
    let list: io::Result<Vec<SocketAddr>> = match host {
        "*" => Ok(vec![([0, 0, 0, 0], port).into()]),
        "::*" => Ok(vec![SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port)]),
        _ => (host, port).to_socket_addrs().map(|i| i.take(1).collect()),
    };
    match list {
        Ok(l) => Ok((l, optional)),
        Err(_) if optional => Ok((Vec::new(), true)),
        Err(e) => {
            let why = os_reason(&e);
            let why = why.strip_prefix("failed to lookup address information: ").unwrap_or(&why);
            Err(format!("Could not create server TCP listening socket {host}:{port}: {why}"))
        }
    }
}

/// Errors that a `-` before an address forgives.
fn unavailable(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOPROTOOPT)
    )
}

const IN_USE: &str = "bind: Address already in use";

/// Binds `port` on all configured addresses, once for each of `cores`.
pub fn tcp(s: &Settings, port: u16, cores: usize) -> Result<Vec<Vec<Listener>>, String> {
    tcp_beside(s, port, cores, false)
}

/// [`tcp`] at start. A server that was killed holds its ports for some milliseconds
/// more, until the kernel has taken its rings apart: a port in use is tried again
/// for a second.
pub fn tcp_at_start(s: &Settings, port: u16, cores: usize) -> Result<Vec<Vec<Listener>>, String> {
    const AGAIN: Duration = Duration::from_millis(20);
    const TRIES: usize = 50;
    for _ in 1..TRIES {
        match tcp(s, port, cores) {
            Err(e) if e.ends_with(IN_USE) => std::thread::sleep(AGAIN),
            outcome => return outcome,
        }
    }
    tcp(s, port, cores)
}

/// [`tcp`], perhaps while this process listens on the port already.
pub fn tcp_beside(s: &Settings, port: u16, cores: usize, ours: bool) -> Result<Vec<Vec<Listener>>, String> {
    let mut out: Vec<Vec<Listener>> = vec![Vec::new(); cores];
    for word in &s.bind {
        let (addrs, optional) = resolve(word, port)?;
        for addr in addrs {
            match bind_cores(&addr, s, cores, ours) {
                Ok(fds) => fds.into_iter().enumerate().for_each(|(c, fd)| {
                    out[c].push(Listener { fd, unix: false, port, endpoint: false, tls: port == s.tls.port })
                }),
                Err(e) if optional && unavailable(&e) => {}
                Err(e) => {
                    let host = word.trim_start_matches('-');
                    let why = os_reason(&e);
                    return Err(format!("Could not create server TCP listening socket {host}:{port}: bind: {why}"));
                }
            }
        }
    }
    if out.iter().all(Vec::is_empty) && !s.bind.is_empty() {
        return Err("Configured to not listen anywhere, exiting.".into());
    }
    Ok(out)
}

fn bind_cores(addr: &SocketAddr, s: &Settings, cores: usize, ours: bool) -> io::Result<Vec<RawFd>> {
    if !ours {
        // A first socket without SO_REUSEPORT finds out whether another process
        // listens there, which sharing the port would hide.
        let probe = listen_on(addr, s, false)?;
        // SAFETY: the probe is ours.
        unsafe { libc::close(probe) };
    }
    (0..cores).map(|_| listen_on(addr, s, true)).collect()
}

/// Binds a port that no core shares, on one address.
pub fn alone(s: &Settings, host: &str, port: u16) -> Result<RawFd, String> {
    let (addresses, _) = resolve(host, port)?;
    let address = addresses.first().ok_or_else(|| format!("'{host}' has no address"))?;
    listen_on(address, s, false)
        .map_err(|e| format!("Could not create server TCP listening socket {address}: bind: {}", os_reason(&e)))
}

/// The number of a group of this system.
fn group_id(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // Room for a long list of members; a group that needs more is not found.
    let mut room = vec![0 as libc::c_char; 1 << 16];
    // SAFETY: `group` is plain data for which all zeros is valid. All pointers are
    // to live local variables; `found` is null or points to `group`.
    unsafe {
        let mut group: libc::group = std::mem::zeroed();
        let mut found = std::ptr::null_mut();
        libc::getgrnam_r(name.as_ptr(), &mut group, room.as_mut_ptr(), room.len(), &mut found);
        (!found.is_null()).then_some(group.gr_gid)
    }
}

/// Binds the Unix socket; all cores accept from the one descriptor.
pub fn unix(s: &Settings) -> Result<Option<RawFd>, String> {
    use std::os::fd::IntoRawFd;
    use std::os::unix::fs::PermissionsExt;
    if s.unixsocket.is_empty() {
        return Ok(None);
    }
    let path = s.resolve(&s.unixsocket);
    let fail = |e: io::Error| format!("Failed opening Unix socket: bind: {}", os_reason(&e));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(fail)?;
    if !s.unixsocketgroup.is_empty() {
        let group = group_id(&s.unixsocketgroup)
            .ok_or_else(|| format!("Failed opening Unix socket: there is no group '{}'", s.unixsocketgroup))?;
        std::os::unix::fs::chown(&path, None, Some(group)).map_err(fail)?;
    }
    if s.unixsocketperm > 0 {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(s.unixsocketperm)).map_err(fail)?;
    }
    Ok(Some(listener.into_raw_fd()))
}
