//! The help text.

use std::fmt::Write;

use super::directive::Directive;
use super::table;

/// Columns of the help text.
const WIDTH: usize = 78;

/// What `--help` prints: the command line and our own directives.
pub fn help_text(program: &str) -> String {
    let mut text = format!(
        "Usage: {program} [FILE] [-] [--directive value ...]\n\
         \n\
         {INDENT}FILE                    a configuration file in the format of redis.conf\n\
         {INDENT}-                       read configuration from standard input as well\n\
         {INDENT}--directive value ...   set a directive; later settings win\n\
         {INDENT}-v, --version           print the version and exit\n\
         {INDENT}-h, --help              print this text and exit\n\
         {INDENT}--check-system          look how this machine is set up and exit\n\
         \n\
         Examples:\n\
         {INDENT}{program} --port 7777 --cores 4\n\
         {INDENT}{program} /etc/coreslot/coreslot.conf --loglevel verbose\n\
         {INDENT}echo 'maxclients 200' | {program} -\n\
         \n\
         All directives of Redis 7 are known. Coreslot's own are:\n",
        INDENT = "  "
    );
    for directive in table::directives().filter(|d| !d.help.is_empty()) {
        describe(&mut text, directive);
    }
    text
}

fn describe(text: &mut String, directive: &Directive) {
    let default = directive.print(&super::Settings::default());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n  --{} (default {default})", directive.name);
    let mut column = 0;
    for word in directive.help.split_ascii_whitespace() {
        if column == 0 || column + word.len() + 1 > WIDTH {
            if column != 0 {
                text.push('\n');
            }
            text.push_str("     ");
            column = 5;
        }
        text.push(' ');
        text.push_str(word);
        column += word.len() + 1;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_directives_are_described_within_the_width() {
        let text = help_text("coreslot-server");
        for name in ["cores", "service-core", "core-spin-us", "pipeline-order"] {
            assert!(text.contains(&format!("--{name} (default ")), "{name}");
        }
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
