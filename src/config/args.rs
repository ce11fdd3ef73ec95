//! The command line of redis-server: `[FILE] [-] [--directive value ...]`.
//!
//! Options become configuration text that follows the file's and the standard
//! input's, so the last setting counts.

use super::error::ConfigError;
use super::line;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Version,
    Help,
    Serve(ServeArgs),
}

/// The parts of the configuration named on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServeArgs {
    pub(super) file: Option<String>,
    pub(super) stdin: bool,
    /// One line per option.
    pub(super) options: String,
}

/// Takes a command line apart; `args[0]` is the program's name.
pub(super) fn parse(args: &[String]) -> Result<Request, ConfigError> {
    let args = args.get(1..).unwrap_or_default();
    let Some(first) = args.first() else {
        return Ok(Request::Serve(ServeArgs::default()));
    };
    match first.as_str() {
        "-v" | "--version" => return Ok(Request::Version),
        "-h" | "--help" => return Ok(Request::Help),
        "--test-memory" => {
            return Err(refused("--test-memory is not available: use a memory tester such as memtester"));
        }
        _ => {}
    }
    if args.iter().any(|arg| arg == "--sentinel") {
        return Err(refused("Sentinel mode is not built yet"));
    }
    Ok(Request::Serve(parse_serve(args)))
}

fn refused(text: &str) -> ConfigError {
    ConfigError::Usage(text.to_owned())
}

fn parse_serve(args: &[String]) -> ServeArgs {
    let mut serve = ServeArgs::default();
    let mut rest = args;
    if let Some((first, others)) = args.split_first()
        && !first.starts_with('-')
    {
        serve.file = Some(first.clone());
        rest = others;
    }
    // `-` counts as the first or the last argument only. It is the first one
    // only where no file is given, as measured.
    if serve.file.is_none()
        && let Some((first, others)) = rest.split_first()
        && first == "-"
    {
        serve.stdin = true;
        rest = others;
    }
    if let Some((last, others)) = rest.split_last()
        && last == "-"
    {
        serve.stdin = true;
        rest = others;
    }
    serve.options = options_text(rest);
    serve
}

/// Turns `--name value value --other value` into lines. The argument right
/// after an option is its value even if it starts with two dashes (but see
/// `--save`); later ones start a new option if they do.
fn options_text(args: &[String]) -> String {
    let mut text = String::new();
    let mut value_due = false;
    for (index, arg) in args.iter().enumerate() {
        if value_due || !arg.starts_with("--") {
            text.push_str(&line::quote(arg));
            text.push(' ');
            value_due = false;
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&arg[2..]);
        text.push(' ');
        // `"--port 7000"` in one argument brings its value along.
        let lone_name = line::split_words(arg.as_bytes()).is_none_or(|words| words.len() == 1);
        let next = args.get(index + 1);
        let valueless_save = arg.eq_ignore_ascii_case("--save") && next.is_none_or(|next| next.starts_with("--"));
        if valueless_save {
            text.push_str("\"\"");
        } else {
            value_due = lone_name;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> ServeArgs {
        let mut all = vec!["coreslot-server".to_owned()];
        all.extend(args.iter().map(|&a| a.to_owned()));
        match parse(&all).unwrap() {
            Request::Serve(serve) => serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_become_lines() {
        let cases: [(&[&str], &str); 8] = [
            (&["--port", "1"], "port \"1\" "),
            (&["--port"], "port "),
            (&["--bind", "a", "b", "--port", "1"], "bind \"a\" \"b\" \nport \"1\" "),
            (&["--save", "--port", "1"], "save \"\"\nport \"1\" "),
            (&["--port", "1", "--save"], "port \"1\" \nsave \"\""),
            (&["--timeout", "--save"], "timeout \"--save\" "),
            (&["--timeout 6", "--port", "1"], "timeout 6 \nport \"1\" "),
            (&["--save", ""], "save \"\" "),
        ];
        for (args, text) in cases {
            assert_eq!(serve(args).options, text, "{args:?}");
        }
    }

    #[test]
    fn files_and_standard_input() {
        let with_file = serve(&["a.conf", "--port", "1", "-"]);
        assert_eq!(with_file.file.as_deref(), Some("a.conf"));
        assert!(with_file.stdin);
        assert!(serve(&["-"]).stdin);
        let front = serve(&["-", "--port", "1"]);
        assert!(front.stdin);
        assert_eq!(front.options, "port \"1\" ");
        assert!(serve(&[]).file.is_none());
    }

    #[test]
    fn special_options() {
        let parse = |arg: &str| parse(&["x".to_owned(), arg.to_owned()]);
        assert_eq!(parse("-v").unwrap(), Request::Version);
        assert_eq!(parse("--help").unwrap(), Request::Help);
        for refused in ["--test-memory", "--sentinel"] {
            assert!(parse(refused).is_err());
        }
    }
}
