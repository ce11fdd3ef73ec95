//! Directives with a syntax of their own: parsing, printing, and the lines that
//! CONFIG REWRITE writes for them.
//!
//! A parser gets the words after the directive's name. A list directive without
//! words, or with one empty word, means the empty list.

use super::directive::{Origin, RewriteLine, WRONG_NUMBER, must_be_one_of};
use super::line;
use super::settings::Settings;
use super::value::{self, Cores, KeyspaceEvents, OutputBufferLimit, SavePoint, ServiceCore, ShutdownFlags};
use crate::base::os::os_reason;

/// Most addresses that `bind` takes, as in Redis.
const BIND_ADDRESSES_MAX: usize = 16;
/// Most data cores.
pub(super) const CORES_MAX: usize = 1024;
/// Longest password, as in Redis.
const PASSWORD_LEN_MAX: usize = 512;

type Outcome = Result<(), String>;

fn is_empty_list(words: &[&str]) -> bool {
    matches!(words, [] | [""])
}

pub(super) fn parse_bind(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    if words.len() > BIND_ADDRESSES_MAX {
        return Err("Too many bind addresses specified.".to_owned());
    }
    if is_empty_list(words) {
        settings.bind.clear();
        return Ok(());
    }
    words.iter().try_for_each(|word| plain_address(word))?;
    settings.bind = owned(words);
    Ok(())
}

/// Addresses are written to files without quotes, so they must not need any.
fn plain_address(word: &str) -> Outcome {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'');
    match word.is_empty() || word.contains(odd) {
        true => Err("an address must not be empty or hold blanks or quotes".to_owned()),
        false => Ok(()),
    }
}

pub(super) fn print_bind(settings: &Settings) -> String {
    settings.bind.join(" ")
}

pub(super) fn parse_save(settings: &mut Settings, words: &[&str], origin: Origin) -> Outcome {
    let mut points = Vec::new();
    if !is_empty_list(words) {
        for pair in words.chunks(2) {
            points.push(parse_save_point(pair).ok_or("Invalid save parameters")?);
        }
    }
    let save = &mut settings.persistence.save;
    // Every line at start adds, except that `save ""` wipes what came before.
    if origin != Origin::StartAgain || points.is_empty() {
        save.clear();
    }
    save.extend(points);
    Ok(())
}

fn parse_save_point(pair: &[&str]) -> Option<SavePoint> {
    let [seconds, changes] = pair else {
        return None;
    };
    let seconds = line::parse_integer(seconds).filter(|&n| n >= 1)?;
    let changes = line::parse_integer(changes).filter(|&n| n >= 0)?;
    Some(SavePoint { seconds, changes })
}

pub(super) fn print_save(settings: &Settings) -> String {
    let points = settings.persistence.save.iter();
    let words: Vec<String> = points.map(|p| format!("{} {}", p.seconds, p.changes)).collect();
    words.join(" ")
}

/// Always written: with fewer lines than before, equal to the default or not,
/// the rest would otherwise be lost.
pub(super) fn save_lines(settings: &Settings, _: &Settings) -> Vec<RewriteLine> {
    let line = |text| RewriteLine { text, needed: true };
    let save = &settings.persistence.save;
    if save.is_empty() {
        return vec![line("save \"\"".to_owned())];
    }
    save.iter().map(|p| line(format!("save {} {}", p.seconds, p.changes))).collect()
}

/// CONFIG SET with an empty value changes nothing, a line with one is an error
/// (measured).
pub(super) fn parse_output_limits(settings: &mut Settings, words: &[&str], origin: Origin) -> Outcome {
    if origin == Origin::Runtime && is_empty_list(words) {
        return Ok(());
    }
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    let mut limits = [settings.output_limit_normal, settings.output_limit_replica, settings.output_limit_pubsub];
    for quad in words.chunks_exact(4) {
        let class = match quad[0].to_ascii_lowercase().as_str() {
            "normal" => 0,
            "slave" | "replica" => 1,
            "pubsub" => 2,
            _ => {
                let text = "Invalid client class specified in buffer limit configuration.";
                return Err(text.to_owned());
            }
        };
        limits[class] = parse_output_limit(&quad[1..])
            .ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
    }
    [settings.output_limit_normal, settings.output_limit_replica, settings.output_limit_pubsub] = limits;
    Ok(())
}

fn parse_output_limit(words: &[&str]) -> Option<OutputBufferLimit> {
    let [hard, soft, seconds] = words else {
        return None;
    };
    let bytes = |word| line::parse_memory(word).and_then(|n| u64::try_from(n).ok());
    Some(OutputBufferLimit {
        hard_bytes: bytes(hard)?,
        soft_bytes: bytes(soft)?,
        soft_seconds: line::parse_integer(seconds).and_then(|n| u64::try_from(n).ok())?,
    })
}

pub(super) fn print_output_limits(settings: &Settings) -> String {
    let classes = [
        ("normal", settings.output_limit_normal),
        ("slave", settings.output_limit_replica),
        ("pubsub", settings.output_limit_pubsub),
    ];
    let words: Vec<String> = classes
        .iter()
        .map(|(class, limit)| {
            let OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds } = limit;
            format!("{class} {hard_bytes} {soft_bytes} {soft_seconds}")
        })
        .collect();
    words.join(" ")
}

pub(super) fn output_limit_lines(settings: &Settings, defaults: &Settings) -> Vec<RewriteLine> {
    let classes = [
        ("normal", settings.output_limit_normal, defaults.output_limit_normal),
        ("replica", settings.output_limit_replica, defaults.output_limit_replica),
        ("pubsub", settings.output_limit_pubsub, defaults.output_limit_pubsub),
    ];
    let mut lines: Vec<RewriteLine> = classes
        .iter()
        .map(|(class, limit, default)| RewriteLine {
            text: format!(
                "client-output-buffer-limit {class} {} {} {}",
                line::format_memory(limit.hard_bytes.into()),
                line::format_memory(limit.soft_bytes.into()),
                limit.soft_seconds
            ),
            needed: limit != default,
        })
        .collect();
    // Those that must be in the file take the places of its old lines first.
    lines.sort_by_key(|line| !line.needed);
    lines
}

pub(super) fn parse_keyspace_events(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    let letters = words.first().copied().unwrap_or_default();
    settings.notify_keyspace_events =
        KeyspaceEvents::parse(letters).ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
    Ok(())
}

pub(super) fn print_keyspace_events(settings: &Settings) -> String {
    settings.notify_keyspace_events.to_string()
}

pub(super) fn parse_percentiles(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    let mut percentiles = Vec::new();
    if !is_empty_list(words) {
        for word in words {
            let value = word.parse::<f64>().ok().filter(|value| !value.is_nan());
            let value = value.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&value) {
                let text = "latency-tracking-info-percentiles parameters \
                            should sit between [0.0,100.0]";
                return Err(text.to_owned());
            }
            percentiles.push(value);
        }
    }
    settings.latency_tracking_info_percentiles = percentiles;
    Ok(())
}

/// Six digits after the point at most, trailing zeros dropped (measured).
pub(super) fn print_percentiles(settings: &Settings) -> String {
    let words: Vec<String> = settings
        .latency_tracking_info_percentiles
        .iter()
        .map(|value| {
            let text = format!("{value:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        })
        .collect();
    words.join(" ")
}

pub(super) fn parse_oom_values(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    let &[first, second, third] = words else {
        return Err(WRONG_NUMBER.to_owned());
    };
    let mut values = [0; 3];
    for (value, word) in values.iter_mut().zip([first, second, third]) {
        *value = line::parse_integer(word)
            .and_then(|n| i32::try_from(n).ok())
            .filter(|n| (-2000..=2000).contains(n))
            .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
    }
    settings.oom_score_adj_values = values;
    Ok(())
}

pub(super) fn print_oom_values(settings: &Settings) -> String {
    let [primary, replica, child] = settings.oom_score_adj_values;
    format!("{primary} {replica} {child}")
}

fn parse_shutdown_flags(words: &[&str]) -> Result<ShutdownFlags, String> {
    let mut flags = ShutdownFlags::default();
    let names = ["default", "save", "nosave", "now", "force"];
    if words.is_empty() {
        return Err(must_be_one_of(&names));
    }
    for word in words {
        match word.to_ascii_lowercase().as_str() {
            "default" => {}
            "save" => flags.save = true,
            "nosave" => flags.nosave = true,
            "now" => flags.now = true,
            "force" => flags.force = true,
            _ => return Err(must_be_one_of(&names)),
        }
    }
    match flags.save && flags.nosave {
        true => Err("shutdown options SAVE and NOSAVE can't be used simultaneously".to_owned()),
        false => Ok(flags),
    }
}

pub(super) fn parse_on_sigterm(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    settings.shutdown_on_sigterm = parse_shutdown_flags(words)?;
    Ok(())
}

pub(super) fn parse_on_sigint(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    settings.shutdown_on_sigint = parse_shutdown_flags(words)?;
    Ok(())
}

/// The path is made absolute here; the process enters it later, so reading a
/// configuration changes nothing about the process.
pub(super) fn parse_dir(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    let word = words.first().copied().unwrap_or_default();
    if word.is_empty() {
        return Err("No such file or directory".to_owned());
    }
    let base = match settings.dir.as_os_str().is_empty() {
        true => std::env::current_dir().unwrap_or_else(|_| "/".into()),
        false => settings.dir.clone(),
    };
    let path = base.join(word).canonicalize().map_err(|e| os_reason(&e))?;
    match path.is_dir() {
        true => settings.dir = path,
        false => return Err("Not a directory".to_owned()),
    }
    Ok(())
}

pub(super) fn print_dir(settings: &Settings) -> String {
    settings.dir.to_string_lossy().into_owned()
}

/// Always written, since the default depends on where the server was started.
pub(super) fn dir_lines(settings: &Settings, _: &Settings) -> Vec<RewriteLine> {
    vec![RewriteLine { text: format!("dir {}", line::quote(&print_dir(settings))), needed: true }]
}

pub(super) fn parse_replicaof(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    settings.replication.replicaof = match words {
        &[host, port] => parse_primary(host, port)?,
        _ => return Err(WRONG_NUMBER.to_owned()),
    };
    Ok(())
}

fn parse_primary(host: &str, port: &str) -> Result<Option<(String, u16)>, String> {
    if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
        return Ok(None);
    }
    // Port 0 is allowed, as in Redis: there is no primary to be found there.
    let port = port.parse::<u16>().map_err(|_| "Invalid master port")?;
    plain_address(host)?;
    Ok(Some((host.to_owned(), port)))
}

pub(super) fn print_replicaof(settings: &Settings) -> String {
    match &settings.replication.replicaof {
        Some((host, port)) => format!("{host} {port}"),
        None => String::new(),
    }
}

pub(super) fn replicaof_lines(settings: &Settings, _: &Settings) -> Vec<RewriteLine> {
    let set = settings.replication.replicaof.iter();
    set.map(|(host, port)| RewriteLine { text: format!("replicaof {host} {port}"), needed: true }).collect()
}

pub(super) fn parse_cores(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    let word = words.first().copied().unwrap_or_default();
    let cores = if word.eq_ignore_ascii_case("auto") {
        Some(Cores::Auto)
    } else if word.contains([',', '-']) {
        value::parse_cpu_list(word).map(Cores::Cpus)
    } else {
        value::parse_cpu(word).filter(|n| (1..=CORES_MAX).contains(n)).map(Cores::Count)
    };
    settings.cores =
        cores.filter(|cores| !matches!(cores, Cores::Cpus(cpus) if cpus.len() > CORES_MAX)).ok_or_else(|| {
            format!("argument must be 'auto', a number from 1 to {CORES_MAX} or a list of CPUs such as 0-3,6")
        })?;
    Ok(())
}

pub(super) fn print_cores(settings: &Settings) -> String {
    settings.cores.to_string()
}

pub(super) fn parse_service_core(settings: &mut Settings, words: &[&str], _: Origin) -> Outcome {
    let word = words.first().copied().unwrap_or_default();
    settings.service_core = match word.to_ascii_lowercase().as_str() {
        "auto" => ServiceCore::Auto,
        "none" => ServiceCore::None,
        _ => value::parse_cpu(word)
            .map(ServiceCore::Cpu)
            .ok_or("argument must be 'auto', 'none' or the number of a CPU")?,
    };
    Ok(())
}

pub(super) fn print_service_core(settings: &Settings) -> String {
    settings.service_core.to_string()
}

pub(super) fn add_rename(settings: &mut Settings, words: &[&str]) -> Outcome {
    if let &[from, to] = words {
        let pair = (from.to_owned(), to.to_owned());
        settings.rename_commands.push(pair);
    }
    Ok(())
}

pub(super) fn add_user(settings: &mut Settings, words: &[&str]) -> Outcome {
    settings.users.push(owned(words));
    Ok(())
}

pub(super) fn add_module(settings: &mut Settings, words: &[&str]) -> Outcome {
    settings.internals.loadmodules.push(owned(words));
    Ok(())
}

/// Of a directive that is refused for what it is.
pub(super) fn ignored(_: &mut Settings, _: &[&str]) -> Outcome {
    Ok(())
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&w| w.to_owned()).collect()
}

// Checks for free text.

pub(super) fn any_text(_: &str) -> Outcome {
    Ok(())
}

pub(super) fn password(text: &str) -> Outcome {
    match text.len() > PASSWORD_LEN_MAX {
        true => Err("Password is longer than CONFIG_AUTHPASS_MAX_LEN".to_owned()),
        false => Ok(()),
    }
}

pub(super) fn dbfilename(text: &str) -> Outcome {
    bare_name(text, "dbfilename can't be a path, just a filename")
}

pub(super) fn appendfilename(text: &str) -> Outcome {
    not_empty(text, "appendfilename can't be empty")?;
    bare_name(text, "appendfilename can't be a path, just a filename")
}

pub(super) fn appenddirname(text: &str) -> Outcome {
    not_empty(text, "appenddirname can't be empty")?;
    bare_name(text, "appenddirname can't be a path, just a dirname")
}

fn not_empty(text: &str, complaint: &str) -> Outcome {
    match text.is_empty() {
        true => Err(complaint.to_owned()),
        false => Ok(()),
    }
}

fn bare_name(text: &str, complaint: &str) -> Outcome {
    match text.contains('/') {
        true => Err(complaint.to_owned()),
        false => Ok(()),
    }
}

/// Variables that a title may hold between braces.
const TITLE_VARIABLES: [&str; 7] =
    ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];

pub(super) fn title_template(text: &str) -> Outcome {
    let bad = || "template format is invalid or contains unknown variables".to_owned();
    // These two may be empty, and so would be the title.
    if text.replace("{title}", "").replace("{server-mode}", "").trim().is_empty() {
        return Err(bad());
    }
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let after = &rest[open + 1..];
        let close = after.find('}').ok_or_else(bad)?;
        if !TITLE_VARIABLES.contains(&&after[..close]) {
            return Err(bad());
        }
        rest = &after[close + 1..];
    }
    Ok(())
}

/// Longest host name.
const HOSTNAME_LEN_MAX: usize = 255;

pub(super) fn hostname(text: &str) -> Outcome {
    if text.len() > HOSTNAME_LEN_MAX {
        return Err("Hostnames must be less than 256 characters".to_owned());
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    match text.bytes().all(fits) {
        true => Ok(()),
        false => Err("Hostnames may only contain alphanumeric characters, hyphens or dots".to_owned()),
    }
}
