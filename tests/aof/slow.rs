//! A disk that stands still for seconds.

use std::time::Duration;

use super::harness::{Dir, LIMIT, digest, kill};
use super::rewrite::info;
use super::support::{eventually, ok};

/// What is to be written waits up to a limit, then do clients, and all goes on when
/// the disk does.
#[test]
fn a_full_buffer_waits_for_the_disk_and_no_longer() {
    for cores in ["1", "4"] {
        let dir = Dir::new("slow");
        let server = dir.start(cores, &["--appendfsync", "everysec"]);
        let (mut c, mut writer) = (server.wire(), server.wire());
        assert_eq!(c.run("DEBUG AOF-FLUSH-SLEEP 2500000"), ok());
        std::thread::sleep(Duration::from_millis(100));
        // Twice what the buffer and all queues take.
        let value = vec![b'v'; 1 << 20];
        let count = 200;
        let sender = std::thread::spawn(move || {
            for i in 0..count {
                writer.send_cmd(&[&b"SET"[..], format!("k{i}").as_bytes(), &value]);
                if i % 8 == 7 {
                    (0..8).for_each(|_| assert_eq!(writer.read(), ok()));
                }
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(c.run("DEBUG AOF-FLUSH-SLEEP 0"), ok());
        sender.join().expect("all are acknowledged");
        assert_eq!(c.run("SET last 1"), ok());
        eventually("all is written", LIMIT, || info(&server, "aof_buffer_length") == "0");
        let before = digest(&server);
        kill(server);
        assert_eq!(digest(&dir.start(cores, &[])), before);
    }
}
